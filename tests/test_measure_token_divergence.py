"""Token divergence against plain forward passes and scipy, the loss it must equal, and the markers' share by
hand.
"""

import numpy as np
import pandas
import pytest
import rollout_models as tiny
import torch
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sdlab.errors import SdlabError
from sdlab.measure import token_divergence as module
from sdlab.measure.token_divergence import heat_ratio, token_divergence
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.train.losses import sdpo_loss

STUDENT, TEACHER = ["w5 w6 w7", "w5 w6 w7", "w9"], ["w5 w6 w7 w8 w20", "w30", "w9"]
COMPLETIONS = [[10, 11, 12, 13, 1], [40, 1], [7, 8, 1]]


@pytest.fixture(scope="module")
def engine():
    return TorchEngine(tiny.qwen3(layers=2), tiny.word_tokenizer())


def distributions(engine, prompt, completion):
    """Next-token probabilities (T, V) from one plain forward pass in double precision."""
    ids = engine.tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        logits = engine.model(torch.tensor([ids + completion])).logits[0, len(ids) - 1 : -1]
    return logits.double().softmax(-1).numpy()


@pytest.mark.parametrize("room", [1, 10**9])
def test_every_column_against_plain_forward_passes(engine, room, monkeypatch):
    monkeypatch.setattr(module, "ROOM", room)  # one completion at a time, or all together
    told = []
    found = token_divergence(
        engine,
        STUDENT,
        TEACHER,
        COMPLETIONS,
        names=["a", "a", "b"],
        top_k=None,
        progress=lambda *done: told.append(done),
    )
    assert found["name"].tolist() == ["a"] * 7 + ["b"] * 3 and found["position"].tolist() == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
        0,
        1,
        2,
    ]
    assert told[-1] == (3, 3) and len(told) == (3 if room == 1 else 1)
    for row, (completion, asked, informed) in enumerate(zip(COMPLETIONS, STUDENT, TEACHER, strict=True)):
        p, q, mine = (
            distributions(engine, asked, completion),
            distributions(engine, informed, completion),
            found[found["row"] == row],
        )
        at = np.arange(len(completion))
        assert np.allclose(mine["student"], np.log(p[at, completion]), atol=1e-4)
        assert np.allclose(mine["teacher"], np.log(q[at, completion]), atol=1e-4)
        assert np.allclose(mine["u"], mine["teacher"] - mine["student"])
        assert np.allclose(mine["divergence"], jensenshannon(p, q, axis=1) ** 2, atol=1e-5)
        assert np.allclose(mine["entropy"], entropy(p, axis=1), atol=1e-4)
        assert mine["token"].tolist() == [engine.tokenizer.decode([token]) for token in completion]
    assert (found.loc[found["row"] < 2, "divergence"] > 1e-4).all()
    assert (
        found.loc[found["row"] == 2, "divergence"].abs() < 1e-9
    ).all()  # the same prompt: nothing to object to


def test_temperature_and_the_ends_of_alpha(engine):
    for alpha, order in ((0.0, 1), (1.0, -1)):
        found = token_divergence(
            engine, STUDENT[:1], TEACHER[:1], COMPLETIONS[:1], alpha=alpha, top_k=None, temperature=1.7
        )
        p, q = (
            d ** (1 / 1.7)
            for d in (distributions(engine, prompt[0], COMPLETIONS[0]) for prompt in (STUDENT, TEACHER))
        )
        assert np.allclose(
            found["divergence"], entropy(*(q, p)[::order], axis=1), atol=1e-4
        )  # scipy normalises


@pytest.mark.parametrize("k, tail", [(3, True), (3, False), (100, True), (tiny.VOCAB, True)])
def test_its_mean_is_the_loss_of_training(engine, k, tail):
    found = token_divergence(engine, STUDENT, TEACHER, COMPLETIONS, top_k=k, tail=tail)
    width = max(map(len, COMPLETIONS))
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in COMPLETIONS])
    padded = torch.zeros(2, len(COMPLETIONS), width, tiny.VOCAB, dtype=torch.float64)
    for side, prompts in enumerate((STUDENT, TEACHER)):
        for row, (prompt, completion) in enumerate(zip(prompts, COMPLETIONS, strict=True)):
            padded[side, row, : len(completion)] = torch.from_numpy(
                distributions(engine, prompt, completion)
            ).log()
    loss = sdpo_loss(
        *padded,
        mask,
        torch.ones(len(COMPLETIONS), dtype=torch.bool),
        top_k=None if k == tiny.VOCAB else k,
        tail=tail,
    )
    assert found["divergence"].mean() == pytest.approx(loss.item(), abs=1e-5)


