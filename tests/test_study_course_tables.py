"""The tables of the notebooks against direct counts, on the reasoner's traces and the organism."""

import math

import numpy as np
import pandas
import pytest
import torch
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.bare_answer import answer_steps, right_subtractions
from sdlab.measure.commit_tables import cause_shares, commit_shares, commits_in, more_wrong, with_causes
from sdlab.measure.commits import commits
from sdlab.measure.comparison import compare
from sdlab.measure.doubt import proposals
from sdlab.measure.doubt_writers import marker_changes, proposals_in, reasoner_frame
from sdlab.measure.nudges import nudge_gains, nudged, second_looks, true_statements
from sdlab.measure.surprisal import surprisal
from sdlab.measure.trace_spread import expected_lengths, marker_shares, never_alone
from sdlab.measure.traces import hints, trace_table
from sdlab.paper import PAPER
from sdlab.rollout.loading import load_engine
from sdlab.study.context_tables import changes_from_none, ratios_beside_paper, score_steps
from sdlab.study.two_data_sets import recovered_share, relative_changes, sizes
from sdlab.text.markers import total_markers
from sdlab.text.prompt import CONTEXTS, render_prompt
from sdlab.world.families import load_families
from sdlab.world.solutions import write_correct
from sdlab.world.splits import load_split

PROBLEMS = load_split("in-domain", limit=8)


@pytest.fixture(scope="module")
def engine():
    return load_engine("organism")


@pytest.fixture(scope="module")
def traces():
    """Four traces of the reasoner for each problem, in two halves called base and sft_guided."""
    frame = reasoner_frame(PROBLEMS, 4)
    models = ["base", "base", "sft_guided", "sft_guided"] * len(PROBLEMS)
    return frame.assign(model=models, split="in-domain", reward=1.0)


def test_commitments_keep_the_model_that_wrote_them(traces):
    shuffled = traces.sample(frac=1, random_state=0)
    rows = commits_in(shuffled, PROBLEMS)
    by_id = {problem.id: problem for problem in PROBLEMS}
    for model, part in shuffled.groupby("model"):
        own = commits(part["completion"].tolist(), [by_id[name] for name in part["problem_id"]])
        assert rows["model"].eq(model).sum() == len(own)
        shares = commit_shares(rows).set_index(["metric", "model"])["mean"]
        assert shares["unchecked", model] == pytest.approx(own["unchecked"].mean())
        assert shares["fact", model] == 1  # the reasoner makes no mistakes about facts


def test_wrong_completions_are_guesses_or_others(traces):
    broken = traces.copy()
    broken.loc[broken["model"] == "sft_guided", "completion"] = "The answer is \\boxed{no}."
    frame = with_causes(broken, PROBLEMS)
    assert (frame["wrong"] == frame["guess"] + frame["other"]).all()
    assert (frame["wrong"] == (frame["cause"] != "right")).all()
    parts = [frame[frame["model"] == name] for name in ("base", "sft_guided")]
    changes = more_wrong(*parts)
    assert changes["wrong"].difference.mean == pytest.approx(1 - parts[0]["wrong"].mean())
    shares = cause_shares(frame)
    assert shares[shares["model"] == "sft_guided"]["share"].sum() == 1 and "right" not in set(shares["cause"])


def test_a_nudge_leaves_the_text_before_the_guess(engine, traces):
    completion = "<think>\nA: So A is 1.\n</think>\n\nThe answer is \\boxed{1}."
    frame = traces.groupby("problem_id").head(1).assign(completion=completion, model="base")
    tries = pandas.concat([nudged(engine, frame, PROBLEMS, n).assign(nudge=f"{n} nudges") for n in (0, 1)])
    before, after = (part for _, part in tries.groupby("nudge"))
    assert (before["completion"] == completion).all()
    start = "<think>\nA: So A is 1. Wait, check A:"
    assert (
        after["completion"].str.startswith(start).all() and (after["completion"].str.len() > len(start)).all()
    )
    assert set(nudge_gains(tries)) == {("base", "1 nudges")}
    looks = second_looks(after, PROBLEMS)
    assert set(looks["look"]) == {"first look"} and looks["beginning"].str.startswith(start).all()
    true = true_statements(engine, looks, PROBLEMS)["true"]
    assert true.mean() > 0.5  # the organism knows its facts


