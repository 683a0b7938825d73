"""Charts of the study. Each takes a tidy DataFrame and returns an `alt.Chart` that also says in words what it shows.

Frames are those of `sdlab.measure.evaluation.summarise`: one row per group and metric, columns `mean`, `low`, `high`.
"""

from __future__ import annotations

import json
import re

from sdlab.charts.picture import INK, MUTED, OKABE_ITO
from sdlab.errors import SdlabError
from sdlab.text.prompt import CONTEXT_LABELS

BLUE, ORANGE, GREEN, RED, SKY, PINK = OKABE_ITO[:6]
CONTEXT_COLOURS = {"none": BLUE, "solution": RED, "solution_no_think": ORANGE, "regenerated": PINK}
METHOD_LABELS = {
    "base": "base",
    "sft_unguided": "SFT, unguided",
    "sft_guided": "SFT, guided",
    "grpo": "GRPO",
    "sdpo": "SDPO",
    "sdpo_no_think": "SDPO without think",
}
METHOD_COLOURS = {
    "base": "#767676",
    "sft_unguided": SKY,
    "sft_guided": PINK,
    "grpo": GREEN,
    "sdpo": RED,
    "sdpo_no_think": ORANGE,
    "grpo_off": GREEN,
    "sdpo_off": RED,
    "grpo_long": GREEN,
    "sdpo_long": RED,
    "sdpo_no_think_long": ORANGE,
}
METRIC_LABELS = {
    "reward": "score",
    "length": "length (tokens)",
    "markers": "markers per answer",
    "density": "markers per 1,000 tokens",
    "truncated": "cut off",
    "entropy": "entropy (nats)",
}


