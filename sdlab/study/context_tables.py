"""Tables of Table 1: changes against no context, the order of the scores, and ratios beside the paper's."""

from collections.abc import Sequence
from itertools import pairwise

import pandas

from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.evaluation import summarise
from sdlab.paper import PAPER
from sdlab.text.prompt import CONTEXT_LABELS, CONTEXTS

SHOWN = ("reward", "length", "markers", "density")
PAPER_ORDER = ("none", "solution_no_think", "regenerated", "solution")  # of the scores, from the lowest


def context_blocks(frame: pandas.DataFrame) -> dict[str, pandas.DataFrame]:
    """Return the rows of each context of `sdlab.study.contexts.run_contexts`."""
    return {str(name): block for name, block in frame.groupby("context", sort=False)}


def changes_from_none(frame: pandas.DataFrame, metrics: Sequence[str] = SHOWN) -> pandas.DataFrame:
    """Return every context minus no context, paired by problem, as text: a row per context.

    Cells look like "+0.25 [0.18, 0.32]"; "(not significant)" follows where the change is not.
    """
    blocks = context_blocks(frame)
    rows = []
    for name in (name for name in CONTEXTS[1:] if name in blocks):
        row = {"context": CONTEXT_LABELS[name]}
        for metric in metrics:
            change = compare(blocks["none"], blocks[name], metric)
            row[metric] = change.difference.signed + ("" if change.significant else " (not significant)")
        rows.append(row)
    return pandas.DataFrame(rows)


def score_steps(frame: pandas.DataFrame) -> list[Comparison]:
    """Return the steps of the score along the paper's order of contexts, each against the one before."""
    blocks = context_blocks(frame)
    order = [name for name in PAPER_ORDER if name in blocks]
    return [
        compare(blocks[a], blocks[b], names=(CONTEXT_LABELS[a], CONTEXT_LABELS[b]))
        for a, b in pairwise(order)
    ]


def ratios_beside_paper(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return length, markers and density of each context as ratios to no context, here and in the paper.

    The score is given as it is. Columns: context, then "score here", "score paper", "length here", ...
    """
    means = summarise(frame, "context", SHOWN).pivot(index="context", columns="metric", values="mean")
    means = means.reindex([name for name in CONTEXTS if name in means.index])
    paper = PAPER.assign(density=1000 * PAPER["markers"] / PAPER["length"])
    columns: dict[str, list] = {"context": [CONTEXT_LABELS[str(name)] for name in means.index]}
    for metric in SHOWN:
        name = "score" if metric == "reward" else metric
        for who, table in (("here", means), ("paper", paper)):
            values = table[metric].reindex(means.index).astype(float)
            values = values if metric == "reward" else values / float(values["none"])
            columns[f"{name}, {who}"] = values.tolist()
    return pandas.DataFrame(columns)
