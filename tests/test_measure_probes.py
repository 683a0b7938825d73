"""Probes: a known direction in synthetic activations, scikit-learn's areas, the organism's exact beliefs."""

import math
import warnings

import numpy as np
import pandas
import pytest
import torch
from rollout_models import gpt2, llama, prompts, qwen3, word_tokenizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from torch import nn

from sdlab.errors import SdlabError
from sdlab.measure.doubt import proposals
from sdlab.measure.logit_change import logit_change, marker_tokens, word_probability
from sdlab.measure.places import Places, begins_marker, belief_places, forced_traces, read_belief, word_places
from sdlab.measure.probe_fits import auroc_parts, predictions
from sdlab.measure.probes import probe, probe_table
from sdlab.measure.residuals import blocks, residuals
from sdlab.rollout.loading import load_engine
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.text.markers import MARKERS, total_markers
from sdlab.world.evidence import NOTHING
from sdlab.world.knobs import Knobs
from sdlab.world.reasoner import believe, program
from sdlab.world.splits import load_split


def synthetic(problems=40, each=6, width=8, noise=0.3, seed=0, mean=0.0):
    """Residuals with the target along the first axis, and places that only the probe needs."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"p{i}" for i in range(problems)], each)
    y = np.random.default_rng(1).normal(size=len(groups))
    x = rng.normal(size=(len(groups), width)) * noise + mean
    x[:, 0] += y
    frame = pandas.DataFrame({
        "row": 0, "problem_id": groups, "position": rng.integers(0, 50, len(groups)), "prompt_tokens": 7,
        "entropy": y, "right": (y > 0).astype(float),
    })  # fmt: skip
    return {1: x}, Places([], [], frame)


def scores(states, places, targets, **options):
    return {(s.target, s.control): s for s in probe(states, places, targets, **options)}


def test_a_known_direction_is_read_and_the_controls_are_not():
    states, places = synthetic()
    result = scores(states, places, ["entropy", "right"])
    assert result["entropy", "none"].value == pytest.approx(
        1 / (1 + 0.3**2), abs=0.05
    )  # the share of the signal
    assert result["right", "none"].value > 0.95
    for control in ("shuffled labels", "position"):
        assert result["entropy", control].value < 0.1
        assert abs(result["right", control].value - 0.5) < 0.12
    assert result["entropy", "none"].rows == 240 and result["entropy", "none"].dimensions == 8


def test_values_are_those_of_scikit_learn_on_predictions_for_other_problems():
    states, places = synthetic(noise=1.0)
    y, groups = places.frame["entropy"].to_numpy(), places.groups
    predicted = predictions(states[1], y, groups)
    result = scores(states, places, ["entropy", "right"])
    assert result["entropy", "none"].value == pytest.approx(r2_score(y, predicted))
    label = places.frame["right"].to_numpy()
    assert result["right", "none"].value == pytest.approx(
        roc_auc_score(label, predictions(states[1], label, groups))
    )
    # a problem's rows do not change its own predictions
    changed = y.copy()
    changed[groups == "p3"] += 100
    again = predictions(states[1], changed, groups)
    assert again[groups == "p3"] == pytest.approx(predicted[groups == "p3"])
    assert not np.allclose(again[groups != "p3"], predicted[groups != "p3"])


def test_a_logistic_probe_is_that_of_scikit_learn_on_standardised_rows():
    states, places = synthetic(noise=1.0, mean=5.0)
    label, x = places.frame["right"].to_numpy(), states[1]
    test = np.random.default_rng(3).normal(size=(50, 8)) + 5
    model = LogisticRegression(C=0.1, max_iter=1000).fit((x - x.mean(0)) / x.std(0), label)
    expected = model.decision_function((test - x.mean(0)) / x.std(0)) - model.intercept_
    assert predictions(x, label, places.groups, test_x=test) == pytest.approx(expected)


def test_a_probe_that_knows_nothing_has_an_area_of_one_half():
    _, places = synthetic()
    assert scores({1: np.zeros((240, 8))}, places, ["right"], controls=())["right", "none"].value == 0.5


def test_areas_and_their_parts():
    rng = np.random.default_rng(0)
    values, positive = rng.integers(0, 20, 300).astype(float), rng.random(300) < 0.3
    area, parts = auroc_parts(values, positive)
    assert area == pytest.approx(roc_auc_score(positive, values)) and parts.sum() == pytest.approx(0)
    draws = [rng.integers(0, 300, 300) for _ in range(300)]
    spread = np.std([roc_auc_score(positive[d], values[d]) for d in draws])
    assert math.sqrt((parts**2).sum()) == pytest.approx(
        spread, rel=0.12
    )  # DeLong's error against a bootstrap


def test_transfer_needs_the_same_subspace_and_ignores_a_shift():
    base, places = synthetic()
    shifted, _ = synthetic(seed=5, mean=30.0)
    assert scores(base, places, ["entropy"], apply=shifted)["entropy", "none"].value > 0.85
    turned = {1: np.roll(shifted[1], 1, axis=1)}
    assert scores(base, places, ["entropy"], apply=turned)["entropy", "none"].value < 0.2
    assert (
        scores(turned, places, ["entropy"])["entropy", "none"].value > 0.85
    )  # still there, along another axis


def test_other_problems_are_judged_by_a_probe_of_all():
    states, places = synthetic()
    fresh, other = synthetic(problems=15, seed=9)
    result = scores(states, places, ["entropy"], test=(fresh, other))["entropy", "none"]
    predicted = predictions(states[1], places.frame["entropy"], places.groups, test_x=fresh[1])
    assert result.value == pytest.approx(r2_score(other.frame["entropy"], predicted)) and result.rows == 90


def test_intervals_cover_problems_and_seeds():
    runs = []
    for seed in range(4):
        states, places = synthetic(noise=0.5 + seed / 4, seed=seed)
        runs.append(probe(states, places, ["entropy", "right"], controls=()))
    table = probe_table(*runs, names={"model": "toy"}).set_index("target")
    row = table.loc["entropy"]
    values = [run[0].value for run in runs]
    assert row["mean"] == pytest.approx(np.mean(values)) and row["seeds"] == 4 and row["problems"] == 40
    assert row["low"] < min(values) + 0.2 and row["low"] < row["mean"] < row["high"]
    one = probe_table(runs[0]).set_index("target").loc["entropy"]
    assert one["high"] - one["low"] < row["high"] - row["low"]  # the seeds differ more than problems
    # four equal seeds say no more about other problems than one
    same = probe_table(*[runs[0]] * 4).set_index("target").loc["entropy"]
    assert same[["mean", "low", "high"]].tolist() == pytest.approx(one[["mean", "low", "high"]].tolist())


def test_bad_input_of_probes():
    states, places = synthetic()
    for options, message in (
        ({"targets": ["mood"]}, "unknown target 'mood'"),
        ({"targets": ["prompt_tokens"]}, "too few different values"),
        ({"targets": ["entropy"], "folds": 50}, "40 problems cannot be divided into 50 folds"),
        ({"targets": ["entropy"], "controls": ("magic",)}, "unknown controls"),
        ({"targets": ["entropy"], "apply": {1: np.zeros((240, 9))}}, "shape .240, 9."),
        ({"targets": ["entropy"], "apply": {2: np.zeros((240, 8))}}, "layer 1 is missing"),
    ):
        with pytest.raises(SdlabError, match=message):
            probe(states, places, **options)
    wide, few = synthetic(problems=6, each=2, width=30)
    with pytest.warns(UserWarning, match="12 rows and 30 dimensions"):
        probe(wide, few, ["entropy"], controls=())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe(states, places, ["entropy"], controls=())
    with pytest.raises(SdlabError, match="0 lists of probe scores"):
        probe_table()


@pytest.fixture(scope="module")
def organism():
    return load_engine("organism")


def test_places_hold_the_reasoners_exact_belief(organism):
    problems = load_split("in-domain", limit=12)
    knobs = Knobs(intuition=0.3)
    texts = forced_traces(problems, seed=3, knobs=knobs)
    places = belief_places(organism.tokenizer, problems, texts, knobs=knobs)
    table = proposals(texts, problems, knobs=knobs)
    frame = places.frame
    assert frame["entropy"].tolist() == table["entropy"].tolist()
    assert frame["hedged"].tolist() == table["hedged"].tolist()
    assert (frame["candidates"] >= 1).all() and 0 < frame["right"].mean() < 1
    for place in frame.itertuples():
        before = organism.tokenizer.decode(places.completion_ids[place.row][: place.position])
        after = organism.tokenizer.decode(places.completion_ids[place.row][place.position :])
        assert texts[place.row] == before + after
        words = after.split(".")[0]
        assert bool(total_markers(words)) == bool(place.hedged)
        value = words.split()[-1]
        assert frame.loc[place.Index, f"refuted {value}"] == 0  # nothing refuted is proposed
        slot = problems[place.row].slots[place.slot]
        assert (value == slot.candidates[slot.truth]) == bool(place.right)
        refuted = [v for v in slot.candidates if frame.loc[place.Index, f"refuted {v}"] == 1]
        assert len(slot.candidates) - len(refuted) == place.candidates


def test_a_belief_is_read_back_from_a_step():
    problem = load_split("in-domain", limit=1)[0]
    run = program(problem, NOTHING)
    choice = next(run)
    while choice.role != "propose":
        choice = run.send(0)
    slot, belief = read_belief(choice, problem)
    assert slot == 0 and belief == pytest.approx(believe(problem.slots[0]))
    with pytest.raises(SdlabError, match="is no proposal about"):
        read_belief(choice, load_split("kata", limit=1)[0])


@pytest.mark.parametrize("make", [qwen3, llama, gpt2])
def test_residuals_are_those_of_the_model(make):
    model, tokenizer = make(), word_tokenizer()
    engine = TorchEngine(model, tokenizer)
    texts = prompts(4, seed=1)
    ids = [[5, 6, 7, 8], [9, 10], [11, 12, 13], [14]]
    rows = [(0, 0), (0, 3), (1, 2), (2, 1), (3, 0), (0, 1)]
    frame = pandas.DataFrame(rows, columns=["row", "position"]).assign(problem_id="x", prompt_tokens=1)
    states = residuals(engine, Places(texts, ids, frame), batch_tokens=60)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    depth = model.config.num_hidden_layers
    assert sorted(states) == list(range(depth + 1))
    for place, (row, position) in enumerate(rows):
        whole = torch.tensor([engine.encode(texts, 8)[row] + ids[row][:position]])
        with torch.no_grad():
            states_of = model(whole, output_hidden_states=True).hidden_states
        for layer in range(depth):  # transformers returns the last one after the norm
            assert states[layer][place] == pytest.approx(states_of[layer][0, -1].numpy(), abs=2e-4, rel=2e-4)
    with pytest.raises(SdlabError, match="layer 9 is not in this model"):
        residuals(engine, Places(texts, ids, frame), [9])


def test_a_model_without_a_list_of_blocks_is_refused():
    model = qwen3()
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(SdlabError, match="no list of its 4 blocks"):
        blocks(model)


def test_targets_that_need_no_reasoner(organism):
    problems = load_split("in-domain", limit=3)
    texts = forced_traces(problems)
    exact = belief_places(organism.tokenizer, problems, texts)
    places = word_places(organism, exact.prompts, exact.completion_ids, [p.id for p in problems], limit=None)
    scored = organism.score(exact.prompts, exact.completion_ids)
    for row, part in places.frame.groupby("row"):
        assert part["next_entropy"].to_numpy() == pytest.approx(scored.entropy[row, : len(part)].numpy())
        assert part["marker_follows"].sum() == total_markers(texts[row])
    few = word_places(organism, exact.prompts, exact.completion_ids, [p.id for p in problems], limit=5)
    assert len(few.frame) == 15 and few.frame.groupby("row")["position"].is_monotonic_increasing.all()
    with pytest.raises(SdlabError, match="all completions are empty"):
        word_places(organism, exact.prompts[:1], [[]], ["a"])


def test_a_marker_of_several_tokens_begins_once():
    class Letters:
        def decode(self, ids):
            return "".join(map(chr, ids))

    text = "So wait, unlikely? Likely."
    assert np.flatnonzero(begins_marker(Letters(), [ord(c) for c in text])).tolist() == [3, 19]


def moved_copy(model, seed=0):
    import copy

    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return other


def test_the_parts_of_a_logits_change_add_up(organism):
    problems = load_split("in-domain", limit=4)
    places = belief_places(organism.tokenizer, problems, forced_traces(problems))
    after = TorchEngine(moved_copy(organism.model), organism.tokenizer)
    table = logit_change(organism, after, places)
    assert np.abs(table["change"] - table["unembedding"] - table["residual"]).max() < 1e-9
    # the change is that of the engines' own logits, less the mean over the vocabulary
    ids = marker_tokens(organism.tokenizer)["maybe"]
    expected = []
    for place in places.frame.itertuples():
        logits = [
            one.score(
                [places.prompts[place.row]], [places.completion_ids[place.row]], return_logits=True
            ).logits
            for one in (organism, after)
        ]
        centred = [(x[0, place.position] - x[0, place.position].mean())[ids].mean().item() for x in logits]
        expected.append(centred[1] - centred[0])
    assert table.loc[table["marker"] == "maybe", "change"].to_numpy() == pytest.approx(expected, abs=1e-3)


def test_the_probability_of_a_word_is_that_of_the_engine(organism):
    problems = load_split("in-domain", limit=4)
    places = belief_places(organism.tokenizer, problems, forced_traces(problems))
    scored = organism.score(places.prompts, places.completion_ids, return_logits=True).logits.softmax(-1)
    ids = marker_tokens(organism.tokenizer, ["maybe", "perhaps"])
    at = scored[places.frame["row"].tolist(), places.frame["position"].tolist()]
    expected = at[:, ids["maybe"] + ids["perhaps"]].sum(-1).numpy()
    measured = word_probability(organism, places, ["maybe", "perhaps"])
    assert measured == pytest.approx(expected, abs=1e-4) and measured.max() > 0.1
    hedged = word_probability(organism, places, ["maybe", "perhaps", "it", "alternatively", "actually"])
    plain = word_probability(organism, places, ["try", "so"])
    # the rest is for steps that the text has skipped just before: a list of candidates, or "Hmm."
    assert np.median(hedged + plain) > 0.95 and (hedged + plain).max() < 1 + 1e-6
    with pytest.raises(SdlabError, match="none of the words"):
        word_probability(organism, places, ["xyzzy"])


def test_only_the_part_that_changed_is_not_zero(organism):
    import copy

    problems = load_split("in-domain", limit=3)
    places = belief_places(organism.tokenizer, problems, forced_traces(problems))
    head = copy.deepcopy(organism.model)
    head.lm_head = nn.Linear(128, 704, bias=False)
    with torch.no_grad():
        head.lm_head.weight.copy_(organism.model.lm_head.weight + 0.01 * torch.randn(704, 128))
    table = logit_change(organism, TorchEngine(head, organism.tokenizer), places)
    assert (table["residual"] == 0).all() and table["unembedding"].abs().mean() > 1e-3
    same = logit_change(organism, organism, places)
    assert not same[["change", "unembedding", "residual"]].to_numpy().any()
    assert set(same["marker"]) | set(same.attrs["left_out"]) == set(MARKERS)
    with pytest.raises(SdlabError, match="unembeddings have the shapes"):
        logit_change(organism, TorchEngine(qwen3(), word_tokenizer()), places)
    with pytest.raises(SdlabError, match="none of the words"):
        logit_change(organism, organism, places, ["xyzzy"])
