"""Bars and points with intervals: contexts, markers, and any other groups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdlab.charts.picture import INK, MUTED
from sdlab.charts.style import (
    BLUE,
    CONTEXT_COLOURS,
    METRIC_LABELS,
    chart_title,
    datum,
    field,
    known_labels,
    label_colours,
    layered,
    need,
    number,
    rows_in_words,
    tip,
)
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError
from sdlab.text.prompt import CONTEXT_LABELS

if TYPE_CHECKING:
    import altair as alt


def interval_bars(
    frame: Frame,
    x: str,
    y: str,
    low: str = "low",
    high: str = "high",
    *,
    title: str = "",
    subtitle: str = "",
    x_title: str | None = None,
    y_title: str | None = None,
    width: int = 420,
) -> alt.LayerChart:
    """Draw horizontal bars of `x` (a number) for each `y` (a name), with its interval and value.

    The interval is a line from `low` to `high`. Raises SdlabError when `frame` is empty or lacks a column.
    """
    return _intervals(frame, x, y, low, high, title, subtitle, x_title, y_title, width, bars=True)


def interval_points(
    frame: Frame,
    x: str,
    y: str,
    low: str = "low",
    high: str = "high",
    *,
    title: str = "",
    subtitle: str = "",
    x_title: str | None = None,
    y_title: str | None = None,
    width: int = 420,
) -> alt.LayerChart:
    """Draw dots of `x` (a number) for each `y` (a name), with its interval and value.

    The interval is a line from `low` to `high`. Raises SdlabError when `frame` is empty or lacks a column.
    """
    return _intervals(frame, x, y, low, high, title, subtitle, x_title, y_title, width, bars=False)


def _intervals(
    frame: Frame,
    x: str,
    y: str,
    low: str,
    high: str,
    title: str,
    subtitle: str,
    x_title: str | None,
    y_title: str | None,
    width: int,
    bars: bool,
    labelled: bool = True,
) -> alt.LayerChart:
    import altair as alt

    need(frame, [x, y, low, high], "an interval chart")
    labels, colours = known_labels(frame, y)
    frame, names, shades = label_colours(frame, y, labels, colours)
    if not set(frame[y]) & set(colours):  # a single series: the colours would mean nothing
        shades = [BLUE] * len(names)
    frame = frame.assign(value_text=frame[x].map(number))
    axis = alt.Axis(labels=labelled, title=(y_title if labelled else None), labelPadding=8)
    base = (
        alt.Chart(frame)
        .encode(
            y=alt.Y("label:N", sort=names, axis=axis),
            tooltip=["label", *map(tip, (x, low, high))],
            description=alt.Description("hover:N"),
        )
        .transform_calculate(
            hover=f"datum.label + ': ' + datum.value_text + ' (' + format({datum(low)}, '.3~g') + ' to ' + "
            f"format({datum(high)}, '.3~g') + ')'"
        )
    )
    colour = alt.Color("label:N", scale=alt.Scale(domain=names, range=shades), legend=None)
    position = alt.X(
        field(x, "Q"),
        title=METRIC_LABELS.get(x) if x_title is None else x_title,
        axis=alt.Axis(tickCount=5 if width > 200 else 3),
        scale=alt.Scale(zero=True, nice=True),
    )
    mark = base.mark_bar(height={"band": 0.62}, opacity=0.9) if bars else base.mark_point(size=90, opacity=1)
    whisker = base.mark_rule(strokeWidth=2, color=INK if bars else MUTED).encode(
        x=alt.X(field(low, "Q")), x2=field(high, "Q")
    )
    value = base.mark_text(align="left", dx=6, fontSize=12, color=INK).encode(
        x=alt.X(field(high, "Q")), text="value_text:N"
    )
    layers = (mark.encode(x=position, color=colour), whisker, value)
    layers = layers if bars else (whisker, mark.encode(x=position, color=colour), value)
    return layered(*layers).properties(
        width=width,
        height={"step": 34},
        title=chart_title(title, subtitle),
        description=rows_in_words(frame, "label", x, low, high),
    )


def context_table_chart(
    summary: Frame,
    metrics: Sequence[str] = ("reward", "length", "markers", "density"),
    *,
    title: str = "Score, length and markers by context",
    subtitle: str = "",
) -> alt.HConcatChart:
    """Draw Table 1: one panel per metric, one bar per context, with intervals.

    `summary`: columns context, metric, mean, low, high. Metrics that it lacks are left out. Raises SdlabError
    when it has none of them.
    """
    import altair as alt

    need(summary, ["context", "metric", "mean", "low", "high"], "context_table_chart")
    drawn = [metric for metric in metrics if metric in set(summary["metric"])]
    if not drawn:
        raise SdlabError(f"context_table_chart found none of {', '.join(metrics)} in the column metric")
    panels, words = [], []
    for index, metric in enumerate(drawn):
        rows = summary[summary["metric"] == metric]
        panel = _intervals(
            rows,
            "mean",
            "context",
            "low",
            "high",
            METRIC_LABELS.get(metric, metric),
            "",
            "",
            None,
            150,
            bars=True,
            labelled=index == 0,
        )
        words.append(f"{METRIC_LABELS.get(metric, metric)}: {panel.description}")
        panels.append(
            panel.properties(title=alt.Title(METRIC_LABELS.get(metric, metric), fontSize=13, offset=6))
        )
    return alt.hconcat(*panels, spacing=26).properties(
        title=chart_title(title, subtitle), description="; ".join(words)
    )


def marker_breakdown(
    frame: Frame,
    *,
    value: str = "mean",
    title: str = "Each marker, by context",
    subtitle: str = "",
    unit: str = "per completion",
) -> alt.LayerChart:
    """Draw a heat map of markers by context, with the numbers in the cells.

    `frame`: columns context, marker and `value`. Raises SdlabError when one is missing.
    """
    import altair as alt

    need(frame, ["context", "marker", value], "marker_breakdown")
    frame, names, _ = label_colours(frame, "context", CONTEXT_LABELS, CONTEXT_COLOURS)
    frame = frame.assign(value_text=frame[value].map(number))
    order = list(frame.groupby("marker")[value].sum().sort_values(ascending=False).index)
    top = float(frame[value].max()) or 1.0
    base = (
        alt.Chart(frame)
        .encode(
            x=alt.X(
                "label:N", sort=names, title=None, axis=alt.Axis(orient="top", labelAngle=0, domain=False)
            ),
            y=alt.Y("marker:N", sort=order, title=None, axis=alt.Axis(domain=False)),
            tooltip=["marker", "label", tip(value)],
            description=alt.Description("hover:N"),
        )
        .transform_calculate(
            hover="datum.marker + ', ' + datum.label + ': ' + datum.value_text + " + json.dumps(f" {unit}")
        )
    )
    cells = base.mark_rect(stroke="white", strokeWidth=2, cornerRadius=3).encode(
        color=alt.Color(
            field(value, "Q"),
            title=unit,
            scale=alt.Scale(domain=[0, top], range=["#f3f6f9", BLUE]),
            legend=alt.Legend(gradientLength=120),
        )
    )
    # White figures on dark cells, dark figures on light ones: both stay above a contrast of 4.5.
    text = base.mark_text(fontSize=12).encode(
        text="value_text:N",
        color=alt.condition(f"{datum(value)} > {0.62 * top}", alt.value("white"), alt.value(INK)),
    )
    totals = frame.groupby("label", sort=False)[value].sum().reset_index()
    return layered(cells, text).properties(
        width={"step": 150},
        height={"step": 26},
        title=chart_title(title, subtitle),
        description=f"All markers {unit}: {rows_in_words(totals, 'label', value)}",
    )
