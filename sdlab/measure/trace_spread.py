"""How the traces of a table spread: the probability of 0, 1, 2, ... markers, by context."""

from collections.abc import Mapping

import numpy as np
import pandas

from sdlab.measure.traces import TraceTable
from sdlab.text.markers import total_markers
from sdlab.text.plural import plural


def marker_shares(table: TraceTable, rows: Mapping[str, np.ndarray], most: int = 3) -> pandas.DataFrame:
    """Return the probability of each number of markers in a trace: columns context, marker, mean.

    rows: name of a context -> its probabilities of the table's traces, (Y,), such as `table.given[0]` or
    `table.alone`. `most` and more markers are taken together; unlisted traces are left out.
    """
    counts = np.array([min(most, total_markers(text)) for text in table.texts[:-1]])
    names = [plural(n, "marker") for n in range(most)] + [f"{most} or more"]
    return pandas.DataFrame([
        {"context": context, "marker": name, "mean": float(probs[:-1][counts == n].sum())}
        for context, probs in rows.items() for n, name in enumerate(names)
    ])  # fmt: skip


def expected_lengths(tables: Mapping[float, TraceTable]) -> pandas.DataFrame:
    """Return information, plug-in, and the traces' mean words and markers, by the hint's reliability."""
    return pandas.DataFrame([
        {
            "reliability": reliability, "information": round(table.information, 9), "plug_in": table.plug_in,
            "words": table.expect(lambda text: len(text.split())), "markers": table.expect(total_markers),
        }
        for reliability, table in tables.items()
    ])  # fmt: skip


def never_alone(table: TraceTable) -> tuple[float, str]:
    """Return how often a trace is written that is never written without a context, and the likeliest one.

    The share is 0 and the text "" where there is none.
    """
    only = [
        (with_context, text)
        for with_context, alone, text in zip(
            table.mixture[:-1], table.alone[:-1], table.texts[:-1], strict=True
        )
        if alone == 0 and with_context > 0
    ]
    if not only:
        return 0.0, ""
    return float(sum(share for share, _ in only)), max(only)[1]
