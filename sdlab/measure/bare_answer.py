"""What a model does with a bare answer in its prompt: the step "The answer is 54, so 54 - 10 = 44."."""

import re
from collections.abc import Iterable

import pandas

from sdlab.measure.evaluation import evaluate
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.seeds import stream
from sdlab.world.problems import Problem
from sdlab.world.solutions import write_correct

STEPS = ("too early", "for the last number", "no step")
_STEP = re.compile(r"^([A-Z]): The answer is \d+, so", re.MULTILINE)
_SUBTRACTION = re.compile(r"(\d+) - (\d+) = (\d+)\.")


def answer_steps(frame: pandas.DataFrame, problems: Iterable[Problem]) -> pandas.DataFrame:
    """Return `frame` with the column `step`: whether and where a completion subtracts from the answer.

    One of STEPS; "too early" is a step for a number that is not the last one: others are still unknown then.
    """
    last = {problem.id: problem.slots[-1].name for problem in problems if problem.slots}
    steps = []
    for text, name in zip(frame["completion"], frame["problem_id"], strict=True):
        letters = set(_STEP.findall(text))
        steps.append("no step" if not letters else STEPS[1] if letters == {last.get(name)} else STEPS[0])
    return frame.assign(step=steps)


def right_subtractions(frame: pandas.DataFrame) -> tuple[int, float]:
    """Return the number of written subtractions and the share of right ones; the share is 0 without any."""
    sums = [sum_ for text in frame["completion"] for sum_ in _SUBTRACTION.findall(text)]
    right = sum(int(a) - int(b) == int(c) for a, b, c in sums)
    return len(sums), right / max(1, len(sums))


def with_bare_answer(
    engine: Engine, problems: list[Problem], params: SamplingParams
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return the evaluations without context and with a solution without its thinking.

    The second has the column `step` of `answer_steps`. The solutions are the reasoner's.
    """
    solutions = [write_correct(problem, stream("bare answer", problem.id)) for problem in problems]
    alone = evaluate(engine, problems, params)
    informed = evaluate(engine, problems, params, context="solution_no_think", demonstrations=solutions)
    return alone, answer_steps(informed, problems)
