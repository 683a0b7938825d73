"""Pictures made for one place of the walkthrough: the figure to come (00), a fall told twice and doubt against belief (02), and more.

Base pass rates (03), what two training sets cost and what made answers wrong (04), the clipped objective (05), a capped divergence (06).
"""

from __future__ import annotations

from math import log

from sdlab.charts.picture import INK, MUTED
from sdlab.charts.style import (
    BLUE,
    CONTEXT_COLOURS,
    GREEN,
    METHOD_COLOURS,
    METHOD_LABELS,
    ORANGE,
    RED,
    field,
    need,
    number,
)
from sdlab.errors import SdlabError
from sdlab.text.prompt import CONTEXT_LABELS

GREY = "#8c8c8c"
WRITERS = {"reasoner": "#767676"} | {
    CONTEXT_LABELS[context]: colour for context, colour in CONTEXT_COLOURS.items()
}
APART = 0.035  # bits between the dots of two writers in one bin


def figure_to_come(summary, *, title: str = "The figure to come"):
    """Score against training, before there is any training: a measured start, a measured goal, and a question mark.

    `summary` as `sdlab.measure.evaluation.summarise(frame, "context")` makes it, with contexts none and solution.
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
        f"A blue dot at {number(start['mean'].iloc[0])} where training starts, a dashed line at {number(goal['mean'].iloc[0])} "
        "for the score with the solution in view, and between them a question mark"
    )
    subtitle = "the dot and the dashed line are measured above; the curve is for you to guess"
    return alt.layer(*layers).properties(
        width=440, height=220, title=alt.Title(title, subtitle=subtitle), description=words
    )


def fall_chart(table, *, title: str = "One fall, told twice", subtitle: str = ""):
    """Count per answer and density per context, as shares of their first row, on a scale where each line halves.

    `table`: index context, columns markers (per answer) and density (per 1,000 tokens); the first row is the whole.
    """
    import altair as alt

    need(table, ["markers", "density"], "fall_chart")
    shares = (
        (table[["markers", "density"]] / table[["markers", "density"]].iloc[0])
        .rename_axis("context")
        .reset_index()
    )
    shares["context"] = shares["context"].map(lambda name: CONTEXT_LABELS.get(name, name))
    order = list(shares["context"])
    shares = shares.rename(columns={"markers": "count per answer", "density": "per 1,000 tokens"}).melt(
        "context", var_name="measure", value_name="share"
    )
    floor = min(0.8 * shares["share"].min(), 0.9)
    ticks = [2.0**-n for n in range(8) if 2.0**-n >= floor]
    base = alt.Chart(shares).encode(
        x=alt.X(
            "share:Q",
            title="share of the value without context, in halves",
            scale=alt.Scale(type="log", domain=[floor, 1.15], nice=False),
            axis=alt.Axis(values=ticks, format=".2~p"),
        ),
        y=alt.Y("context:N", sort=order, title=None),
    )
    names = ["count per answer", "per 1,000 tokens"]
    dots = base.mark_point(size=120, opacity=1).encode(
        color=alt.Color("measure:N", title=None, scale=alt.Scale(domain=names, range=[ORANGE, GREEN])),
        shape=alt.Shape("measure:N", title=None, scale=alt.Scale(domain=names, range=["circle", "square"])),
    )
    words = "; ".join(f"{row.context}: {row.measure} {row.share:.0%}" for row in shares.itertuples())
    return (base.mark_line(color="#b3b3b3").encode(detail="context:N") + dots).properties(
        width=420, height={"step": 34}, title=alt.Title(title, subtitle=subtitle), description=words
    )


def doubt_chart(
    curve,
    law,
    *,
    by: str = "who",
    habit: float | None = None,
    fewest: int = 6,
    title: str = "Share of hedged proposals against the belief's entropy",
    subtitle: str = "line: the reasoner's rule; dots: measured, 95% intervals by problem, set apart a little",
):
    """Share of hedged proposals against belief entropy: one dot with its interval per writer and bin, and the rule as a line.

    `curve` as `sdlab.measure.doubt.doubt_curve` makes it; bins of fewer than `fewest` problems are left out.
    `law`: entropy in bits -> probability. `habit`: where a flat line would lie, drawn dotted when given.
    """
    import altair as alt
    import pandas

    need(curve, [by, "entropy", "mean", "low", "high", "problems"], "doubt_chart")
    dots = curve[curve["problems"] >= fewest]
    names = [name for name in WRITERS if name in set(dots[by])] + [
        n for n in dict.fromkeys(dots[by]) if n not in WRITERS
    ]
    spare = [ORANGE, GREEN, INK]
    scale = alt.Scale(domain=names, range=[WRITERS.get(name) or spare[i % 3] for i, name in enumerate(names)])
    shapes = alt.Scale(domain=names, range=["circle", "square", "triangle-up", "diamond"][: len(names)])
    dots = dots.assign(place=dots["entropy"] + APART * (dots[by].map(names.index) - (len(names) - 1) / 2))
    top = 1.05 * float(curve["entropy"].max())
    line = pandas.DataFrame([{"entropy": top * i / 100, "mean": law(top * i / 100)} for i in range(101)])
    x = alt.X(
        "entropy:Q",
        title="entropy of the rational belief (bits)",
        axis=alt.Axis(tickCount=6),
        scale=alt.Scale(domain=[-0.1, top], nice=False),
    )
    y = alt.Y(
        "mean:Q",
        title="share of proposals that hedge",
        axis=alt.Axis(format=".0%", tickCount=5),
        scale=alt.Scale(domain=[0, 1.04], nice=False),
    )
    layers = [alt.Chart(line).mark_line(color=GREY).encode(x=x, y=y)]
    if habit is not None:
        flat = alt.Chart(pandas.DataFrame({"mean": [habit], "says": ["a habit of speech would be flat"]}))
        layers += [
            flat.mark_rule(strokeDash=[2, 4], strokeWidth=2, color=GREY).encode(y=y),
            flat.mark_text(align="left", dy=-9, color=MUTED, fontSize=12).encode(
                x=alt.value(6), y=y, text="says:N"
            ),
        ]
    base = alt.Chart(dots).encode(
        x=alt.X("place:Q"), color=alt.Color(field(by, "N"), title=None, scale=scale)
    )
    layers += [
        base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        base.mark_point(size=90, opacity=0.9).encode(
            y=y, shape=alt.Shape(field(by, "N"), title=None, scale=shapes)
        ),
    ]
    words = "; ".join(
        f"{name}: " + ", ".join(f"{row.mean:.0%} at {row.entropy:.1f} bits" for row in part.itertuples())
        for name, part in dots.groupby(by, sort=False)
    )
    return alt.layer(*layers).properties(
        width=460, height=270, title=alt.Title(title, subtitle=subtitle), description=words
    )


def base_rate_chart(
    rates, samples: int, low: float, high: float, *, title: str = "How often the base model is right"
):
    """How many problems were solved in how many of `samples` tries; those with a rate from `low` to `high` are the chosen ones.

    `rates`: a Series, the share of right answers of every problem that was tried.
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
    words = f"Histogram of base pass rates; those from {low * samples:.0f}/{samples} to {high * samples:.0f}/{samples} are chosen"
    return bars.properties(width=420, height=180, title=title, description=words)


