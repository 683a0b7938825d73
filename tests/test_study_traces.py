"""SFT's traces: only whole right completions, with the thinking and the length that were asked for."""

from types import SimpleNamespace

import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import first_right
from sdlab.runs import sft_data
from sdlab.runs.sft_data import build_traces

PROBLEMS = [SimpleNamespace(id=f"p{i}", prompt=f"question {i}") for i in range(3)]


@pytest.fixture
def asked(monkeypatch):
    """What `evaluate` was asked. p0 is right twice, first cut; p1 is right only where it was cut; p2 is
    right twice.
    """
    calls = []

    def evaluate(engine, problems, params, *, context="none", demonstrations=None, thinking=True):
        calls.append((context, [problem.id for problem in problems], demonstrations, params, thinking))
        rows = {
            "p0": [(1, True), (1, False), (0, False), (1, False)],
            "p1": [(1, True), (0, True)],
            "p2": [(1, False)] * 2,
        }
        return pandas.DataFrame(
            [
                {
                    "problem_id": problem.id,
                    "reward": reward,
                    "truncated": cut,
                    "completion": f"{context} {problem.id} {i}",
                }
                for problem in problems
                for i, (reward, cut) in enumerate(rows[problem.id])
            ]
        )

    monkeypatch.setattr(sft_data, "evaluate", evaluate)
    return calls


def test_a_cut_completion_is_neither_a_trace_nor_a_solution(asked):
    unguided, guided = build_traces(None, PROBLEMS, 4)
    assert [(trace.problem.id, trace.completion) for trace in unguided] == [
        ("p0", "none p0 1"), ("p0", "none p0 3"), ("p2", "none p2 0"), ("p2", "none p2 1"),
    ]  # fmt: skip
    assert [trace.completion for trace in guided] == [
        "solution p0 1", "solution p0 3", "solution p2 0", "solution p2 1",
    ]  # fmt: skip
    assert asked[1][:3] == ("solution", ["p0", "p2"], ["none p0 1", "none p2 0"])


def test_problems_whose_only_right_completions_were_cut_are_left_out(asked):
    with pytest.raises(SdlabError, match="1 problem gave 0 pairs of traces, and the run needs 1"):
        build_traces(None, PROBLEMS[1:2], 1)
    assert len(asked) == 1  # there is no solution to show


def test_thinking_and_length_are_those_asked_for(asked):
    build_traces(None, PROBLEMS, 4, max_completion_length=77, thinking=False)
    assert [(params.max_completion_length, thinking) for *_, params, thinking in asked] == [(77, False)] * 2
    asked.clear()
    build_traces(None, PROBLEMS, 4)
    assert [(params.max_completion_length, thinking) for *_, params, thinking in asked] == [(256, True)] * 2


def test_a_solution_has_something_beside_its_thinking():
    """Right by a box in its thinking, then cut: the next right completion is the solution."""
    texts = [
        "<think>\n\\boxed{4}",
        "<think>a</think> wrong",
        "<think>b</think> \\boxed{4}",
        "no tag: \\boxed{4}",
    ]
    frame = pandas.DataFrame({"problem_id": "p", "reward": [1, 0, 1, 1], "completion": texts})
    assert first_right(frame)["p"] == texts[2]
    assert first_right(frame[frame.index != 2])["p"] == texts[3]
    assert "p" not in first_right(
        frame[frame.index != 2], opened=True
    )  # its prompt opened <think>, and nothing closed it
