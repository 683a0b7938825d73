"""Write correct completions and demonstrations with the reasoner."""

from random import Random

from sdlab.text.prompt import strip_thinking
from sdlab.world.evidence import read_evidence
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import sample


def is_right(problem: Problem, completion: str) -> bool:
    """Return whether a trace of the reasoner ends in the right answer."""
    return completion.endswith(f"\\boxed{{{problem.answer}}}.")


def write_correct(
    problem: Problem,
    rng: Random,
    demonstration: str | None = None,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> str:
    """Return a correct completion, written with `demonstration` as context."""
    evidence = read_evidence(problem, demonstration)
    while True:
        text = sample(problem, rng, evidence, thinking, knobs=knobs).text
        if is_right(problem, text):
            return text


def write_demonstration(
    problem: Problem, rng: Random, context: str, thinking: bool = True, knobs: Knobs = BLIND
) -> str | None:
    """Return the demonstration for the prompt of `context`, written by the reasoner; None for "none"."""
    if context == "none":
        return None
    solution = write_correct(problem, rng, thinking=thinking, knobs=knobs)
    if context == "regenerated":
        return write_correct(problem, rng, solution, thinking, knobs)
    return strip_thinking(solution) if context == "solution_no_think" else solution
