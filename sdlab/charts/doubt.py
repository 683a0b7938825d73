"""Charts of doubt: the fall of markers measured in two ways, and hedging against the belief's entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sdlab.charts.picture import INK, MUTED
from sdlab.charts.style import CONTEXT_COLOURS, GREEN, GREY, ORANGE, field, layered, need
from sdlab.charts.types import Frame
from sdlab.text.prompt import CONTEXT_LABELS

if TYPE_CHECKING:
    import altair as alt

WRITERS = {"reasoner": "#767676"} | {
    CONTEXT_LABELS[context]: colour for context, colour in CONTEXT_COLOURS.items()
}
OFFSET = 0.035  # bits between the dots of two writers in one bin


def fall_chart(
    table: Frame, *, title: str = "Marker count and marker density, by context", subtitle: str = ""
) -> alt.LayerChart:
    """Draw marker count and marker density per context, as shares of their first row, on a logarithmic scale.

    `table`: index context, columns markers (per completion) and density (per 1,000 tokens); the first row
    counts as 100%. Raises SdlabError when it is empty or lacks a column.
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
    shares = shares.rename(columns={"markers": "count per completion", "density": "per 1,000 tokens"}).melt(
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
    names = ["count per completion", "per 1,000 tokens"]
    dots = base.mark_point(size=120, opacity=1).encode(
        color=alt.Color("measure:N", title=None, scale=alt.Scale(domain=names, range=[ORANGE, GREEN])),
        shape=alt.Shape("measure:N", title=None, scale=alt.Scale(domain=names, range=["circle", "square"])),
    )
    words = "; ".join(f"{row.context}: {row.measure} {row.share:.0%}" for row in shares.itertuples())
    return layered(base.mark_line(color="#b3b3b3").encode(detail="context:N"), dots).properties(
        width=420, height={"step": 34}, title=alt.Title(title, subtitle=subtitle), description=words
    )


def doubt_chart(
    curve: Frame,
    law: Callable[[float], float],
    *,
    by: str = "who",
    habit: float | None = None,
    fewest: int = 6,
    title: str = "Share of hedged proposals against the belief's entropy",
    subtitle: str = "line: the reasoner's rule; dots: measured, 95% intervals by problem, slightly shifted",
) -> alt.LayerChart:
    """Draw the share of hedged proposals against belief entropy, with the reasoner's rule as a line.

    There is one dot with its interval per writer and bin. `curve`: from `sdlab.measure.doubt.doubt_curve`;
    bins of fewer than `fewest` problems are left out. `law`: entropy in bits -> probability. `habit`: height
    of a flat dotted line. Raises SdlabError when `curve` is empty or lacks a column.
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
    dots = dots.assign(place=dots["entropy"] + OFFSET * (dots[by].map(names.index) - (len(names) - 1) / 2))
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
    layers: list[alt.Chart] = [alt.Chart(line).mark_line(color=GREY).encode(x=x, y=y)]
    if habit is not None:
        flat = alt.Chart(
            pandas.DataFrame({"mean": [habit], "note": ["a habit that ignores the belief would be flat"]})
        )
        layers += [
            flat.mark_rule(strokeDash=[2, 4], strokeWidth=2, color=GREY).encode(y=y),
            flat.mark_text(align="left", dy=-9, color=MUTED, fontSize=12).encode(
                x=alt.value(6), y=y, text="note:N"
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
    return layered(*layers).properties(
        width=460, height=270, title=alt.Title(title, subtitle=subtitle), description=words
    )
