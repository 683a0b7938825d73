"""Charts of coverage: types met as problems are drawn, exposures per problem, and groups of wordings."""

from __future__ import annotations

from sdlab.charts.picture import INK, OKABE_ITO
from sdlab.charts.style import BLUE, need, number
from sdlab.errors import SdlabError

COLOURS = (*OKABE_ITO[:6], "#767676", "#000000", "#8c510a", "#a6d96a")


def _ticks(values) -> list[float]:
    """Return the ticks of a logarithmic axis within the range of `values`: 1, 2, 5, 10, 20, 50, ..."""
    low, high = float(min(values)), float(max(values))
    return [m * 10**e for e in range(7) for m in (1, 2, 5) if low <= m * 10**e <= high]


def accumulation_chart(
    frame, *, title: str, y_title: str, subtitle: str = "", width: int = 430, height: int = 280
):
    """Draw lines against the number of problems drawn, on logarithmic axes.

    Columns: set, n, met. At most ten sets.
    """
    import altair as alt

    need(frame, ["set", "n", "met"], "accumulation_chart")
    names = list(dict.fromkeys(frame["set"]))
    if len(names) > len(COLOURS):
        raise SdlabError(
            f"accumulation_chart tells {len(COLOURS)} sets apart; got {len(names)}: {', '.join(names)}"
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
    frame,
    *,
    title: str,
    subtitle: str = "",
    x_title: str = "times that a distinct question is asked (log scale)",
):
    """Draw exposures per distinct problem, one dot per set on a logarithmic scale.

    Columns: set, exposures, and who (a colour).
    """
    import altair as alt

    need(frame, ["set", "exposures", "who"], "exposure_bars")
    frame = frame.assign(shown=frame["exposures"].map(number))
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
    text = base.mark_text(align="left", dx=9, color=INK).encode(text="shown:N")
    words = ", ".join(f"{row.set} {row.shown}" for row in frame.sort_values("exposures").itertuples())
    return (dots + text).properties(
        width=420, height={"step": 24}, title=alt.Title(title, subtitle=subtitle), description=words
    )


def exposure_histogram(frame, *, title: str, subtitle: str = "", columns: int = 3):
    """Draw how often problems are used in training, one panel per plan.

    Columns: plan, times, share.
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
            .encode(x=alt.X("times:O", title="times asked", axis=alt.Axis(labelAngle=0)), y=y)
        )
        panels.append(bars.properties(width=190, height=140, title=alt.Title(name, fontSize=12)))
    words = "; ".join(
        f"{name}: never asked {rows.loc[rows['times'] == 0, 'share'].sum():.0%}"
        for name, rows in frame.groupby("plan", sort=False)
    )
    return alt.concat(*panels, columns=columns, spacing=20).properties(
        title=alt.Title(title, subtitle=subtitle), description=words
    )


def silhouette_chart(frame, *, floor: float, title: str, subtitle: str = ""):
    """Draw the silhouette against the number of groups.

    Columns: set, groups, silhouette, and peak ("" where there is none).
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
    return (rule + line + dots + text).properties(
        width=480, height=250, title=alt.Title(title, subtitle=subtitle), description=words
    )
