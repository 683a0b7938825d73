"""The data-processing chain on the world: how much of a solution's information remains after processing.

A solution s is regenerated (another writer reads it and solves the hunt again) or stripped of its thinking.
Both results depend on s alone. So for any y written by a reader of s, I(y; s | x) >= I(y; regenerated | x)
and I(y; s | x) >= I(y; stripped | x).
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
    """Return every likely solution s with its probability and the evidence that the reasoner reads in it.

    siblings[v] (`sdlab.world.families`) is the hunt that hides value v. With the prior probability of v, s is
    one of the correct traces of that hunt. The probabilities sum to one.
    """
    rows = []
    for prior, sibling in zip(with_intuition(problem, knobs).slots[0].prior, siblings, strict=True):
        for text, share in _correct(sibling, NOTHING, knobs).items():
            rows.append((prior * share, text, read_evidence(problem, text)))
    return rows


def processing_chain(problem: Problem, siblings: Sequence[Problem], knobs: Knobs = BLIND) -> dict[str, float]:
    """Return the exact information in nats along the chains y - s - c; the writer of y reads the full s.

    "solution": I(y; s | x). "regenerated": I(y; y~ | x), where y~ is a correct completion of the same hunt by
    another writer who read s. "solution_no_think": I(y; s without think | x). By the data-processing
    inequality neither exceeds the first. The inequality says nothing about traces written *from* y~ or from
    the stripped s, as in Table 1, because those are other y.

    Raises SdlabError unless the problem has one slot with two candidates, so that the table of (y, y~) can be
    listed.
    """
    if len(problem.slots) != 1 or len(siblings) != 2:
        raise SdlabError(
            f"the chain of problem {problem.id!r} cannot be written down; choose a family of 2 candidates"
        )
    weights, evidences, hidden = _grouped(problem, siblings, knobs)
    table = trace_table(problem, list(zip(weights, evidences, strict=True)), knobs=knobs)
    again = [_correct(siblings[v], evidence, knobs) for v, evidence in zip(hidden, evidences, strict=True)]
    texts = list(dict.fromkeys(text for row in again for text in row))
    regenerated = np.array([[row.get(text, 0.0) for text in texts] for row in again])  # p(y~ | s), (C, Y~)
    stripped = np.array(
        [[float(evidence.answer == sibling.answer) for sibling in siblings] for evidence in evidences]
    )
    return {
        "solution": table.information,
        "regenerated": mutual_information(table.joint @ regenerated),
        "solution_no_think": mutual_information(table.joint @ stripped),
    }


def own_information(
    problem: Problem, siblings: Sequence[Problem], knobs: Knobs = BLIND
) -> dict[str, TraceTable]:
    """Return for each context the table of traces written *from* that context, as in the paper's Table 1.

    The problem must belong to a family of 2 candidates. Each context has its own y, so the data-processing
    inequality does not order them.
    """
    weights, evidences, hidden = _grouped(problem, siblings, knobs)
    read_again: dict[str, tuple[float, Evidence]] = {}
    for weight, evidence, v in zip(weights, evidences, hidden, strict=True):
        for text, p in _correct(siblings[v], evidence, knobs).items():
            reread = read_evidence(problem, text)
            read_again[repr(reread)] = (read_again.get(repr(reread), (0.0,))[0] + weight * p, reread)
    # All correct solutions of a sibling are the same text without their thinking, so the first one is enough.
    stripped = [strip_thinking(next(iter(_correct(sibling, NOTHING, knobs)))) for sibling in siblings]
    priors = with_intuition(problem, knobs).slots[0].prior
    bare = [(p, read_evidence(problem, text)) for p, text in zip(priors, stripped, strict=True)]
    contexts = {
        "solution": list(zip(weights, evidences, strict=True)),
        "regenerated": list(read_again.values()),
        "solution_no_think": bare,
    }
    return {name: trace_table(problem, pairs, knobs=knobs) for name, pairs in contexts.items()}


def _grouped(
    problem: Problem, siblings: Sequence[Problem], knobs: Knobs
) -> tuple[list[float], list[Evidence], list[int]]:
    """Return the solutions grouped by the evidence read in them: probabilities, evidence, hidden values.

    The reasoner writes the same after all solutions of a group.
    """
    groups: dict[str, list] = {}
    for weight, _, evidence in solutions(problem, siblings, knobs):
        groups.setdefault(repr(evidence), [0.0, evidence])[0] += weight
    answers = [sibling.answer for sibling in siblings]
    weights, evidences = zip(*groups.values(), strict=True)
    return list(weights), list(evidences), [answers.index(evidence.answer) for evidence in evidences]


def _correct(problem: Problem, evidence: Evidence, knobs: Knobs) -> dict[str, float]:
    """Return text -> probability of the correct traces under `evidence`, given that the trace is correct."""
    traces = {
        text: p
        for text, p in likely_traces(problem, evidence, knobs=knobs).items()
        if is_right(problem, text)
    }
    total = sum(traces.values())
    return {text: p / total for text, p in traces.items()}
