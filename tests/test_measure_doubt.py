"""Following traces: against the reasoner's own steps, and the curve against the law it was written by."""

from math import log

import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.measure.doubt import doubt_curve, doubt_table, follow, hedging_law, proposals
from sdlab.seeds import stream
from sdlab.text.markers import total_markers
from sdlab.text.prompt import strip_thinking
from sdlab.world.evidence import read_evidence
from sdlab.world.knobs import Knobs
from sdlab.world.likelihood import explain
from sdlab.world.reasoner import doubtfulness, sample
from sdlab.world.splits import load_split

PROBLEMS = load_split("in-domain", limit=40)


def written(problem, number: int, demonstration=None):
    return sample(problem, stream("doubt test", problem.id, number), read_evidence(problem, demonstration))


@pytest.mark.parametrize("split", ["in-domain", "deeper", "chemistry-test", "kata"])
def test_the_reasoners_own_traces_are_followed_step_by_step(split):
    for problem in load_split(split, limit=15):
        trace = written(problem, 0)
        assert follow(trace.text, problem) == (list(trace.steps), True)
        assert list(explain(trace.text, problem).steps) == list(trace.steps)


def test_traces_with_intuition_are_followed_with_their_own_knobs():
    knobs = Knobs(doubt=1.1, intuition=0.45)
    for problem in PROBLEMS[:15]:
        trace = sample(problem, stream("doubt test", problem.id), knobs=knobs)
        assert follow(trace.text, problem, knobs=knobs) == (list(trace.steps), True)
        frame = proposals([trace.text], [problem], knobs=knobs)
        blind = proposals([trace.text], [problem])
        for bits, law in zip(frame["entropy"], frame["law"], strict=True):
            assert law == pytest.approx(1 - 2.718281828459045 ** (-1.1 * (bits * log(2)) ** 2))
            assert law == pytest.approx(hedging_law(bits, knobs))
        assert frame["hedged"].tolist() == blind["hedged"].tolist()
        assert frame["entropy"].iloc[0] < blind["entropy"].iloc[0]  # intuition makes the first belief surer


def test_a_demonstration_changes_the_belief_but_not_the_words():
    problem = PROBLEMS[0]
    solution = written(problem, 0).text
    guided = written(problem, 1, solution)
    steps, end = follow(guided.text, problem, solution)
    assert end and steps == list(guided.steps)
    plain = proposals([guided.text], [problem])
    informed = proposals([guided.text], [problem], [solution])
    assert informed["entropy"].mean() < plain["entropy"].mean()
    bare = proposals([guided.text], [problem], [strip_thinking(solution)])  # an answer alone says less
    assert bare["entropy"].mean() >= informed["entropy"].mean()


def test_a_text_that_leaves_the_language_keeps_what_came_before():
    problem = PROBLEMS[0]
    trace = written(problem, 0)
    cut = trace.text[: trace.text.rindex("</think>")]
    steps, end = follow(cut + " The moon is full.", problem)
    assert not end and 0 < len(steps) < len(trace.steps)
    assert steps == list(trace.steps[: len(steps)])
    assert proposals(["Good morning."], [problem]).empty


def test_hedged_and_law_are_what_the_trace_says():
    trace = written(PROBLEMS[1], 3)
    frame = proposals([trace.text], [PROBLEMS[1]])
    own = [(choice, taken) for choice, taken in trace.steps if choice.role == "propose"]
    assert frame["hedged"].tolist() == [
        int(total_markers(choice.options[taken]) > 0) for choice, taken in own
    ]
    assert frame["entropy"].tolist() == pytest.approx([choice.entropy / log(2) for choice, _ in own])
    assert frame["law"].tolist() == pytest.approx([hedging_law(choice.entropy / log(2)) for choice, _ in own])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_law_is_the_reasoners(count):
    assert hedging_law(log(count) / log(2)) == pytest.approx(doubtfulness([1 / count] * count))


def test_the_reasoner_follows_its_law_and_a_stubborn_writer_does_not():
    texts = [written(problem, number).text for problem in PROBLEMS for number in range(4)]
    frame = proposals(texts, [problem for problem in PROBLEMS for _ in range(4)])
    curve = doubt_curve(frame.assign(who="reasoner"), "who")
    assert curve["mean"].is_monotonic_increasing and curve["proposals"].sum() == len(frame)
    assert (abs(curve["excess"]) < 0.12).all()
    stubborn = doubt_curve(frame.assign(who="stubborn", hedged=1), "who")
    assert (stubborn["mean"] == 1).all() and stubborn["excess"].iloc[0] > 0.5


def test_unequal_lists_are_told():
    with pytest.raises(SdlabError, match="2 texts, 1 problems and 2 demonstrations"):
        proposals(["a", "b"], PROBLEMS[:1])


def test_the_table_reads_the_curve_in_the_writers_order():
    texts = [written(problem, 0).text for problem in PROBLEMS]
    frame = proposals(texts, PROBLEMS)
    curve = doubt_curve(pandas.concat([frame.assign(who="z"), frame.assign(who="a")]), "who")
    assert list(dict.fromkeys(curve["who"])) == ["z", "a"]
    assert all(part["entropy"].is_monotonic_increasing for _, part in curve.groupby("who"))
    table = doubt_table(curve)
    assert list(table.index) == list(curve["who"])
    first = curve.iloc[-1]
    assert table["hedged"].iloc[-1] == f"{first['mean']:.2f} [{first['low']:.2f}, {first['high']:.2f}]"


def test_proposals_after_wide_clues_are_not_dropped():
    """Six and seven candidates are more than any training problem has; unseen types have them."""
    bits = [log(count) / log(2) for count in (1, 2, 3, 4, 5, 6, 7)]
    frame = pandas.DataFrame({"entropy": bits, "hedged": 1, "law": 0.5, "problem_id": range(7), "who": "a"})
    curve = doubt_curve(frame, "who")
    assert curve["proposals"].sum() == 7 and curve["entropy"].max() == pytest.approx((bits[5] + bits[6]) / 2)
    with pytest.raises(SdlabError, match="2 proposals have an entropy outside the edges -0.01 to 2.4"):
        doubt_curve(frame, "who", (-0.01, 1.0, 2.4))