def test_surprisal_is_the_loss_of_the_model(engine):
    problem, text = PROBLEMS[0], write_correct(PROBLEMS[0], __import__("random").Random(0))
    rows = surprisal(engine, [problem, problem], [text, text[: len(text) // 2]])
    first = rows[rows["row"] == 0]
    assert "".join(first["token"]) == text
    ids = engine.tokenizer([render_prompt(engine.tokenizer, problem), text], add_special_tokens=False)
    x, y = ids["input_ids"]
    with torch.no_grad():
        logits = engine.model(torch.tensor([x + y])).logits[0, len(x) - 1 : -1].float()
    by_hand = torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="none")
    torch.testing.assert_close(torch.tensor(first["nats"].to_numpy()).float(), by_hand, rtol=1e-3, atol=1e-3)
    with pytest.raises(SdlabError, match="1 problems but 2 completions"):
        surprisal(engine, [problem], [text, text])


def test_proposals_of_a_frame_find_their_problem_and_context():
    solutions = [write_correct(problem, __import__("random").Random(1)) for problem in PROBLEMS]
    frame = reasoner_frame(PROBLEMS, 2).sample(frac=1, random_state=1)
    by_id = dict(
        zip([problem.id for problem in PROBLEMS], zip(PROBLEMS, solutions, strict=True), strict=True)
    )
    pairs = [by_id[name] for name in frame["problem_id"]]
    expected = proposals(frame["completion"].tolist(), [p for p, _ in pairs], [s for _, s in pairs])
    pandas.testing.assert_frame_equal(proposals_in(frame, PROBLEMS, solutions), expected)
    free = proposals_in(frame, PROBLEMS)
    assert free["followed"].all() and free["entropy"].mean() > expected["entropy"].mean()


def test_marker_changes_count_each_word():
    before = pandas.DataFrame({"problem_id": range(8), "completion": ["wait, maybe"] * 8})
    after = before.assign(completion="maybe maybe")
    rows = marker_changes(before, after).set_index("marker")
    assert tuple(rows.loc["maybe", ["before", "after"]]) == (1, 2) and rows.loc["wait", "after"] == 0
    assert rows.loc["check", "difference"].startswith("0.00") and not rows.loc["check", "significant"]


def test_the_marker_shares_of_traces_sum_to_one_and_give_the_mean():
    problem = load_families(2)[0][0]
    exact = trace_table(problem, hints(problem, 0.8))
    most = max(map(total_markers, exact.texts))
    rows = marker_shares(exact, {"alone": exact.alone}, most=most)
    assert rows["mean"].sum() == pytest.approx(1 - exact.alone[-1])
    mean = sum(
        probability * total_markers(text) for probability, text in zip(exact.alone, exact.texts, strict=True)
    )
    assert sum(n * share for n, share in enumerate(rows["mean"])) == pytest.approx(mean)
    curve = expected_lengths({0.8: exact})
    assert curve["information"][0] == pytest.approx(exact.information, abs=1e-8)
    share, text = never_alone(trace_table(problem, hints(problem, 0.95)))
    assert 0 < share < 1 and "no" in text
    assert never_alone(exact)[0] == sum(exact.mixture[:-1][exact.alone[:-1] == 0])


def test_a_bare_answers_step_is_found_by_its_letter():
    deeper = load_split("deeper", limit=1)[0]
    names = [slot.name for slot in deeper.slots]
    texts = ["no step here", f"\n{names[-1]}: The answer is 54, so 54 - 10 = 44.",
             f"\n{names[-2]}: The answer is 54, so 54 - 10 = 43."]  # fmt: skip
    frame = pandas.DataFrame({"problem_id": deeper.id, "completion": texts})
    assert answer_steps(frame, [deeper])["step"].tolist() == ["no step", "for the last number", "too early"]
    assert right_subtractions(frame) == (2, 0.5) and right_subtractions(frame[:1]) == (0, 0)


def contexts_frame() -> pandas.DataFrame:
    rewards = {"none": 0.0, "solution_no_think": 0.5, "regenerated": 0.5, "solution": 1.0}
    return pandas.DataFrame([
        {"problem_id": p, "context": c, "completion": "", "reward": float(g < 2 * rewards[c]),
         "length": 10 if c == "solution" else 20, "markers": 0 if c == "solution" else 2}
        for c in CONTEXTS for p in range(8) for g in range(2)
    ])  # fmt: skip


def test_context_tables_state_changes_order_and_ratios():
    frame = contexts_frame()
    rows = changes_from_none(frame).set_index("context")
    assert rows.loc["full solution", "reward"] == "+1.00 [0.63, 1.00]"
    assert rows.loc["regenerated", "length"].endswith("(not significant)")
    steps = [(round(step.difference.mean, 6), step.significant) for step in score_steps(frame)]
    assert steps == [(0.5, True), (0.0, False), (0.5, True)]
    ratios = ratios_beside_paper(frame).set_index("context").loc["full solution"]
    assert (ratios["length, here"], ratios["markers, here"], ratios["score, here"]) == (0.5, 0, 1)
    assert ratios["markers, paper"] == PAPER.loc["solution", "markers"] / PAPER.loc["none", "markers"]


def live_frame() -> pandas.DataFrame:
    scores = {"base": 0.5, "sft_unguided": 0.5, "sft_guided": 0.0}
    return pandas.DataFrame([
        {"model": m, "split": "in-domain", "problem_id": p, "reward": float(g < 2 * score)}
        for m, score in scores.items() for p in range(8) for g in range(2)
    ])  # fmt: skip


def test_relative_changes_are_shares_of_the_base_score():
    rows = relative_changes(live_frame(), None).set_index(["who", "model"])
    assert rows.loc[("live, in-domain", "sft_guided"), "change"] == -1
    assert rows.loc[("live, in-domain", "sft_unguided"), "change"] == 0
    paper = rows.loc[("paper, AIME24", "sft_guided")]
    assert paper["change"] == pytest.approx(20.21 / 54.79 - 1) and math.isnan(paper["low"])
    assert "recorded, in-domain" not in rows.index.get_level_values("who")


def test_the_interval_of_a_share_counts_the_error_of_the_base_score():
    """Whoever loses half on every problem loses half: the share is exact, however much problems differ."""
    counts = np.random.default_rng(1).integers(0, 5, 12) * 2
    frame = pandas.DataFrame([
        {"model": name, "split": "in-domain", "problem_id": p, "reward": float(g < share * count)}
        for name, share in (("base", 1), ("sft_unguided", 1), ("sft_guided", 0.5))
        for p, count in enumerate(counts) for g in range(8)
    ])  # fmt: skip
    rows = relative_changes(frame, None).set_index(["who", "model"]).loc["live, in-domain"]
    assert list(rows.loc["sft_guided"]) == pytest.approx([-0.5] * 3)
    difference = compare(frame[frame["model"] == "base"], frame[frame["model"] == "sft_guided"]).difference
    assert difference.high - difference.low > 0.1  # the loss in points does differ between problems
    lost = relative_changes(frame.assign(reward=0.0), None).set_index(["who", "model"])
    assert lost.loc["live, in-domain"].isna().all(axis=None)


def test_a_share_comes_back_only_of_a_significant_loss():
    frame = live_frame()
    base, guided, unguided = (
        frame[frame["model"] == name] for name in ("base", "sft_guided", "sft_unguided")
    )
    assert recovered_share(compare(guided, base), compare(base, guided)) == 1
    assert recovered_share(compare(guided, base), compare(base, unguided)) is None
    with pytest.raises(SdlabError, match="smoke"):
        sizes("tiny")


def test_ten_markers_at_once_are_judged_more_strictly_than_one():
    """Against the paired t test: significant below 5% / 10."""
    rng, seen = np.random.default_rng(0), []
    for shift in (0.5, 0.8, 1.1, 2.0):
        counts = rng.poisson(2, 30), rng.poisson(2 + shift, 30)
        frames = [
            pandas.DataFrame({"problem_id": range(30), "completion": ["wait " * n for n in one]})
            for one in counts
        ]
        row = marker_changes(*frames).set_index("marker").loc["wait"]
        p = stats.ttest_rel(counts[1], counts[0]).pvalue
        assert row["significant"] == (p < 0.005)
        seen.append((p < 0.05, p < 0.005))
    assert (True, False) in seen and (True, True) in seen
