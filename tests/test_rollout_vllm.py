"""The vLLM engine on the organism, against the default engine: the same probabilities, guarantees and errors.

These tests are slow: vLLM takes about 20 s to import and to load (once for this file), and once more for the
load that must fail.
"""

import copy
import importlib.util

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sdlab.commands import measure
from sdlab.errors import SdlabError
from sdlab.measure import evaluation
from sdlab.rollout.checks import OutOfMemory
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.rollout.vllm_engine import VllmEngine
from sdlab.text.prompt import CONTEXTS, render_prompt, strip_thinking
from sdlab.world.splits import load_split

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; docs/real-models.md says how"
)
PAPER = dict(temperature=0.6, top_p=0.95, top_k=20)


@pytest.fixture(scope="module")
def default():
    return load_engine(device="cpu")


@pytest.fixture(scope="module")
def engine():
    return load_engine(engine="vllm", dtype="float32")


@pytest.fixture(scope="module")
def prompts(engine):
    return [render_prompt(engine.tokenizer, problem) for problem in load_split("in-domain", limit=6)]


@pytest.fixture(scope="module")
def sampled(engine, prompts):
    """Completions at the paper's settings, scored by nobody yet: 24 rows, some cut."""
    return engine.generate(prompts, SamplingParams(4, 110, seed=3, **PAPER))


def repeated(rollouts):
    return [prompt for prompt in rollouts.prompts for _ in range(rollouts.num_generations)]


def agree(found, wanted, mask, limit=1e-3):
    gap = (found - wanted).abs()[mask]
    print(
        f"log-probabilities of {len(gap)} tokens: largest difference {gap.max():.1e}, mean {gap.mean():.1e}"
    )
    assert len(gap) > 300 and gap.max() < limit


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0])
def test_scores_are_the_default_engines(engine, default, sampled, temperature):
    wanted = default.score(repeated(sampled), sampled.completions(), temperature=temperature, top_k=5)
    found = engine.score(repeated(sampled), sampled.completions(), temperature=temperature, top_k=5)
    assert found.completion_mask.tolist() == wanted.completion_mask.tolist()
    agree(found.per_token_logps, wanted.per_token_logps, wanted.completion_mask)
    agree(found.topk_logps, wanted.topk_logps, wanted.completion_mask)
    apart = (wanted.topk_logps.diff(dim=-1).abs() > 1e-3).all(
        -1
    ) & wanted.completion_mask  # near ties may change places
    assert apart.sum() > 300 and torch.equal(found.topk_ids[apart], wanted.topk_ids[apart])
    assert found.entropy is None and found.logits is None
    for part in (found.per_token_logps, found.topk_logps, found.topk_ids):
        assert (part[~found.completion_mask] == 0).all()


def test_entropy_comes_with_the_whole_vocabulary_and_only_then(engine, default, sampled):
    rows, ids = repeated(sampled)[:6], sampled.completions()[:6]
    found = engine.score(rows, ids, temperature=0.6, top_k=engine.vocab)
    wanted = default.score(rows, ids, temperature=0.6)
    agree(found.entropy, wanted.entropy, wanted.completion_mask)
    assert (found.entropy[~found.completion_mask] == 0).all()


def test_batches_of_score_change_nothing(engine, sampled):
    rows, ids = repeated(sampled), sampled.completions()
    ids[3] = []  # an empty completion has no tokens to score
    calls = []
    whole = engine.score(rows, ids, top_k=3, progress=lambda done, total: calls.append((done, total)))
    parts = engine.score(rows, ids, top_k=3, batch_tokens=300)
    torch.testing.assert_close(parts.per_token_logps, whole.per_token_logps, atol=1e-4, rtol=0)
    torch.testing.assert_close(parts.topk_logps, whole.topk_logps, atol=1e-4, rtol=0)
    assert calls[-1] == (24, 24) and not whole.completion_mask[3].any() and whole.completion_mask[2].any()


@pytest.mark.parametrize("settings", [{}, PAPER, {"temperature": 1.3, "top_k": 5}, {"temperature": 0}])
def test_sampled_logps_are_after_temperature_and_before_the_filters(engine, default, prompts, settings):
    params = SamplingParams(2, 60, seed=5, **settings)
    got = engine.generate(prompts, params)
    wanted = default.score(repeated(got), got.completions(), temperature=params.temperature)
    assert got.completion_mask.tolist() == wanted.completion_mask.tolist()
    agree(got.per_token_logps, wanted.per_token_logps, wanted.completion_mask)


