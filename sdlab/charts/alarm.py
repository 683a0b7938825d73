"""Charts of the alarm: which measure of a run separates failed from healthy runs, and how early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.curves import STROKES
from sdlab.charts.picture import OKABE_ITO
from sdlab.charts.style import chart_title, layered, need, number

if TYPE_CHECKING:
    import altair as alt
    import pandas

COLUMNS = ("label", "step", "auroc", "low", "high", "runs")


def alarm_chart(
    table: pandas.DataFrame,
    *,
    title: str = "How well each measure separates failed from healthy runs, by step",
    subtitle: str = "bars: 95% intervals, conditions resampled",
    width: int = 420,
) -> alt.LayerChart:
    """Draw the area under the ROC curve against the number of steps, with one line per measure.

    `table`: from `sdlab.study.alarm.auroc_table`. Bars are intervals; a dotted line marks 0.5, which is no
    better than a coin. Measures without any run are left out.

    Raises SdlabError when a column is missing or no measure has a run.
    """
    import altair as alt
    import pandas

    need(table, COLUMNS, "alarm_chart")
    rows = table[table["auroc"].notna()][list(COLUMNS)]
    need(rows, COLUMNS, "alarm_chart")
    names = list(dict.fromkeys(rows["label"]))
    # set apart a little, so that bars do not hide each other
    place = {name: (i - (len(names) - 1) / 2) * 0.06 for i, name in enumerate(names)}
    rows = rows.assign(place=rows["step"] + rows["label"].map(place))
    colour = alt.Color(
        "label:N",
        title=None,
        sort=names,
        scale=alt.Scale(domain=names, range=[OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(names))]),
        legend=alt.Legend(**STROKES),
    )
    dash = alt.StrokeDash(
        "label:N",
        sort=names,
        legend=None,
        scale=alt.Scale(
            domain=names, range=[[1, 0] if i < len(OKABE_ITO) else [5, 3] for i in range(len(names))]
        ),
    )
    steps = sorted(rows["step"].unique().tolist())
    x = alt.X(
        "place:Q",
        title="training steps",
        axis=alt.Axis(values=steps, format="d"),
        scale=alt.Scale(domain=[steps[0] - 0.5, steps[-1] + 0.5], nice=False),
    )
    y = alt.Y(
        "auroc:Q",
        title="area under the ROC curve",
        scale=alt.Scale(domain=[min(0.45, float(rows["low"].min())), 1.0], nice=False),
        axis=alt.Axis(tickCount=6, format=".1f"),
    )
    base = alt.Chart(rows).encode(x=x, color=colour)
    chance = alt.Chart(pandas.DataFrame({"auroc": [0.5]})).mark_rule(strokeDash=[2, 4], color="#767676")
    words = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{number(area)} after {step} steps"
            for area, step in zip(part["auroc"].tolist(), part["step"].tolist(), strict=True)
        )
        for name, part in rows.groupby("label", sort=False)
    )
    return layered(
        chance.encode(y=y),
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y="low:Q", y2="high:Q"),
        base.mark_line().encode(y=y, strokeDash=dash),
        base.mark_point(size=50, opacity=1).encode(y=y),
    ).properties(width=width, height=270, title=chart_title(title, subtitle), description=words)
