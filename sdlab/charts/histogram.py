"""A histogram of problems by their pass rate: how alike are the problems of a benchmark?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdlab.charts.evaluations import models_and_colours
from sdlab.charts.style import chart_title
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

    from sdlab.results.result import Result

BINS = 5


def rate_histogram(
    results: Sequence[Result], *, title: str = "", subtitle: str = "", width: int = 300
) -> alt.ConcatChart:
    """Draw, for each result, how many problems have a pass rate in each fifth of 0 to 1.

    Problems without a verdict are left out.

    Raises SdlabError when no problem has a verdict.
    """
    import altair as alt
    import pandas

    tables = [result.problems.assign(model=result.model) for result in results]
    frame = pandas.concat(tables, ignore_index=True).dropna(subset=["rate"]) if tables else pandas.DataFrame()
    if frame.empty:
        raise SdlabError(
            "rate_histogram found no problem with a verdict; give results with graded completions"
        )
    place = (frame["rate"] * BINS).clip(upper=BINS - 1e-9).astype(int)
    ranges = [f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}" for i in range(BINS)]
    counts = frame.assign(range=[ranges[i] for i in place]).groupby(["model", "range"]).size()
    panels, words = [], []
    for name, shade in zip(*models_and_colours(frame), strict=True):
        rows = pandas.DataFrame(
            {"range": ranges, "problems": [int(counts.get((name, r), 0)) for r in ranges]}
        )
        bars = alt.Chart(rows).mark_bar(color=shade)
        panels.append(
            bars.encode(
                x=alt.X("range:N", sort=ranges, title="pass rate", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("problems:Q", title="problems", axis=alt.Axis(tickMinStep=1, format="d")),
            ).properties(width=width, height=150, title=alt.Title(str(name), fontSize=13))
        )
        words.append(f"{name}: " + ", ".join(f"{row.problems} at {row.range}" for row in rows.itertuples()))
    chart = alt.concat(*panels, columns=2, spacing=24).resolve_scale(y="shared")
    return chart.properties(title=chart_title(title, subtitle), description="; ".join(words))
