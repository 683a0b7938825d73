"""Charts of mechanisms: what probes read at every layer, and what a dose of steering does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.style import chart_title, known_labels, label_colours, layered, need, number

if TYPE_CHECKING:
    import altair as alt
    import pandas

COLUMNS = ("panel", "model", "x", "mean", "low", "high")


def layer_curves(
    table: pandas.DataFrame,
    *,
    title: str = "What a probe reads at each layer",
    subtitle: str = "bars: 95% intervals over seeds and problems",
    y_title: str = "R2 of the probe",
) -> alt.HConcatChart:
    """Draw what probes read against the layer, one panel per value of `panel` and one line per model.

    `table`: columns panel, model, x (the layer), mean, low and high. Values below -0.2 are cut at the edge.

    Raises SdlabError when it is empty or lacks a column.
    """
    need(table, COLUMNS, "layer_curves")
    floor = max(-0.2, float(table["low"].min()))
    return _panels(table, "layer (0: the token alone)", title, subtitle, {None: y_title}, (floor, 1.0))


def dose_curves(
    table: pandas.DataFrame,
    *,
    title: str = "Steering towards doubt: markers and score by dose",
    subtitle: str = "dose 1: the difference of means; bars: 95% intervals over seeds and problems",
) -> alt.HConcatChart:
    """Draw a quantity against the dose, one panel per value of `panel` and one line per layer (`model`).

    `table`: columns panel (the name of the quantity), model, x (the dose), mean, low and high.

    Raises SdlabError when it is empty or lacks a column.
    """
    need(table, COLUMNS, "dose_curves")
    return _panels(table, "dose", title, subtitle, {panel: panel for panel in table["panel"]}, None)


def _panels(table, x_title, title, subtitle, y_titles, domain) -> alt.HConcatChart:
    import altair as alt

    labels, colours = known_labels(table, "model")
    rows, names, shades = label_colours(table, "model", labels, colours)
    colour = alt.Color("label:N", title=None, sort=names, scale=alt.Scale(domain=names, range=shades))
    panels, words = [], []
    for panel, part in rows.groupby("panel", sort=False):
        y_scale = alt.Scale(domain=list(domain), nice=False, clamp=True) if domain else alt.Scale(zero=True)
        ticks = sorted(part["x"].unique().tolist())
        y = alt.Y("mean:Q", title=y_titles.get(panel, y_titles.get(None)), scale=y_scale)
        x = alt.X("x:Q", title=x_title, axis=alt.Axis(values=ticks, format=".2~f"),
                  scale=alt.Scale(padding=12, nice=False, zero=False))  # fmt: skip
        base = alt.Chart(part).encode(x=x, color=colour)
        chart = layered(
            base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q"),
            base.mark_line().encode(y=y),
            base.mark_point(size=50, opacity=1).encode(y=y),
        )
        panels.append(chart.properties(width=210, height=230, title=str(panel)))
        for name, one in part.groupby("label", sort=False):
            pairs = zip(one["x"].tolist(), one["mean"].tolist(), strict=True)
            values = ", ".join(f"{number(mean)} at {place:g}" for place, mean in pairs)
            words.append(f"{panel}, {name}: {values}")
    chart = alt.hconcat(*panels, spacing=20)
    return chart.properties(title=chart_title(title, subtitle), description="; ".join(words))