def need(frame, columns, what: str) -> None:
    """Raise SdlabError if `frame` is empty or lacks one of `columns`."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SdlabError(
            f"{what} needs the columns {', '.join(columns)}; {', '.join(missing)} not in the frame, "
            f"which has {', '.join(map(str, frame.columns)) or 'none'}"
        )
    if not len(frame):
        raise SdlabError(f"{what} got an empty frame; check the filter that made it")


def field(name: str, kind: str) -> str:
    """Return a column as Altair writes it, with its type "Q", "N" or "O".

    Brackets, dots, colons and single quotes in its name mean nothing. Raises SdlabError for a backslash or a double quote,
    which Vega-Lite cannot have there.
    """
    if {"\\", '"'} & set(str(name)):
        raise SdlabError(
            f"a chart cannot draw the column {name!r}: its name holds a backslash or a double quote; rename it"
        )
    return re.sub(r"([\[\].:'])", r"\\\1", str(name)) + f":{kind}"


def datum(name: str) -> str:
    """Return a column of the row at hand as an expression of Vega."""
    return f"datum[{json.dumps(str(name))}]"


def tip(name: str):
    """Return a column of numbers as a part of a tooltip, under its own name."""
    import altair as alt

    return alt.Tooltip(field(name, "Q"), title=str(name))


def number(value: float) -> str:
    """A value short enough for a label: 0.33, 9.8, 77, 13,054."""
    size = abs(value)
    return f"{value:.2f}" if size < 2 else f"{value:.1f}" if size < 20 else f"{value:,.0f}"


def _labels(frame, column: str, labels: dict, colours: dict):
    """(frame with a `label` column, labels in order, their colours); names we do not know keep their own."""
    order = [key for key in labels if key in set(frame[column])]
    order += [key for key in dict.fromkeys(frame[column]) if key not in labels]
    spare = [colour for colour in OKABE_ITO if colour not in [colours.get(key) for key in order]]
    shades = [colours.get(key) or spare[i % len(spare)] for i, key in enumerate(order)]
    named = [str(labels.get(key, key)) for key in order]
    return frame.assign(label=frame[column].map(dict(zip(order, named)))), named, shades


def _known(frame, column: str):
    """The label and colour tables that fit the values of `column`."""
    values = set(frame[column])
    if values & set(CONTEXT_LABELS):
        return CONTEXT_LABELS, CONTEXT_COLOURS
    return METHOD_LABELS, METHOD_COLOURS


def _title(title: str, subtitle: str):
    import altair as alt

    return alt.Title(title, subtitle=subtitle) if subtitle else alt.Title(title)


def _told(
    frame, name: str, mean: str, low: str | None = None, high: str | None = None, limit: int = 12
) -> str:
    """The rows in words, for the text alternative: "no context 0.33 (0.29 to 0.38), ..."."""
    rows = [
        f"{row[name]} {number(row[mean])}" + (f" ({number(row[low])} to {number(row[high])})" if low else "")
        for _, row in frame.head(limit).iterrows()
    ]
    return ", ".join(rows) + (", and more" if len(frame) > limit else "")


def interval_bars(
    frame,
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
):
    """Horizontal bars of `x` (a number) for each `y` (a name) with a line from `low` to `high` and the value."""
    return _intervals(frame, x, y, low, high, title, subtitle, x_title, y_title, width, bars=True)


def interval_points(
    frame,
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
):
    """Dots of `x` (a number) for each `y` (a name) with a line from `low` to `high` and the value."""
    return _intervals(frame, x, y, low, high, title, subtitle, x_title, y_title, width, bars=False)


def _intervals(frame, x, y, low, high, title, subtitle, x_title, y_title, width, bars, labelled=True):
    import altair as alt

    need(frame, [x, y, low, high], "an interval chart")
    frame, names, shades = _labels(frame, y, *_known(frame, y))
    frame = frame.assign(shown=frame[x].map(number))
    axis = alt.Axis(labels=labelled, title=(y_title if labelled else None), labelPadding=8)
    base = (
        alt.Chart(frame)
        .encode(
            y=alt.Y("label:N", sort=names, axis=axis),
            tooltip=["label", *map(tip, (x, low, high))],
            description=alt.Description("hover:N"),
        )
        .transform_calculate(
            hover=f"datum.label + ': ' + datum.shown + ' (' + format({datum(low)}, '.3~g') + ' to ' + "
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
        x=alt.X(field(high, "Q")), text="shown:N"
    )
    layers = (mark.encode(x=position, color=colour), whisker, value)
    layers = layers if bars else (whisker, mark.encode(x=position, color=colour), value)
    return alt.layer(*layers).properties(
        width=width,
        height={"step": 34},
        title=_title(title, subtitle),
        description=_told(frame, "label", x, low, high),
    )


def context_table_chart(
    summary,
    metrics=("reward", "length", "markers", "density"),
    *,
    title: str = "Score, length and markers by context",
    subtitle: str = "",
):
    """Table 1 as a picture: one panel per metric, one bar per context, with intervals.

    `summary`: columns context, metric, mean, low, high. Metrics that are absent are left out.
    """
    import altair as alt

    need(summary, ["context", "metric", "mean", "low", "high"], "context_table_chart")
    shown = [metric for metric in metrics if metric in set(summary["metric"])]
    if not shown:
        raise SdlabError(f"context_table_chart found none of {', '.join(metrics)} in the column metric")
    panels, words = [], []
    for index, metric in enumerate(shown):
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
        title=_title(title, subtitle), description="; ".join(words)
    )


def marker_breakdown(
    frame,
    *,
    value: str = "mean",
    title: str = "Each marker, by context",
    subtitle: str = "",
    unit: str = "per answer",
):
    """A heat map, marker by context, with the numbers in the cells. Columns context, marker and `value`."""
    import altair as alt

    need(frame, ["context", "marker", value], "marker_breakdown")
    frame, names, _ = _labels(frame, "context", CONTEXT_LABELS, CONTEXT_COLOURS)
    frame = frame.assign(shown=frame[value].map(number))
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
            hover="datum.marker + ', ' + datum.label + ': ' + datum.shown + " + json.dumps(f" {unit}")
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
        text="shown:N",
        color=alt.condition(f"{datum(value)} > {0.62 * top}", alt.value("white"), alt.value(INK)),
    )
    totals = frame.groupby("label", sort=False)[value].sum().reset_index()
    return (cells + text).properties(
        width={"step": 150},
        height={"step": 26},
        title=_title(title, subtitle),
        description=f"All markers {unit}: {_told(totals, 'label', value)}",
    )


def _curve(frame, x, y, low, high, colour, title, subtitle, x_title, y_title, what):
    import altair as alt

    need(frame, [x, y] + ([low, high] if low else []) + ([colour] if colour else []), what)
    encodings = {
        "x": alt.X(
            field(x, "Q"),
            title=x_title,
            axis=alt.Axis(tickCount=6),
            scale=alt.Scale(zero=False, nice=False, padding=6),
        )
    }
    if colour:
        frame, names, shades = _labels(frame, colour, *_known(frame, colour))
        encodings["color"] = alt.Color("label:N", title=None, scale=alt.Scale(domain=names, range=shades))
    base = alt.Chart(frame).encode(**encodings)
    line_colour = {} if colour else {"color": BLUE}
    layers = []
    if low:
        layers.append(
            base.mark_area(opacity=0.18, aria=False, **line_colour).encode(
                y=alt.Y(field(low, "Q")), y2=field(high, "Q")
            )
        )
    height = alt.Y(field(y, "Q"), title=y_title, axis=alt.Axis(tickCount=6))
    layers.append(
        base.mark_line(aria=False, **line_colour).encode(y=height)
    )  # its points are what has labels
    layers.append(base.mark_point(opacity=1, **line_colour).encode(y=field(y, "Q")))
    ends = frame.sort_values(x).iloc[[0, -1]]
    words = (
        f"{y_title} goes from {number(ends[y].iloc[0])} at {x_title} {number(ends[x].iloc[0])} "
        f"to {number(ends[y].iloc[1])} at {number(ends[x].iloc[1])}"
    )
    return alt.layer(*layers).properties(
        width=440, height=250, title=_title(title, subtitle), description=words
    )


def entropy_markers(
    frame,
    *,
    x: str = "entropy",
    y: str = "mean",
    low: str | None = "low",
    high: str | None = "high",
    title: str = "Markers against the belief's entropy",
    subtitle: str = "",
    x_title: str = "entropy of the belief (bits)",
    y_title: str = "markers per step",
):
    """Markers against the entropy of the reasoner's belief, one row per bin, with intervals (`low=None`: without)."""
    return _curve(frame, x, y, low, high, None, title, subtitle, x_title, y_title, "entropy_markers")