def relative_changes(changes, *, title: str, subtitle: str = ""):
    """Changes of the score as shares of what it was: a row per `who`, a dot per model, a line from low to high where they are given.

    `changes`: columns who, model (a method's name), change, low, high, in the order to show.
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
    """Wrong answers by cause, as shares of all answers: stacked bars, one per method, a panel per split.

    `causes`: columns split, model (a method's name), cause (of `sdlab.measure.commits.CAUSES`, "right" left out) and share.
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


def clip_chart(
    lines,
    cases,
    limits: tuple[float, float],
    *,
    title: str = "Far enough is enough",
    subtitle: str = "where the line is flat the token is no longer pushed; dashed: the clip range",
):
    """GRPO's objective of one token against its ratio, a line per advantage; dots: single cases; dashed: the two `limits` of the ratio.

    `lines`: columns ratio, objective, advantage; `cases`: the same and push, the derivative by the token's log-probability.
    """
    import altair as alt
    import pandas

    need(lines, ["ratio", "objective", "advantage"], "clip_chart")
    need(cases, ["ratio", "objective", "advantage", "push"], "clip_chart")
    lines, dots = (
        frame.assign(advantage=frame["advantage"].map("{:+.0f}".format)) for frame in (lines, cases)
    )
    ends = [round(float(end), 2) for end in (lines["ratio"].min(), lines["ratio"].max())]
    x = alt.X(
        "ratio:Q",
        title="ratio: probability now / when sampled",
        scale=alt.Scale(domain=ends, nice=False, zero=False),
    )
    axes = {"x": x, "y": alt.Y("objective:Q", scale=alt.Scale(zero=False))}
    colour = alt.Color(
        "advantage:N", title="advantage", scale=alt.Scale(domain=["+1", "-1"], range=[BLUE, RED])
    )
    curve = alt.Chart(lines).mark_line().encode(**axes, color=colour)
    points = alt.Chart(dots).mark_point(filled=True, size=80, opacity=1).encode(**axes, color=colour)
    rules = (
        alt.Chart(pandas.DataFrame({"ratio": list(limits)}))
        .mark_rule(strokeDash=[4, 4], color=GREY)
        .encode(x=x)
    )
    words = "; ".join(
        f"advantage {row.advantage:+.0f}, ratio {row.ratio}: objective {row.objective:.2f}, push {row.push:.2f}"
        for row in cases.itertuples()
    )
    return alt.layer(rules, curve, points).properties(
        width=440, height=220, description=words, title=alt.Title(title, subtitle=subtitle)
    )


def divergence_chart(lines, *, title: str = "One token, one objection (dashed: log 2)"):
    """The divergence between two distributions as the teacher's chance for a word goes to zero: columns p, alpha (a name) and nats."""
    import altair as alt
    import pandas

    need(lines, ["p", "alpha", "nats"], "divergence_chart")
    axis = alt.Axis(values=[1, 1e-2, 1e-4, 1e-6, 1e-8], format="~e")
    x = alt.X(
        "p:Q",
        scale=alt.Scale(type="log", domain=[1, 1e-8]),
        title="teacher's chance for a word the student gives .9",
        axis=axis,
    )
    curve = (
        alt.Chart(lines)
        .mark_line()
        .encode(x=x, y=alt.Y("nats:Q", title="divergence (nats)"), color=alt.Color("alpha:N", title="alpha"))
    )
    bound = alt.Chart(pandas.DataFrame({"y": [log(2)]})).mark_rule(strokeDash=[4, 3]).encode(y="y:Q")
    words = "; ".join(
        f"alpha {name}: up to {most:.2f} nats" for name, most in lines.groupby("alpha")["nats"].max().items()
    )
    return (curve + bound).properties(width=420, height=200, title=title, description=words)
