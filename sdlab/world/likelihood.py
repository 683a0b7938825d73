"""Compute exact log-probabilities of traces, and enumerate all traces of a problem."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from sdlab.errors import SdlabError
from sdlab.world.evidence import NOTHING, Evidence
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import Choice, Trace, drive, match_option, program


class _OffScript(Exception):
    """The program cannot write this text."""


def explain(
    text: str,
    problem: Problem,
    evidence: Evidence = NOTHING,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> Trace:
    """Return the steps and the exact log-probability of a given trace.

    The log-probability is -inf when the program cannot write the text.
    """
    position = 0

    def pick(choice: Choice, _) -> int:
        nonlocal position
        taken = match_option(choice, text, position)
        if taken is None or (choice.probs[taken] == 0):
            raise _OffScript
        position += len(choice.options[taken])
        return taken

    try:
        trace = drive(program(problem, evidence, thinking, knobs), pick)
    except _OffScript:
        return Trace(text, -math.inf, ())
    return trace if position == len(text) else replace(trace, text=text, log_prob=-math.inf)


def log_prob(
    text: str,
    problem: Problem,
    evidence: Evidence = NOTHING,
    thinking: bool = True,
    knobs: Knobs = BLIND,
) -> float:
    """Return the exact log p(text | problem, evidence), in nats."""
    return explain(text, problem, evidence, thinking, knobs).log_prob


def enumerate_traces(
    problem: Problem,
    evidence: Evidence = NOTHING,
    thinking: bool = True,
    limit: int = 200_000,
    knobs: Knobs = BLIND,
) -> Iterator[Trace]:
    """Yield every trace of positive probability, by depth-first replay.

    Without context the set is finite. It is infinite in chemistry, and under a claim or a strong intuition
    (above 0.56 for seven candidates). These make the other candidates so unlikely that the reasoner may drop
    a proposal of one ("Actually no.") and propose it again.
    Raises SdlabError after `limit` traces.
    """
    path: list[int] = []
    for number in count():
        if number == limit:
            raise SdlabError(
                f"problem {problem.id!r} has more than {limit} traces; "
                "enumerate a smaller problem (one slot, few candidates)"
            )
        depth = 0

        def pick(choice: Choice, _) -> int:
            nonlocal depth
            if depth == len(path):
                path.append(next(i for i, p in enumerate(choice.probs) if p > 0))
            depth += 1
            return path[depth - 1]

        trace = drive(program(problem, evidence, thinking, knobs), pick)
        yield trace
        for level in range(len(path) - 1, -1, -1):  # find the deepest choice with an option left
            probs = trace.steps[level][0].probs
            later = next((i for i in range(path[level] + 1, len(probs)) if probs[i] > 0), None)
            if later is not None:
                path[level:] = [later]
                break
        else:
            return
