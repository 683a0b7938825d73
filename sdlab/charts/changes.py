"""Charts of what training changes: the score relative to the start, and the causes of wrong completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.style import METHOD_COLOURS, METHOD_LABELS, layered, need
from sdlab.charts.types import Frame

if TYPE_CHECKING:
    import altair as alt


def relative_changes(changes: Frame, *, title: str, subtitle: str = "") -> alt.LayerChart:
    """Draw changes of the score as shares of the score before training: a row per `who`, a dot per model.

    A line goes from low to high where the frame has both. `changes`: columns who, model (a method's name),
    change, low, high, in the order to draw. Raises SdlabError when it is empty or lacks a column.
    """
    import altair as alt

    need(changes, ["who", "model", "change", "low", "high"], "relative_changes")
    rows = changes.assign(label=changes["model"].map(METHOD_LABELS))
    models = list(dict.fromkeys(changes["model"]))
    colours = alt.Scale(
        domain=[METHOD_LABELS[name] for name in models], range=[METHOD_COLOURS[name] for name in models]
    )
    base = alt.Chart(rows).encode(
        y=alt.Y("who:N", title=None, sort=list(rows["who"].unique())),
        yOffset="label:N",
        color=alt.Color("label:N", title=None, scale=colours),
    )
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X(
            "change:Q", title="change of the score, relative to the base model", axis=alt.Axis(format="+.0%")
        )
    )
    words = "; ".join(f"{row.who}, {row.label} {row.change:+.0%}" for row in rows.itertuples())
    return layered(base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"), dots).properties(
        width=420, height=alt.Step(13), title=alt.Title(title, subtitle=subtitle), description=words
    )


def causes_chart(causes: Frame, *, title: str = "The cause of each wrong completion") -> alt.Chart:
    """Draw wrong completions by cause, as shares of all completions: one panel per split, one bar per method.

    `causes`: columns split, model (a method's name), cause (of `sdlab.measure.commits.CAUSES`, without
    "right") and share. Raises SdlabError when it is empty or lacks a column.
    """
    import altair as alt

    from sdlab.measure.commits import CAUSES

    need(causes, ["split", "model", "cause", "share"], "causes_chart")
    causes = causes.assign(label=causes["model"].map(METHOD_LABELS))
    order = [label for name, label in METHOD_LABELS.items() if name in set(causes["model"])]
    words = "; ".join(f"{row.split}, {row.label}, {row.cause} {row.share:.0%}" for row in causes.itertuples())
    return (
        alt.Chart(causes)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of all completions that are wrong", axis=alt.Axis(format="%")),
            y=alt.Y("label:N", title=None, sort=order),
            color=alt.Color(
                "cause:N", title="cause", sort=list(CAUSES), scale=alt.Scale(domain=list(CAUSES[1:]))
            ),
            order=alt.Order("place:Q"),
            row=alt.Row("split:N", title=None),
        )
        .transform_calculate(place=f"indexof({list(CAUSES)}, datum.cause)")
        .properties(width=420, height=alt.Step(26), title=title, description=words)
    )