def test_another_teacher(engine):
    other = TorchEngine(tiny.qwen3(seed=1, layers=2), engine.tokenizer)
    found = token_divergence(engine, STUDENT[:1], STUDENT[:1], COMPLETIONS[:1], teacher=other, top_k=None)
    p, q = distributions(engine, STUDENT[0], COMPLETIONS[0]), distributions(other, STUDENT[0], COMPLETIONS[0])
    assert np.allclose(found["divergence"], jensenshannon(p, q, axis=1) ** 2, atol=1e-5)


def test_a_marker_may_be_cut_into_tokens():
    pieces = ["<unk>", "May", "be", " ", "A", "check", "ing", ".", "wait", "<eos>"]
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("May|be|check|ing|wait|."), "isolated")
    inner.decoder = None
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>")
    engine = TorchEngine(tiny.qwen3(layers=1, vocab=len(pieces)), tokenizer)
    ids = [
        pieces.index(piece)
        for piece in ("May", "be", " ", "A", ".", " ", "check", "ing", ".", " ", "wait", "<eos>")
    ]
    found = token_divergence(engine, ["A"], ["A."], [ids])
    assert "".join(found["token"]).startswith("Maybe A. checking. wait")
    assert found["marker"].tolist()[:11] == [
        "maybe",
        "maybe",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "wait",
    ]  # "checking" is no whole word


def test_heat_ratio_by_hand():
    tokens = pandas.DataFrame({
        "name": list("aaaabbbb"), "marker": ["wait", "", "", "", "maybe", "maybe", "", ""],
        "u": [-4.0, 1, -1, 1, -2, 0, 1, 0], "divergence": [0.8, 0.1, 0.2, 0.0, 0.4, 0.3, 0.1, 0.1],
    })  # fmt: skip
    found = heat_ratio(tokens)
    assert found.mean == pytest.approx((1.5 / 3) / (0.5 / 5))
    # what each name adds to the logarithm: (0.8 / 1.5 - 1 / 3) - (0.3 / 0.5 - 3 / 5) = 0.2, and -0.2;
    # the standard error is (2 * (0.04 + 0.04) / 1) ** 0.5, with one degree of freedom
    half = stats.t.ppf(0.975, 1) * 0.16**0.5
    assert np.log([found.low, found.high]) == pytest.approx([np.log(5) - half, np.log(5) + half])
    assert heat_ratio(tokens, "u").mean == pytest.approx((6 / 3) / (4 / 5))
    one = heat_ratio(tokens[tokens["name"] == "a"])
    assert one.mean == pytest.approx(8) and np.isnan(one.low)


def test_heat_ratio_covers_the_truth():
    """Problems with their own level of heat and a true ratio of 3: about 95% of intervals hold it."""
    hits, rng = 0, np.random.default_rng(0)
    for _ in range(60):
        names = np.repeat(np.arange(40), 20)
        marker = np.where(rng.random(800) < 0.2, "wait", "")
        heat = (
            np.repeat(rng.gamma(4, 0.25, 40), 20) * rng.exponential(1, 800) * np.where(marker == "wait", 3, 1)
        )
        found = heat_ratio(pandas.DataFrame({"name": names, "marker": marker, "divergence": heat}))
        hits += found.low <= 3 <= found.high
    assert 51 <= hits <= 60


def test_bad_input_is_told(engine):
    for arguments, told in [
        ((STUDENT[:1], TEACHER, COMPLETIONS), "3 completions but 1 prompts"),
        ((STUDENT, TEACHER, [[3], [], [4]]), "completion 1 has no tokens"),
        (([], [], []), "at least one"),
    ]:
        with pytest.raises(SdlabError, match=told):
            token_divergence(engine, *arguments)
    with pytest.raises(SdlabError, match="temperature=0"):
        token_divergence(engine, STUDENT, TEACHER, COMPLETIONS, temperature=0)
    with pytest.raises(SdlabError, match="names"):
        token_divergence(engine, STUDENT, TEACHER, COMPLETIONS, names=["a"])
    with pytest.raises(SdlabError, match="0 of 2 tokens are markers"):
        heat_ratio(pandas.DataFrame({"name": [1, 1], "marker": ["", ""], "divergence": [1.0, 2.0]}))
