"""Tables as HTML without an index column: two decimals, and the interval in the same cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from sdlab.charts.style import METHOD_LABELS, METRIC_LABELS
from sdlab.measure.evaluation import summarise
from sdlab.measure.intervals import interval_cells, tidy
from sdlab.show.view import View, render
from sdlab.text.prompt import CONTEXT_LABELS

if TYPE_CHECKING:
    import pandas

LABELS = CONTEXT_LABELS | METHOD_LABELS
SHOWN = ("reward", "length", "markers", "density")


def table(frame: pandas.DataFrame, names: Mapping[str, str] | None = None) -> View:
    """Return a frame as a View without its index; numbers have two decimals, texts are escaped.

    names: column -> the heading that a reader sees; others have spaces for underscores.
    """
    names = names or {}
    heads = [str(names.get(str(column), str(column).replace("_", " "))) for column in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    numeric = [all(isinstance(value, (int, float)) for value in frame[column]) for column in frame.columns]
    html = render("table.html", heads=heads, rows=rows, numeric=numeric)
    return View(html, "\n".join("  ".join(row) for row in [heads, *rows]))


def interval_table(
    summary: pandas.DataFrame,
    by: Sequence[str] | str,
    labels: Mapping[str, str] = LABELS,
    names: Mapping[str, str] = METRIC_LABELS,
) -> View:
    """Return the rows of `summarise` as a table: a row per group of `by`, a column per metric.

    Cells look like "0.73 [0.71, 0.76]". `labels` replaces the names of groups, `names` those of metrics.
    """
    by = [by] if isinstance(by, str) else list(by)
    cells = interval_cells(summary)
    wide = summary.assign(cell=cells).pivot(index=by, columns="metric", values="cell")
    groups = summary[by].drop_duplicates()
    wide = wide.reindex(
        index=list(groups.itertuples(index=False, name=None)) if len(by) > 1 else groups[by[0]]
    )
    wide = wide[list(dict.fromkeys(summary["metric"]))].fillna("none").reset_index()
    wide[by] = wide[by].map(lambda value: labels.get(value, value))
    return table(wide, dict(names))


def score_table(
    frame: pandas.DataFrame,
    by: Sequence[str] | str,
    metrics: Sequence[str] = SHOWN,
    labels: Mapping[str, str] = LABELS,
) -> View:
    """Return score, length and markers of every group of `by` with 95% intervals by problem.

    `frame`: from `sdlab.evaluate`. Raises SdlabError on an empty frame and on a missing column.
    """
    return interval_table(summarise(frame, by, metrics), by, labels)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else tidy(value) if isfinite(value) else "∞" if value > 0 else "-∞"
    return f"{value:,}" if isinstance(value, int) else str(value)