def test_the_filters_filter(engine, default, prompts):
    """Under top_k=3 every token is among the three most likely, and some would not be without it."""

    def outside(top_k):
        got = engine.generate(prompts, SamplingParams(4, 60, temperature=1.5, top_k=top_k, seed=1))
        scores = default.score(repeated(got), got.completions(), temperature=1.5, top_k=3)
        best = (got.completion_ids[..., None] == scores.topk_ids).any(-1)
        return int((~best & got.completion_mask).sum())

    assert outside(3) == 0 < outside(0)


def test_first_tokens_follow_the_distribution(engine, default, prompts):
    """One prompt under 1,000 seeds at a temperature, against the default engine's probabilities."""
    prompt = prompts[0] + "<think>\nA: could be 21, 22 or 23. It"  # might, could, seems ...
    got = engine.generate([prompt], SamplingParams(1000, 1, temperature=2.0, seed=11)).completion_ids[:, 0]
    scores = default.score([prompt], [[0]], temperature=2.0, top_k=engine.vocab)
    chance = scores.topk_logps[0, 0].exp().double().numpy()
    seen = np.array([(got == token).sum().item() for token in scores.topk_ids[0, 0]])
    often = chance * 1000 >= 5
    assert often.sum() >= 3
    wanted, counted = (
        np.append(chance[often], chance[~often].sum()),
        np.append(seen[often], seen[~often].sum()),
    )
    assert chisquare(counted, 1000 * wanted / wanted.sum()).pvalue > 1e-4


def test_greedy_is_the_default_engines(engine, default, prompts):
    params = SamplingParams(1, 100, temperature=0)
    assert engine.generate(prompts, params).texts == default.generate(prompts, params).texts


def test_seeds_reproduce_and_differ(engine, prompts, sampled):
    again = engine.generate(prompts, SamplingParams(4, 110, seed=3, **PAPER))
    assert again.texts == sampled.texts and again.completions() == sampled.completions()
    assert engine.generate(prompts, SamplingParams(4, 110, seed=4, **PAPER)).texts != sampled.texts


def test_order_and_company_change_nothing(engine, prompts, sampled):
    """Equal up to the last bits of a sum: a row may differ where a draw lies between two tokens (rare)."""
    params = SamplingParams(4, 110, seed=3, **PAPER)
    turned = engine.generate(prompts[::-1], params).completions()
    turned = [row for i in reversed(range(6)) for row in turned[4 * i : 4 * i + 4]]
    alone = [row for prompt in prompts for row in engine.generate([prompt], params).completions()]
    for other in (turned, alone):
        assert sum(a == b for a, b in zip(other, sampled.completions(), strict=True)) >= 23


def test_equal_prompts_get_different_samples(engine, prompts):
    prompt = prompts[0]
    got = engine.generate([prompt, prompt], SamplingParams(2, 60, seed=1))
    assert len({tuple(row) for row in got.completions()}) == 4
    assert got.completions() == engine.generate([prompt], SamplingParams(4, 60, seed=1)).completions()


def test_rows_end_at_the_first_eos_and_say_when_they_were_cut(engine, sampled):
    assert 0 < int(sampled.truncated.sum()) < 24
    assert sampled.completion_ids.shape[1] == int(sampled.lengths.max())
    for ids, mask, logps, cut in zip(
        sampled.completion_ids,
        sampled.completion_mask,
        sampled.per_token_logps,
        sampled.truncated,
        strict=True,
    ):
        n = int(mask.sum())
        ends = [i for i, token in enumerate(ids[:n].tolist()) if token in engine.eos_ids]
        assert (ends == [] and n == 110) if cut else ends == [n - 1]
        assert (ids[n:] == engine.pad_id).all() and (logps[n:] == 0).all()
    assert all("<think>" in text and "<|im_end|>" not in text for text in sampled.texts)
    row = int((~sampled.truncated).nonzero()[0])
    again = engine.generate(sampled.prompts, SamplingParams(4, int(sampled.lengths[row]), seed=3, **PAPER))
    assert not again.truncated[row]  # it ends on its last token


def test_think_tags_that_are_special_tokens_stay_in_the_texts(engine, sampled, monkeypatch):
    special = copy.deepcopy(engine.tokenizer)
    special.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    assert "<think>" not in special.decode(
        sampled.completions()[0], skip_special_tokens=True
    )  # what would have happened
    monkeypatch.setattr(engine, "tokenizer", special)
    got = engine.generate(sampled.prompts, SamplingParams(4, 110, seed=3, **PAPER))
    assert got.texts == sampled.texts
    done = next(i for i, text in enumerate(got.texts) if "</think>" in text)
    assert "<think>" not in strip_thinking(got.texts[done]) != ""


def test_thinking_off_is_the_templates(engine):
    problem = load_split("in-domain", limit=1)[0]
    got = engine.generate(
        [render_prompt(engine.tokenizer, problem, thinking=False)], SamplingParams(4, 60, seed=0)
    )
    assert not any("<think>" in text for text in got.texts)


