"""Charts of coverage: types seen against problems drawn, exposures per problem, and groups of wordings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sdlab.charts.picture import INK, OKABE_ITO
from sdlab.charts.style import BLUE, layered, need, number
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

COLOURS = (*OKABE_ITO[:6], "#767676", "#000000", "#8c510a", "#a6d96a")


def _ticks(values: Iterable[float]) -> list[float]:
    """Return the ticks of a logarithmic axis within the range of `values`: 1, 2, 5, 10, 20, 50, ..."""
    values = [float(value) for value in values]
    low, high = min(values), max(values)
    return [m * 10**e for e in range(7) for m in (1, 2, 5) if low <= m * 10**e <= high]


def accumulation_chart(
    frame: Frame, *, title: str, y_title: str, subtitle: str = "", width: int = 430, height: int = 280
) -> alt.Chart:
    """Draw lines against the number of problems drawn, on logarithmic axes.

    `frame`: columns set, n, met. Raises SdlabError when one is missing, and for more than ten sets.
    """
    import altair as alt

    need(frame, ["set", "n", "met"], "accumulation_chart")
    names = list(dict.fromkeys(frame["set"]))
    if len(names) > len(COLOURS):
        raise SdlabError(
            f"accumulation_chart got {len(names)} sets ({', '.join(names)}); it has {len(COLOURS)} colours; "
            "draw fewer sets"
        )
    x = alt.X(
        "n:Q",
        title="problems drawn",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=_ticks(frame["n"]), format=","),
    )
    y = alt.Y(
        "met:Q",
        title=y_title,
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=_ticks(frame["met"]), format=","),
    )
    dashes = [[1, 0], [6, 3], [2, 2]]
    base = alt.Chart(frame).encode(
        x=x,
        y=y,
        color=alt.Color(
            "set:N", title=None, scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)]))
        ),
        strokeDash=alt.StrokeDash(
            "set:N",
            title=None,
            scale=alt.Scale(domain=names, range=[dashes[i % 3] for i in range(len(names))]),
        ),
    )
    last = frame.sort_values("n").groupby("set", sort=False).tail(1).set_index("set").loc[names]
    words = "; ".join(
        f"{name}: {number(row['met'])} of {row['n']:,.0f} drawn" for name, row in last.iterrows()
    )
    return base.mark_line().properties(
        width=width, height=height, title=alt.Title(title, subtitle=subtitle), description=words
    )


def exposure_bars(
    frame: Frame,
    *,
    title: str,
    subtitle: str = "",
    x_title: str = "exposures per distinct problem (log scale)",
) -> alt.LayerChart:
    """Draw exposures per distinct problem, one dot per set on a logarithmic scale.

    `frame`: columns set, exposures, and who (a colour). Raises SdlabError when one is missing.
    """
    import altair as alt

    need(frame, ["set", "exposures", "who"], "exposure_bars")
    frame = frame.assign(value_text=frame["exposures"].map(number))
    order = list(frame.sort_values("exposures")["set"])
    groups = list(dict.fromkeys(frame["who"]))
    base = alt.Chart(frame).encode(
        x=alt.X(
            "exposures:Q",
            title=x_title,
            scale=alt.Scale(type="log", nice=True),
            axis=alt.Axis(values=_ticks(frame["exposures"]), format=","),
        ),
        y=alt.Y("set:N", sort=order, title=None),
    )
    dots = base.mark_point(size=110, opacity=1).encode(
        color=alt.Color(
            "who:N", title=None, scale=alt.Scale(domain=groups, range=list(COLOURS[: len(groups)]))
        )
    )
    text = base.mark_text(align="left", dx=9, color=INK).encode(text="value_text:N")
    words = ", ".join(f"{row.set} {row.value_text}" for row in frame.sort_values("exposures").itertuples())
    return layered(dots, text).properties(
        width=420, height={"step": 24}, title=alt.Title(title, subtitle=subtitle), description=words
    )


def exposure_histogram(frame: Frame, *, title: str, subtitle: str = "", columns: int = 3) -> alt.ConcatChart:
    """Draw how often problems are used in training, one panel per plan.

    `frame`: columns plan, times, share. Raises SdlabError when one is missing.
    """
    import altair as alt

    need(frame, ["plan", "times", "share"], "exposure_histogram")
    panels = []
    for name, rows in frame.groupby("plan", sort=False):
        y = alt.Y(
            "share:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=4)
        )
        bars = (
            alt.Chart(rows)
            .mark_bar(color=BLUE)
            .encode(x=alt.X("times:O", title="times used", axis=alt.Axis(labelAngle=0)), y=y)
        )
        panels.append(bars.properties(width=190, height=140, title=alt.Title(name, fontSize=12)))
    words = "; ".join(
        f"{name}: never used {rows.loc[rows['times'] == 0, 'share'].sum():.0%}"
        for name, rows in frame.groupby("plan", sort=False)
    )
    return alt.concat(*panels, columns=columns, spacing=20).properties(
        title=alt.Title(title, subtitle=subtitle), description=words
    )


def silhouette_chart(frame: Frame, *, floor: float, title: str, subtitle: str = "") -> alt.LayerChart:
    """Draw the silhouette against the number of groups.

    `frame`: columns set, groups, silhouette, and peak ("" where there is none). `floor`: a silhouette, drawn
    as a dashed line. Raises SdlabError when a column is missing.
    """
    import altair as alt

    need(frame, ["set", "groups", "silhouette", "peak"], "silhouette_chart")
    names = list(dict.fromkeys(frame["set"]))
    x, y = (
        alt.X("groups:Q", title="number of groups"),
        alt.Y("silhouette:Q", title="silhouette", scale=alt.Scale(domain=[0, 1.06], nice=False)),
    )
    line = (
        alt.Chart(frame)
        .mark_line()
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "set:N", title=None, scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)]))
            ),
        )
    )
    rule = (
        alt.Chart(frame.head(1).assign(silhouette=floor))
        .mark_rule(strokeDash=[4, 4], color="#8c8c8c")
        .encode(y=y)
    )
    tops = alt.Chart(frame[frame["peak"] != ""])
    dots = tops.mark_point(size=110, color=INK, opacity=1).encode(x=x, y=y)
    text = tops.mark_text(dy=13, dx=6, align="left", color=INK).encode(x=x, y=y, text="peak:N")
    peaks = frame[frame["peak"] != ""]
    words = (
        "; ".join(f"{row.set}: {row.peak} at silhouette {row.silhouette:.2f}" for row in peaks.itertuples())
        or "no peak"
    )
    return layered(rule, line, dots, text).properties(
        width=480, height=250, title=alt.Title(title, subtitle=subtitle), description=words
    )
