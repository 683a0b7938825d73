"""Charts of the untrained model: where training starts, and how often each problem is solved before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.picture import MUTED
from sdlab.charts.style import BLUE, RED, layered, need, number
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt
    import pandas


def figure_to_come(
    summary: Frame, *, title: str = "The score before training, and the question what training does"
) -> alt.LayerChart:
    """Draw an empty figure of score against training: the measured start and goal, and a question mark.

    `summary`: from `sdlab.measure.evaluation.summarise(frame, "context")`, with the contexts none and
    solution.
    Raises SdlabError when it is empty or lacks a column.
    """
    import altair as alt

    need(summary, ["context", "metric", "mean", "low", "high"], "figure_to_come")
    score = summary[summary["metric"] == "reward"].set_index("context")
    start, goal = (
        score.loc[["none"]].assign(x=0.0),
        score.loc[["solution"]].assign(note="with the solution in view (measured)"),
    )
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=[-0.03, 1]), axis=None)
    y = alt.Y(
        "mean:Q",
        title="score on new problems, no solution in view",
        scale=alt.Scale(domain=[0, 1.08], nice=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1]),
    )
    label = f"no training yet: {number(start['mean'].iloc[0])} (measured)"
    notes = alt.Chart(start.assign(note=label, direction="training →"))
    question_mark = alt.Chart(start.assign(x=0.5, mean=0.42, note="?"))
    layers = [
        question_mark.mark_text(fontSize=96, color="#cccccc").encode(x=x, y=y, text="note:N"),
        alt.Chart(goal).mark_rule(strokeDash=[6, 4], strokeWidth=2, color=RED).encode(y=y),
        alt.Chart(goal)
        .mark_text(align="right", dy=12, color=RED, fontSize=12)
        .encode(x=alt.value(436), y=y, text="note:N"),
        alt.Chart(start).mark_rule(strokeWidth=2, color=MUTED).encode(x=x, y="low:Q", y2="high:Q"),
        alt.Chart(start).mark_point(size=140, color=BLUE, opacity=1).encode(x=x, y=y),
        notes.mark_text(align="left", dx=12, dy=14, color=BLUE, fontSize=12).encode(x=x, y=y, text="note:N"),
        notes.mark_text(align="right", color=MUTED, fontSize=12).encode(
            x=alt.value(436), y=alt.value(204), text="direction:N"
        ),
    ]
    words = (
        f"A blue dot at {number(start['mean'].iloc[0])} where training starts, a dashed line at "
        f"{number(goal['mean'].iloc[0])} "
        "for the score with the solution in view, and between them a question mark"
    )
    subtitle = "the dot and the dashed line are measured above; guess the curve"
    return layered(*layers).properties(
        width=440, height=220, title=alt.Title(title, subtitle=subtitle), description=words
    )


def base_rate_chart(
    rates: pandas.Series,
    samples: int,
    low: float,
    high: float,
    *,
    title: str = "Pass rates of the base model",
) -> alt.Chart:
    """Draw how many problems have how many right completions of `samples`.

    Problems with a rate from `low` to `high` are chosen. `rates`: the share of right completions of every
    problem. Raises SdlabError when it is empty.
    """
    import altair as alt
    import numpy as np

    if not len(rates):
        raise SdlabError(
            "base_rate_chart got no rates; give the share of right completions of at least one problem"
        )
    right = (rates * samples).round().astype(int)
    counts = right.value_counts().reindex(range(samples + 1), fill_value=0)
    histogram = counts.rename_axis("right").reset_index(name="problems")
    is_chosen = (histogram["right"] / samples).between(low, high)
    histogram["selection"] = np.where(is_chosen, "chosen", "left out")
    colours = alt.Scale(domain=["chosen", "left out"], range=[BLUE, "#c9ced6"])
    x = alt.X("right:O", title=f"right completions of {samples}", axis=alt.Axis(labelAngle=0))
    bars = (
        alt.Chart(histogram)
        .mark_bar(size=26)
        .encode(x=x, y=alt.Y("problems:Q"), color=alt.Color("selection:N", title=None, scale=colours))
    )
    words = (
        f"Histogram of base pass rates; those from {low * samples:.0f}/{samples} to "
        f"{high * samples:.0f}/{samples} are chosen"
    )
    return bars.properties(width=420, height=180, title=title, description=words)
