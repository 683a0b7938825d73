"""The problems of a notebook: those of sdlab's world, or the reader's own (the parameter PROBLEMS)."""

import math
from collections.abc import Sequence

import pandas

from sdlab.benchmarks.problems import ProblemSource, load_problems
from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval
from sdlab.rollout.types import TrainableEngine
from sdlab.runs.needs import SMALL, parameters
from sdlab.seeds import stream
from sdlab.text.plural import plural
from sdlab.text.prompt import CONTEXT_LABELS
from sdlab.world.problems import Problem
from sdlab.world.solutions import write_correct
from sdlab.world.splits import load_split

HELD_OUT = "held out"
LEAST = 4  # problems of a file that is divided into training and test


def all_problems(own: str, split: str = "unseen-types") -> list[Problem]:
    """Return the problems of a file or data set `own`; those of a split of the world for "".

    Raises the errors of `sdlab.load_problems`.
    """
    return load_problems(own) if own else load_split(split)


def training_problems(own: str) -> list[Problem]:
    """Return the problems to train on: the split "train" for "", else every second problem of `own`.

    Raises SdlabError when `own` has fewer than LEAST problems.
    """
    return _divided(own)[0] if own else load_split("train")


def test_sets(own: str, limit: int) -> dict[str, list[Problem]]:
    """Return sets of problems that are not trained on, by name, with at most `limit` problems each.

    The world has two: in-domain and unseen-types. Of `own` it is the half that is held out.
    """
    if own:
        return {HELD_OUT: _divided(own)[1][:limit]}
    return {name: load_split(name, limit=limit) for name in ("in-domain", "unseen-types")}


def example_solution(problem: Problem, key: str) -> str:
    """Return a solution with thinking, to show a prompt: the reasoner's, or a stand-in where it cannot solve.

    key: names the random stream of the reasoner.
    """
    if problem.slots:
        return write_correct(problem, stream(key))
    return (
        f"<think>\n(the thinking of a right completion)\n</think>\nThe answer is \\boxed{{{problem.answer}}}."
    )


def problems_name(own: str) -> str:
    """Return how text names the problems: "number hunts", or the name of the file or data set."""
    return ProblemSource(own).label if own else "number hunts"


def bare_answer_words(ratios: pandas.DataFrame, model: str) -> str:
    """Return a sentence about the markers that a solution without its thinking leaves.

    ratios: of `sdlab.study.context_tables.ratios_beside_paper`.
    """
    rows = ratios.set_index("context")
    name = CONTEXT_LABELS["solution_no_think"]
    if name not in rows.index:
        return (
            "The solutions of this model have no thinking, so nothing can be taken out of them, and the "
            f'context "{name}" is left out.'
        )
    here, paper = (float(rows[f"markers, {who}"].to_dict()[name]) for who in ("here", "paper"))
    share = f"{here:.0%}" if not math.isnan(here) else "an unknown share (there were none)"
    words = f"With the bare answer {share} of the markers remain, in the paper {paper:.0%}."
    if model != "organism":
        return words
    return (
        f"{words} In the organism this is partly built in: the program that wrote its texts takes a bare "
        "answer as a fact about the sum alone."
    )


def kept_words(means: pandas.DataFrame, contexts: Sequence[str] = ("solution", "solution_no_think")) -> str:
    """Return a sentence: how much of length and markers each context leaves, against no context.

    means: a row per context, a column per metric.
    """
    parts = []
    for name in (name for name in contexts if name in means.index):
        values = {metric: means[metric].to_dict() for metric in ("length", "markers")}
        shares = [
            f"{value[name] / value['none']:.0%} of the {metric}"
            for metric, value in values.items()
            if value["none"]
        ]
        parts.append(f"with the {CONTEXT_LABELS[name]} {' and '.join(shares)}")
    return f"Compared with no context there remain {'; '.join(parts)}."


def heat_words(overall: Interval, at_choices: Interval) -> str:
    """Return a sentence about |u| at markers, from the ratios over all tokens and over choices."""
    if math.isnan(overall.mean):
        return (
            "These completions have no markers, so nothing is said about the teacher's disagreement at them."
        )
    return (
        f"Over all tokens a marker carries {overall} times the teacher's disagreement of another token, "
        f"among choices {at_choices} times."
    )


def example_completion(frame: pandas.DataFrame, markers: int = 3) -> pandas.Series:
    """Return the first right completion with so many markers; else the one with most, right ones first."""
    enough = frame[(frame["reward"] == 1) & (frame["markers"] >= markers)]
    return (enough if len(enough) else frame.sort_values(["reward", "markers"], ascending=False)).iloc[0]


def judged_completions(frame: pandas.DataFrame, each: int = 2) -> tuple[pandas.DataFrame, str]:
    """Return up to `each` right completions of every problem, and the word "right".

    Where no completion is right they are wrong ones, with the word "wrong".
    """
    right = frame[frame["reward"] == 1]
    chosen, which = (frame, "wrong") if right.empty else (right, "right")
    return chosen.groupby("problem_id").head(each), which


def suited_rate(engine: TrainableEngine, small: float) -> float:
    """Return the learning rate of a short run: `small` for an organism, the paper's 1e-5 for others."""
    return small if parameters(engine.model) <= SMALL else 1e-5


def _divided(own: str) -> tuple[list[Problem], list[Problem]]:
    problems = load_problems(own)
    if len(problems) < LEAST:
        raise SdlabError(
            f"{problems_name(own)} has {plural(len(problems), 'problem')}, and half of them are held out for "
            "the test; "
            f"give at least {LEAST}"
        )
    return problems[::2], problems[1::2]
