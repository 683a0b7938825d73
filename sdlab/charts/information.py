"""Charts of information: markers against entropy, mutual information of a hint, and both by context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.picture import INK
from sdlab.charts.style import (
    BLUE,
    CONTEXT_COLOURS,
    RED,
    chart_title,
    field,
    known_labels,
    label_colours,
    layered,
    need,
    number,
)
from sdlab.charts.types import Frame, Options
from sdlab.text.prompt import CONTEXT_LABELS

if TYPE_CHECKING:
    import altair as alt


def _curve(
    frame: Frame,
    x: str,
    y: str,
    low: str | None,
    high: str | None,
    colour: str | None,
    title: str,
    subtitle: str,
    x_title: str,
    y_title: str,
    what: str,
) -> alt.LayerChart:
    import altair as alt

    interval = [low, high] if low and high else []
    need(frame, [x, y, *interval, *([colour] if colour else [])], what)
    encodings: Options = {
        "x": alt.X(
            field(x, "Q"),
            title=x_title,
            axis=alt.Axis(tickCount=6),
            scale=alt.Scale(zero=False, nice=False, padding=6),
        )
    }
    if colour:
        frame, names, shades = label_colours(frame, colour, *known_labels(frame, colour))
        encodings["color"] = alt.Color("label:N", title=None, scale=alt.Scale(domain=names, range=shades))
    base = alt.Chart(frame).encode(**encodings)
    line_colour: Options = {} if colour else {"color": BLUE}
    layers = []
    if low and high:
        layers.append(
            base.mark_area(opacity=0.18, aria=False, **line_colour).encode(
                y=alt.Y(field(low, "Q")), y2=field(high, "Q")
            )
        )
    height = alt.Y(field(y, "Q"), title=y_title, axis=alt.Axis(tickCount=6))
    layers.append(base.mark_line(aria=False, **line_colour).encode(y=height))  # the points have the labels
    layers.append(base.mark_point(opacity=1, **line_colour).encode(y=field(y, "Q")))
    ends = frame.sort_values(x).iloc[[0, -1]]
    words = (
        f"{y_title} goes from {number(ends[y].iloc[0])} at {x_title} {number(ends[x].iloc[0])} "
        f"to {number(ends[y].iloc[1])} at {number(ends[x].iloc[1])}"
    )
    return layered(*layers).properties(
        width=440, height=250, title=chart_title(title, subtitle), description=words
    )


def entropy_markers(
    frame: Frame,
    *,
    x: str = "entropy",
    y: str = "mean",
    low: str | None = "low",
    high: str | None = "high",
    title: str = "Markers against the belief's entropy",
    subtitle: str = "",
    x_title: str = "entropy of the belief (bits)",
    y_title: str = "markers per step",
) -> alt.LayerChart:
    """Draw markers against the entropy of the reasoner's belief, one row per bin.

    Intervals are drawn unless `low` or `high` is None. Raises SdlabError when the frame lacks a column.
    """
    return _curve(frame, x, y, low, high, None, title, subtitle, x_title, y_title, "entropy_markers")


def information_curve(
    frame: Frame,
    *,
    x: str = "reliability",
    y: str = "information",
    low: str | None = None,
    high: str | None = None,
    colour: str | None = None,
    at: float | None = None,
    title: str = "Information of a hint about the answer",
    subtitle: str = "",
    x_title: str = "reliability of the hint",
    y_title: str = "I(y; c | x) (bits)",
) -> alt.LayerChart:
    """Draw information against a parameter such as the reliability of a hint.

    `at`: a value of the parameter; a line and a dot mark the row nearest to it. Raises SdlabError when the
    frame lacks a column.
    """
    import altair as alt

    chart = _curve(frame, x, y, low, high, colour, title, subtitle, x_title, y_title, "information_curve")
    if at is None:
        return chart
    here = frame.iloc[(frame[x] - at).abs().argsort().iloc[:1]]
    here = here.assign(value_text=here[y].map(number))
    rule = alt.Chart(here).mark_rule(color=RED, strokeDash=[4, 3]).encode(x=field(x, "Q"))
    dot = alt.Chart(here).mark_point(color=RED, size=140, opacity=1).encode(x=field(x, "Q"), y=field(y, "Q"))
    text = (
        alt.Chart(here)
        .mark_text(color=INK, fontSize=13, fontWeight=600, dy=-16, dx=4, align="left")
        .encode(x=field(x, "Q"), y=field(y, "Q"), text="value_text:N")
    )
    words = f"{chart.description}; marked: {number(here[y].iloc[0])} at {number(at)}"
    return (chart + rule + dot + text).properties(title=chart_title(title, subtitle), description=words)


def _from_zero(frame: Frame, middle: str, low: str | None, high: str | None) -> alt.Scale:
    """Return a scale that starts at 0 where no value is negative, with room for labels at its end."""
    import altair as alt

    least, most = float(frame[low or middle].min()), float(frame[high or middle].max())
    if least < 0 or most <= 0:
        return alt.Scale(padding=30)
    return alt.Scale(domain=[0, 1.25 * most], nice=False)


def information_markers(
    frame: Frame,
    *,
    x: str = "information",
    y: str = "markers",
    x_low: str | None = None,
    x_high: str | None = None,
    y_low: str | None = None,
    y_high: str | None = None,
    title: str = "Information and markers, by context",
    subtitle: str = "",
    x_title: str = "I(y; c | x) (nats per completion)",
    y_title: str = "markers per completion",
) -> alt.LayerChart:
    """Draw information against markers, one dot per context, with intervals where their columns are named.

    Raises SdlabError when the frame lacks a column.
    """
    import altair as alt

    need(
        frame,
        ["context", x, y] + [name for name in (x_low, x_high, y_low, y_high) if name],
        "information_markers",
    )
    frame, names, shades = label_colours(frame, "context", CONTEXT_LABELS, CONTEXT_COLOURS)
    base = alt.Chart(frame).encode(
        color=alt.Color("label:N", scale=alt.Scale(domain=names, range=shades), legend=None)
    )
    across = alt.X(field(x, "Q"), title=x_title, scale=_from_zero(frame, x, x_low, x_high))
    up = alt.Y(field(y, "Q"), title=y_title, scale=_from_zero(frame, y, y_low, y_high))
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
            for a, b in zip(frame[x], frame[y], strict=True)
        )
        for _, row in frame.iterrows()
    ]  # another dot is close on the right, and its label would cover this one's
    sides: list[tuple[Options, Frame]] = [
        ({"align": "left", "dx": 10}, frame[[not one for one in crowded]]),
        ({"align": "right", "dx": -10}, frame[crowded]),
    ]
    for place, part in sides:
        if len(part):
            layers.append(
                alt.Chart(part)
                .mark_text(dy=-10, fontSize=12, **place)
                .encode(x=across, y=up, text="label:N", color=alt.value(INK))
            )
    words = ", ".join(
        f"{row['label']}: information {number(row[x])}, markers {number(row[y])}"
        for _, row in frame.iterrows()
    )
    return layered(*layers).properties(
        width=480, height=270, title=chart_title(title, subtitle), description=words
    )