def information_curve(
    frame,
    *,
    x: str = "reliability",
    y: str = "information",
    low: str | None = None,
    high: str | None = None,
    colour: str | None = None,
    at: float | None = None,
    title: str = "What a hint tells about the answer",
    subtitle: str = "",
    x_title: str = "how reliable the hint is",
    y_title: str = "I(y; c | x) (bits)",
):
    """Information against something that varies (a hint's reliability); `at` marks the value now chosen."""
    import altair as alt

    chart = _curve(frame, x, y, low, high, colour, title, subtitle, x_title, y_title, "information_curve")
    if at is None:
        return chart
    here = frame.iloc[(frame[x] - at).abs().argsort().iloc[:1]].assign(shown=lambda rows: rows[y].map(number))
    rule = alt.Chart(here).mark_rule(color=RED, strokeDash=[4, 3]).encode(x=field(x, "Q"))
    dot = alt.Chart(here).mark_point(color=RED, size=140, opacity=1).encode(x=field(x, "Q"), y=field(y, "Q"))
    text = (
        alt.Chart(here)
        .mark_text(color=INK, fontSize=13, fontWeight=600, dy=-16, dx=4, align="left")
        .encode(x=field(x, "Q"), y=field(y, "Q"), text="shown:N")
    )
    words = f"{chart.description}; marked: {number(here[y].iloc[0])} at {number(at)}"
    return (chart + rule + dot + text).properties(title=_title(title, subtitle), description=words)


def information_markers(
    frame,
    *,
    x: str = "information",
    y: str = "markers",
    x_low: str | None = None,
    x_high: str | None = None,
    y_low: str | None = None,
    y_high: str | None = None,
    title: str = "Information and markers, by context",
    subtitle: str = "",
    x_title: str = "I(y; c | x) (nats per answer)",
    y_title: str = "markers per answer",
):
    """One dot per context: information against markers, with an interval in each direction where columns are named."""
    import altair as alt

    need(
        frame,
        ["context", x, y] + [name for name in (x_low, x_high, y_low, y_high) if name],
        "information_markers",
    )
    frame, names, shades = _labels(frame, "context", CONTEXT_LABELS, CONTEXT_COLOURS)
    base = alt.Chart(frame).encode(
        color=alt.Color("label:N", scale=alt.Scale(domain=names, range=shades), legend=None)
    )
    across = alt.X(field(x, "Q"), title=x_title, scale=alt.Scale(padding=30))
    up = alt.Y(field(y, "Q"), title=y_title, scale=alt.Scale(padding=20))
    layers = []
    if x_low and x_high:
        layers.append(
            base.mark_rule(strokeWidth=2, opacity=0.6).encode(
                x=field(x_low, "Q"), x2=field(x_high, "Q"), y=field(y, "Q")
            )
        )
    if y_low and y_high:
        layers.append(
            base.mark_rule(strokeWidth=2, opacity=0.6).encode(
                x=field(x, "Q"), y=field(y_low, "Q"), y2=field(y_high, "Q")
            )
        )
    layers.append(base.mark_point(size=120, opacity=1).encode(x=across, y=up))
    spread = [frame[name].max() - frame[name].min() for name in (x, y)]
    crowded = [
        any(
            0 < a - row[x] < 0.5 * spread[0] and abs(b - row[y]) < 0.1 * spread[1]
            for a, b in zip(frame[x], frame[y])
        )
        for _, row in frame.iterrows()
    ]  # a dot close by on the right: its label would cover this one's
    for side, part in (("left", frame[[not one for one in crowded]]), ("right", frame[crowded])):
        if len(part):
            layers.append(
                alt.Chart(part)
                .mark_text(align=side, dx=10 if side == "left" else -10, dy=-10, fontSize=12)
                .encode(x=across, y=up, text="label:N", color=alt.value(INK))
            )
    words = ", ".join(
        f"{row['label']}: information {number(row[x])}, markers {number(row[y])}"
        for _, row in frame.iterrows()
    )
    return alt.layer(*layers).properties(
        width=480, height=270, title=_title(title, subtitle), description=words
    )


