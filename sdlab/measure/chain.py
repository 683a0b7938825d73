"""The data-processing chain on the world: what is left of a solution's information once somebody has worked on it.

A solution s is regenerated (another reads it and answers anew) or stripped of its thinking. Both are made from s alone,
so for any y written by one who reads s, I(y; s | x) >= I(y; regenerated | x) and I(y; s | x) >= I(y; stripped | x).
"""

from collections.abc import Sequence

import numpy as np

from sdlab.errors import SdlabError
from sdlab.measure.information import mutual_information
from sdlab.measure.traces import TraceTable, likely_traces, trace_table
from sdlab.text.prompt import strip_thinking
from sdlab.world.evidence import NOTHING, Evidence, read_evidence
from sdlab.world.knobs import BLIND, Knobs, with_intuition
from sdlab.world.problems import Problem
from sdlab.world.solutions import is_right


def solutions(
    problem: Problem, siblings: Sequence[Problem], knobs: Knobs = BLIND
) -> list[tuple[float, str, Evidence]]:
    """Every likely solution s that could stand in the context, with its probability and what the reasoner reads in it.

    siblings[v] (`sdlab.world.families`) is the hunt that hides value v: with its prior probability, s is one of the
    correct traces the reasoner writes there. The probabilities sum to one.
    """
    found = []
    for prior, sibling in zip(with_intuition(problem, knobs).slots[0].prior, siblings):
        for text, share in _correct(sibling, NOTHING, knobs).items():
            found.append((prior * share, text, read_evidence(problem, text)))
    return found


def processing_chain(problem: Problem, siblings: Sequence[Problem], knobs: Knobs = BLIND) -> dict[str, float]:
    """Exact nats along the chains y - s - c, for y written by one who reads the full solution s.

    "solution": I(y; s | x). "regenerated": I(y; y~ | x), y~ a correct answer to the same hunt by another who read s.
    "solution_no_think": I(y; s without think | x). The data-processing inequality says that neither can exceed the first.
    It says nothing of traces written *from* y~ or from the stripped s, as in Table 1: those are other y.
    Two candidates only: the table of (y, y~) is written down. Raises SdlabError otherwise.
    """
    if len(problem.slots) != 1 or len(siblings) != 2:
        raise SdlabError(
            f"the chain of problem {problem.id!r} cannot be written down; choose a family of 2 candidates"
        )
    weights, told, hidden = _grouped(problem, siblings, knobs)
    table = trace_table(problem, list(zip(weights, told)), knobs=knobs)
    again = [_correct(siblings[v], evidence, knobs) for v, evidence in zip(hidden, told)]
    texts = list(dict.fromkeys(text for row in again for text in row))
    regenerated = np.array([[row.get(text, 0.0) for text in texts] for row in again])  # p(y~ | s), (C, Y~)
    stripped = np.array(
        [[float(told[i].answer == sibling.answer) for sibling in siblings] for i in range(len(told))]
    )
    return {
        "solution": table.information,
        "regenerated": mutual_information(table.joint @ regenerated),
        "solution_no_think": mutual_information(table.joint @ stripped),
    }


def own_information(
    problem: Problem, siblings: Sequence[Problem], knobs: Knobs = BLIND
) -> dict[str, TraceTable]:
    """Context -> table of traces written *from* that context, as in the paper's Table 1 (families of 2 candidates).

    Each has its own y, so the data-processing inequality does not order them.
    """
    weights, told, hidden = _grouped(problem, siblings, knobs)
    read_again: dict[str, tuple[float, Evidence]] = {}
    for weight, evidence, v in zip(weights, told, hidden):
        for text, p in _correct(siblings[v], evidence, knobs).items():
            found = read_evidence(problem, text)
            read_again[repr(found)] = (read_again.get(repr(found), (0.0,))[0] + weight * p, found)
    stripped = [
        strip_thinking(next(iter(_correct(sibling, NOTHING, knobs)))) for sibling in siblings
    ]  # the same for all solutions
    priors = with_intuition(problem, knobs).slots[0].prior
    bare = [(p, read_evidence(problem, text)) for p, text in zip(priors, stripped)]
    contexts = {
        "solution": list(zip(weights, told)),
        "regenerated": list(read_again.values()),
        "solution_no_think": bare,
    }
    return {name: trace_table(problem, pairs, knobs=knobs) for name, pairs in contexts.items()}


def _grouped(
    problem: Problem, siblings: Sequence[Problem], knobs: Knobs
) -> tuple[list[float], list[Evidence], list[int]]:
    """Solutions that are read alike taken together: the reasoner writes the same after each. (p, evidence, hidden value)."""
    groups: dict[str, list] = {}
    for weight, _, evidence in solutions(problem, siblings, knobs):
        groups.setdefault(repr(evidence), [0.0, evidence])[0] += weight
    answers = [sibling.answer for sibling in siblings]
    weights, told = zip(*groups.values())
    return list(weights), list(told), [answers.index(evidence.answer) for evidence in told]


def _correct(problem: Problem, evidence: Evidence, knobs: Knobs) -> dict[str, float]:
    """text -> probability of the correct traces under `evidence`, given that the trace is correct."""
    found = {
        text: p
        for text, p in likely_traces(problem, evidence, knobs=knobs).items()
        if is_right(problem, text)
    }
    total = sum(found.values())
    return {text: p / total for text, p in found.items()}
