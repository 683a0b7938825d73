"""Charts that one place of the walkthrough needs.

The figure to come (00), base pass rates (03), the cost of two training sets and the causes of wrong
completions (04).
"""

from __future__ import annotations

from sdlab.charts.picture import MUTED
from sdlab.charts.style import (
    BLUE,
    METHOD_COLOURS,
    METHOD_LABELS,
    RED,
    need,
    number,
)
from sdlab.errors import SdlabError

GREY = "#8c8c8c"


def figure_to_come(summary, *, title: str = "The figure to come"):
    """Draw score against training before any training: a start, a goal, and a question mark.

    Start and goal are measured. `summary`: from `sdlab.measure.evaluation.summarise(frame, "context")`, with
    contexts none and solution.
    """
    import altair as alt

    need(summary, ["context", "metric", "mean", "low", "high"], "figure_to_come")
    score = summary[summary["metric"] == "reward"].set_index("context")
    start, goal = (
        score.loc[["none"]].assign(x=0.0),
        score.loc[["solution"]].assign(says="with the solution in view (measured)"),
    )
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=[-0.03, 1]), axis=None)
    y = alt.Y(
        "mean:Q",
        title="score on new problems, no solution in view",
        scale=alt.Scale(domain=[0, 1.08], nice=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1]),
    )
    told = f"no training yet: {number(start['mean'].iloc[0])} (measured)"
    notes = alt.Chart(start.assign(says=told, then="training →"))
    mystery = alt.Chart(start.assign(x=0.5, mean=0.42, says="?"))
    layers = [
        mystery.mark_text(fontSize=96, color="#cccccc").encode(x=x, y=y, text="says:N"),
        alt.Chart(goal).mark_rule(strokeDash=[6, 4], strokeWidth=2, color=RED).encode(y=y),
        alt.Chart(goal)
        .mark_text(align="right", dy=12, color=RED, fontSize=12)
        .encode(x=alt.value(436), y=y, text="says:N"),
        alt.Chart(start).mark_rule(strokeWidth=2, color=MUTED).encode(x=x, y="low:Q", y2="high:Q"),
        alt.Chart(start).mark_point(size=140, color=BLUE, opacity=1).encode(x=x, y=y),
        notes.mark_text(align="left", dx=12, dy=14, color=BLUE, fontSize=12).encode(x=x, y=y, text="says:N"),
        notes.mark_text(align="right", color=MUTED, fontSize=12).encode(
            x=alt.value(436), y=alt.value(204), text="then:N"
        ),
    ]
    words = (
        f"A blue dot at {number(start['mean'].iloc[0])} where training starts, a dashed line at "
        f"{number(goal['mean'].iloc[0])} "
        "for the score with the solution in view, and between them a question mark"
    )
    subtitle = "the dot and the dashed line are measured above; the curve is for you to guess"
    return alt.layer(*layers).properties(
        width=440, height=220, title=alt.Title(title, subtitle=subtitle), description=words
    )


def base_rate_chart(
    rates, samples: int, low: float, high: float, *, title: str = "How often the base model is right"
):
    """Draw how many problems were solved in how many of `samples` completions.

    Problems with a rate from `low` to `high` are the selected ones. `rates`: a Series, the share of right
    completions of every problem.
    """
    import altair as alt
    import numpy as np

    if not len(rates):
        raise SdlabError(
            "base_rate_chart got no rates; give the share of right answers of at least one problem"
        )
    tried = (rates * samples).round().astype(int).value_counts().reindex(range(samples + 1), fill_value=0)
    spread = tried.rename_axis("right").reset_index(name="problems")
    spread["used"] = np.where((spread["right"] / samples).between(low, high), "chosen", "left out")
    colours = alt.Scale(domain=["chosen", "left out"], range=[BLUE, "#c9ced6"])
    x = alt.X("right:O", title=f"right of {samples} base samples", axis=alt.Axis(labelAngle=0))
    bars = (
        alt.Chart(spread)
        .mark_bar(size=26)
        .encode(x=x, y=alt.Y("problems:Q"), color=alt.Color("used:N", title=None, scale=colours))
    )
    words = (
        f"Histogram of base pass rates; those from {low * samples:.0f}/{samples} to "
        f"{high * samples:.0f}/{samples} are chosen"
    )
    return bars.properties(width=420, height=180, title=title, description=words)


def relative_changes(changes, *, title: str, subtitle: str = ""):
    """Draw changes of the score as shares of the score before: a row per `who`, a dot per model.

    A line from low to high is drawn where both are given. `changes`: columns who, model (a method's name),
    change, low, high, in the order to draw.
    """
    import altair as alt

    need(changes, ["who", "model", "change", "low", "high"], "relative_changes")
    shown = changes.assign(label=changes["model"].map(METHOD_LABELS))
    models = list(dict.fromkeys(changes["model"]))
    colours = alt.Scale(
        domain=[METHOD_LABELS[name] for name in models], range=[METHOD_COLOURS[name] for name in models]
    )
    base = alt.Chart(shown).encode(
        y=alt.Y("who:N", title=None, sort=list(shown["who"].unique())),
        yOffset="label:N",
        color=alt.Color("label:N", title=None, scale=colours),
    )
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("change:Q", title="change of the score, relative to base", axis=alt.Axis(format="+.0%"))
    )
    words = "; ".join(f"{row.who}, {row.label} {row.change:+.0%}" for row in shown.itertuples())
    return (base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q") + dots).properties(
        width=420, height=alt.Step(13), title=alt.Title(title, subtitle=subtitle), description=words
    )


def causes_chart(causes, *, title: str = "What made the answers wrong"):
    """Draw wrong completions by cause, as shares of all completions, one bar per method.

    There is a panel per split. `causes`: columns split, model (a method's name), cause (of
    `sdlab.measure.commits.CAUSES`, without "right") and share.
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
            x=alt.X("share:Q", title="share of all answers that are wrong", axis=alt.Axis(format="%")),
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