def training_curves(
    frame,
    metrics=("reward", "length", "markers", "density", "entropy"),
    *,
    step: str = "step",
    by: str = "method",
    split: str | None = "split",
    recorded: str | None = "recorded",
    title: str = "Training",
    subtitle: str = "",
    columns: int = 3,
    width: int = 210,
):
    """Small multiples against the training step: one panel per metric, one colour per `by`.

    The first split in the frame is drawn solid and the others dashed; rows whose `recorded` is true (a long run made
    before) are drawn faint and said so in the legend. Columns that are absent (`split`, `recorded`, a metric) are
    taken as not varying.
    """
    import altair as alt

    need(frame, [step, by], "training_curves")
    shown = [metric for metric in metrics if metric in frame.columns and frame[metric].notna().any()]
    if not shown:
        raise SdlabError(f"training_curves found none of {', '.join(metrics)} among the frame's columns")
    frame, names, shades = _labels(frame, by, METHOD_LABELS, METHOD_COLOURS)
    splits = list(dict.fromkeys(frame[split])) if split in frame.columns else []
    is_recorded = frame[recorded].astype(bool) if recorded in frame.columns else frame["label"].isna()
    frame = frame.assign(source=is_recorded.map({True: "recorded", False: "this run"}))
    encodings = {
        "x": alt.X(field(step, "Q"), title="step", axis=alt.Axis(tickCount=4, tickMinStep=1)),
        "color": alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(domain=names, range=shades),
            legend=alt.Legend() if len(names) > 1 else None,
        ),
    }
    if len(splits) > 1:
        dashes = [[1, 0], [6, 4], [2, 3], [8, 3, 2, 3]]
        encodings["strokeDash"] = alt.StrokeDash(
            field(split, "N"),
            title=None,
            scale=alt.Scale(domain=splits, range=[dashes[i % 4] for i in range(len(splits))]),
        )
    if is_recorded.any():
        encodings["opacity"] = alt.Opacity(
            "source:N", title=None, scale=alt.Scale(domain=["this run", "recorded"], range=[1.0, 0.4])
        )
    panels = []
    for metric in shown:
        rows = frame[frame[metric].notna()][
            list(dict.fromkeys([step, "label", "source", metric] + ([split] if splits else [])))
        ]
        told = (
            ["datum.label"] + ([datum(split)] if splits else []) + ["datum.source"] * bool(is_recorded.any())
        )
        base = (
            alt.Chart(rows)
            .encode(**encodings, description=alt.Description("hover:N"))
            .transform_calculate(hover=" + ', ' + ".join(told))
            .properties(width=width, height=150)
        )
        y = alt.Y(
            field(metric, "Q"),
            title=None,
            scale=alt.Scale(zero=metric != "entropy"),
            axis=alt.Axis(tickCount=4, labelFlush=True),
        )
        panel = base.mark_line().encode(y=y)
        if rows[step].nunique() == 1:  # a line needs two points
            panel = base.mark_point().encode(y=y)
        panels.append(panel.properties(title=alt.Title(METRIC_LABELS.get(metric, metric), fontSize=13)))
    last = frame.sort_values(step).groupby("label", sort=False).tail(1)
    words = "; ".join(
        f"{METRIC_LABELS.get(metric, metric)} at the last step: "
        f"{_told(last.dropna(subset=[metric]), 'label', metric)}"
        for metric in shown
    )
    return alt.concat(*panels, columns=columns, spacing=24).properties(
        title=_title(title, subtitle), description=words
    )
