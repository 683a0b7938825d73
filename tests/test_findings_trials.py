"""Short trainings compared, seeds that would settle a statement, nudges: by hand, and without a model."""

import pandas
import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.findings import before_after, objections, seeds_needed, sft_traces, trials
from sdlab.measure import nudges
from sdlab.measure.evaluation import evaluate
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.train.batch import Batch
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.teacher import TeacherView
from sdlab.world.splits import load_split


def evaluation(engine, tests, params):
    """Every problem of a test, answered as the engine (a number) says."""
    rows = [
        {"problem_id": f"p{i}", "split": name, "reward": float(engine > i), "markers": engine, "length": 9}
        for name, problems in tests.items()
        for i in range(len(problems))
    ]
    return pandas.DataFrame(rows)


@pytest.fixture
def compared(monkeypatch):
    monkeypatch.setattr(trials, "load_engine", lambda model: 2)
    monkeypatch.setattr(
        trials, "evaluate_tests", lambda engine, tests, params: evaluation(engine, tests, params)
    )
    return trials.Trials("m", {"in-domain": list(range(8))}, SamplingParams())


def test_a_trial_is_compared_with_the_untrained_model_problem_by_problem(compared):
    compared.train("longer", lambda engine, problems, steps: pandas.DataFrame({"step": range(steps)}), [], 3)
    compared.add("better", 6)
    assert len(compared.logs["longer"]) == 3
    change = compared.change("better")  # six of eight right instead of two
    assert (change.a, change.b, change.difference.mean) == (0.25, 0.75, 0.5)
    (line,) = compared.sentences(("markers",), against="longer")
    changes = compared.changes("better")
    assert changes["in-domain", "reward"].difference == change.difference
    assert changes["in-domain", "markers"].difference.mean == 4
    assert "better minus longer +4" in line and line.startswith("in-domain, ")
    with pytest.raises(SdlabError, match="already"):
        compared.train("longer", lambda *_: None, [])
    with pytest.raises(SdlabError, match="trial"):
        compared.rows("worse", "in-domain")


def test_tests_that_are_sampled_together_have_the_rows_of_each_alone():
    engine, params = load_engine("organism-small"), SamplingParams(2, 48, seed=3)
    tests = {name: load_split(name, limit=3) for name in ("in-domain", "deeper")} | {
        "again": load_split("deeper", limit=2)[1:]
    }
    rows = before_after.evaluate_tests(engine, tests, params)
    assert rows["split"].tolist() == ["in-domain"] * 6 + ["deeper"] * 6 + ["again"] * 2
    for name in ("in-domain", "deeper"):
        alone = evaluate(engine, tests[name], params)
        mine = rows[rows["split"] == name].reset_index(drop=True)
        pandas.testing.assert_frame_equal(mine, alone)
    assert rows[rows["split"] == "again"]["problem_id"].unique().tolist() == [tests["deeper"][1].id]
    with pytest.raises(SdlabError, match="'empty' has no problems"):
        before_after.evaluate_tests(engine, tests | {"empty": []}, params)


def test_short_settings_grow_with_the_preset_and_take_changes():
    one, two = (trials.short(SDPOConfig, preset, context="feedback") for preset in ("smoke", "full"))
    assert one.steps < two.steps and one.context == two.context == "feedback"
    with pytest.raises(SdlabError, match="preset"):
        trials.short(SDPOConfig, "huge")


def test_seeds_shrink_an_interval_with_their_root():
    assert (
        seeds_needed.seeds_needed(half_width=0.2, distance=0.1, seeds=5) == 20
    )  # half the width, four times
    assert seeds_needed.seeds_needed(0.1, 0.2, 5) == 5
    assert seeds_needed.seeds_needed(0.1, 0.0, 5) is None


class Words:
    """A tokenizer of whole words."""

    words = ("maybe", "Wait", "so", "waiting", " check")

    def __len__(self) -> int:
        return len(self.words)

    def decode(self, ids):
        return self.words[ids[0]]


def test_marker_tokens_and_hottest_tokens():
    assert objections.marker_tokens(Words()).tolist() == [True, True, False, False, True]
    tokens = pandas.DataFrame(
        {"token": ["a"] * 3 + ["b"] * 3 + ["c"], "divergence": [0.1] * 3 + [0.3] * 3 + [9], "u": [0.0] * 7}
    )
    table = objections.hottest_tokens(tokens, least=3)
    assert table["token"].tolist() == ["b", "a"] and table.iloc[0, 1] == pytest.approx(300)


def test_rounds_that_two_numbers_of_nudges_share_run_once(monkeypatch):
    calls = []

    def continued(engine, problems, starts, longest, *key):
        calls.append(key)
        return [start + "!" for start in starts]

    problem = type("P", (), {"id": "a", "answer": "1"})()
    monkeypatch.setattr(nudges, "_continued", continued)
    monkeypatch.setattr(nudges, "nudge", lambda text, problem, skip: text + "?" if len(text) < 5 else None)
    monkeypatch.setattr(nudges, "grade", lambda texts, truths: [float(len(text)) for text in texts])
    frame = pandas.DataFrame({"problem_id": ["a"], "completion": ["x"]})
    found = nudges.nudged_after(None, frame, [problem], (0, 1, 12))
    assert [found[n]["completion"].item() for n in (0, 1, 12)] == ["x", "x?!", "x?!?!"]
    assert len([key for key in calls if key]) <= 12 and calls[0] == (0, 0)
    assert nudges.nudged(None, frame, [problem], 1)["completion"].item() == "x?!"


def test_the_example_of_a_nudge_is_one_that_it_helped():
    rows = [("p", "as it is", "a", 1), ("q", "as it is", "b", 0), ("r", "as it is", "c", 0)]
    rows += [("p", "one nudge", "a", 1), ("q", "one nudge", "b?", 0), ("r", "one nudge", "c?", 1)]
    one = sft_traces.helped(
        pandas.DataFrame(rows, columns=["problem_id", "nudge", "completion", "reward"]),
        "as it is",
        "one nudge",
    )
    assert one.before["problem_id"] == one.after["problem_id"] == "r"
    assert one.words == "wrong to right: 1 of 3 completions; the reverse: 0"


def test_shares_of_the_loss_and_in_words():
    rows = pandas.DataFrame({"token": [" So", "a", " So"], "nats": [1.0, 2.0, 1.0]})
    assert sft_traces.share_on(rows, " So") == 0.5
    assert sft_traces.share_words(None).startswith("an unknown share")
    assert sft_traces.share_words(0.25) == "25%"
    assert torch.is_tensor(objections.marker_tokens(Words()))


def test_what_is_left_out_is_a_matter_of_the_teachers_context():
    """A completion that is right has no feedback, and the sentence counts all that are left out."""
    batch = Batch([None, None], None, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    config = SDPOConfig(num_problems=2, num_generations=2)
    view = TeacherView([""] * 4, [False, True, True, False], [None] * 4)
    with_feedback = objections.TaughtBatch(batch, config, {"feedback": view}).coverage_words()
    assert with_feedback == (
        "2 problems with 2 completions each, score 0.25: 50% of the completions are distilled. "
        "Left out: 1 right completion, and 1 wrong completion without feedback."
    )
    with_solution = objections.TaughtBatch(batch, config, {"solution": view}).coverage_words()
    assert with_solution.endswith(
        "Left out: 2 completions of 1 problem without a right one, and 1 completion that is the only right "
        "one."
    )
