"""Proposals of several writers on the same problems: the reasoner, and a model in several contexts."""

from collections.abc import Sequence

import pandas

from sdlab.measure.comparison import compare
from sdlab.measure.doubt import proposals
from sdlab.seeds import stream
from sdlab.text.markers import MARKERS, count_markers
from sdlab.world.knobs import BLIND, Knobs
from sdlab.world.problems import Problem
from sdlab.world.reasoner import sample


def reasoner_frame(
    problems: Sequence[Problem], num_generations: int, knobs: Knobs = BLIND
) -> pandas.DataFrame:
    """Return traces of the rational reasoner: a row per trace, with problem_id and completion."""
    rows = [
        {"problem_id": one.id, "completion": sample(one, stream("reasoner", one.id, n), knobs=knobs).text}
        for one in problems
        for n in range(num_generations)
    ]
    return pandas.DataFrame(rows)


def proposals_in(
    frame: pandas.DataFrame,
    problems: Sequence[Problem],
    demonstrations: Sequence[str] | None = None,
    knobs: Knobs = BLIND,
) -> pandas.DataFrame:
    """Return the proposals in the completions of `frame`, as `sdlab.measure.doubt.proposals` does.

    demonstrations: what stood in the prompt of each problem; None without a context.
    """
    contexts = demonstrations if demonstrations is not None else [None] * len(problems)
    by_id = {problem.id: (problem, text) for problem, text in zip(problems, contexts, strict=True)}
    pairs = [by_id[name] for name in frame["problem_id"]]
    asked, shown = [problem for problem, _ in pairs], [text for _, text in pairs]
    return proposals(frame["completion"].tolist(), asked, shown, knobs)


def marker_changes(before: pandas.DataFrame, after: pandas.DataFrame) -> pandas.DataFrame:
    """Return each of the ten markers per completion in two evaluations, and the difference with its interval.

    Columns: marker, before, after, difference (with its own 95% interval), significant. The ten markers are
    one family: significant is judged at 99.5% each, so that all ten together keep 95% (Bonferroni).
    """
    counted = [
        frame[["problem_id"]].join(
            pandas.DataFrame([count_markers(text) for text in frame["completion"]], index=frame.index)
        )
        for frame in (before, after)
    ]
    rows = []
    for marker in MARKERS:
        change = compare(counted[0], counted[1], marker)
        strict = compare(counted[0], counted[1], marker, confidence=1 - 0.05 / len(MARKERS))
        rows.append((marker, change.a, change.b, str(change.difference), strict.significant))
    return pandas.DataFrame(rows, columns=["marker", "before", "after", "difference", "significant"])