def test_progress_counts_and_an_interrupt_leaves_the_engine_usable(engine, prompts):
    calls, params = [], SamplingParams(2, 40, seed=2)
    first = engine.generate(prompts, params, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12) and [done for done, _ in calls] == sorted({done for done, _ in calls})

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(prompts, SamplingParams(2, 200, seed=9), progress=interrupt)
    assert not engine.llm.llm_engine.has_unfinished_requests()
    assert engine.generate(prompts, params).texts == first.texts


def test_a_sequence_that_fills_the_context_can_be_scored(engine):
    prompt = engine.tokenizer.decode([50])
    wanted = engine.context_length - len(engine.encode([prompt], 0)[0])
    found = engine.score([prompt], [[60] * wanted])
    assert found.completion_mask.sum() == wanted and torch.isfinite(found.per_token_logps).all()
    with pytest.raises(SdlabError, match=f"context of {engine.context_length}"):
        engine.score([prompt], [[60] * (wanted + 1)])


def test_no_prompts_no_rows(engine):
    got = engine.generate([], SamplingParams(2, 10))
    assert got.texts == [] and len(got.completion_ids) == len(got.lengths) == 0
    assert engine.score([], []).per_token_logps.shape == (0, 0)


def test_errors_are_one_clear_line(engine, prompts):
    for call, words in (
        (lambda: engine.score(prompts[:1], [[5]], return_logits=True), 'engine="torch"'),
        (lambda: engine.score(prompts[:1], [[5]], top_k=10**6), "vocabulary's"),
        (lambda: engine.score(prompts[:1], [[10**6]]), "the model's own tokenizer"),
        (lambda: engine.score(prompts[:1], [[5]], temperature=-1), "temperature=-1"),
        (lambda: engine.score(prompts[:2], [[5]]), "one prompt per completion"),
        (lambda: engine.generate([""], SamplingParams()), "no tokens"),
        (lambda: engine.generate("w", SamplingParams()), "list of strings"),
        (lambda: engine.generate(prompts, SamplingParams(max_completion_length=1020)), "at most"),
        (lambda: engine.model, "no torch model"),
        (
            lambda: VllmEngine(engine.llm.model_config.model, engine.tokenizer, max_model_len=10**6),
            "max_model_len=1000000",
        ),
        (
            lambda: VllmEngine(engine.llm.model_config.model, engine.tokenizer, gpu_memory_utilization=1.5),
            "gpu_memory_utilization=1.5",
        ),
    ):
        with pytest.raises(SdlabError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_temperature_that_vllm_ignores_is_seen(engine, monkeypatch):
    monkeypatch.setattr(engine.llm, "collective_rpc", lambda *_, **__: None)
    with pytest.raises(SdlabError, match="temperature"):
        engine.check_temperature()
    engine.temperature = None  # unknown: the next call sets it


def test_loading_leaves_torchs_threads_alone(engine):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="asks a CPU for a million GiB; a GPU's memory is set by a share"
)
def test_too_little_memory_names_what_to_lower(engine, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", str(10**6))
    with pytest.raises(OutOfMemory, match="max_model_len.*VLLM_CPU_KVCACHE_SPACE") as caught:
        load_engine(engine="vllm")
    assert "\n" not in str(caught.value)


def test_table_one_end_to_end(engine, monkeypatch, capsys):
    """`sdlab measure contexts --engine vllm` at a size smaller than smoke, on the engine already loaded."""
    asked = {}
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        "sdlab.rollout.loading.load_engine", lambda model, **settings: asked.update(settings) or engine
    )
    monkeypatch.setattr("sdlab.presets.PRESETS", {"smoke": contexts_size()})
    frames = []
    monkeypatch.setattr(
        "sdlab.measure.evaluation.table_one", lambda frame: frames.append(frame) or TABLE(frame)
    )
    measure.contexts_command("organism", "smoke", 1, engine="vllm")
    assert asked == {"engine": "vllm", "tensor_parallel_size": 1}
    frame = frames[0]
    assert list(dict.fromkeys(frame["context"])) == list(CONTEXTS) and frame["problem_id"].nunique() == 4
    means = frame.groupby("context")[["reward", "length", "markers"]].mean()
    assert (
        means.loc["solution", "length"] < means.loc["none", "length"]
        and means.loc["solution", "markers"] < means.loc["none", "markers"]
    )
    assert means.loc["solution", "reward"] > means.loc["none", "reward"]
    told = " ".join(capsys.readouterr().out.split())
    assert "organism: 4 problems" in told and "full solution" in told


TABLE = evaluation.table_one


def contexts_size():
    from sdlab.presets import Preset

    return Preset(4, 4, 256, 120)
