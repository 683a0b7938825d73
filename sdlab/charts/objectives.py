"""Charts of training objectives: GRPO's clipped objective, and divergences against their bound."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from sdlab.charts.style import BLUE, GREY, RED, layered, need
from sdlab.charts.types import Frame, Options

if TYPE_CHECKING:
    import altair as alt


def clip_chart(
    lines: Frame,
    cases: Frame,
    limits: tuple[float, float],
    *,
    title: str = "",
    subtitle: str = "where the line is flat the token has no gradient; dashed: the clip range",
) -> alt.LayerChart:
    """Draw GRPO's objective of one token against its ratio, a line per advantage.

    Dots are single cases; dashed lines are the two `limits` of the ratio. `lines`: columns ratio, objective,
    advantage. `cases`: the same columns and push, the derivative with respect to the token's log-probability.
    Without a title it names the limit beyond which the line of each sign is flat. Raises SdlabError when a
    frame is empty or lacks a column.
    """
    import altair as alt
    import pandas

    title = title or f"Flat above {limits[1]:g} if the advantage is positive, below {limits[0]:g} if negative"
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
    axes: Options = {"x": x, "y": alt.Y("objective:Q", scale=alt.Scale(zero=False))}
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
        f"advantage {row.advantage:+.0f}, ratio {row.ratio}: objective {row.objective:.2f}, push "
        f"{row.push:.2f}"
        for row in cases.itertuples()
    )
    return layered(rules, curve, points).properties(
        width=440, height=220, description=words, title=alt.Title(title, subtitle=subtitle)
    )


def divergence_chart(lines: Frame, *, title: str = "") -> alt.LayerChart:
    """Draw the divergence of two distributions as the teacher's probability of a token goes to zero.

    `lines`: columns p, alpha (a name) and nats. Without a title it names the largest divergence, and the
    alphas that stay below log 2. Raises SdlabError when the frame is empty or lacks a column.
    """
    import altair as alt
    import pandas

    need(lines, ["p", "alpha", "nats"], "divergence_chart")
    axis = alt.Axis(values=[1, 1e-2, 1e-4, 1e-6, 1e-8], format="~e")
    x = alt.X(
        "p:Q",
        scale=alt.Scale(type="log", domain=[1, 1e-8]),
        title="teacher's probability of a token that the student gives 0.9",
        axis=axis,
    )
    curve = (
        alt.Chart(lines)
        .mark_line()
        .encode(x=x, y=alt.Y("nats:Q", title="divergence (nats)"), color=alt.Color("alpha:N", title="alpha"))
    )
    bound = alt.Chart(pandas.DataFrame({"y": [log(2)]})).mark_rule(strokeDash=[4, 3]).encode(y="y:Q")
    largest = lines.groupby("alpha")["nats"].max()
    words = "; ".join(f"alpha {name}: up to {most:.2f} nats" for name, most in largest.items())
    below = [str(name) for name, most in largest.items() if most < log(2)]
    bounded = f"; alpha {', '.join(below)} stays below log 2 (dashed)" if below else " (dashed: log 2)"
    title = title or f"Alpha {largest.idxmax()} reaches {largest.max():.2g} nats{bounded}"
    return layered(curve, bound).properties(width=420, height=200, title=title, description=words)
