"""Score against completion length, for several models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.evaluations import SOLID, models_and_colours
from sdlab.charts.picture import INK, MUTED
from sdlab.charts.style import chart_title, layered, need, number
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
DESCRIBED = 12  # rows in the text alternative


def score_against_length(
    table: Frame,
    *,
    title: str = "Score against length",
    subtitle: str = "lines: 95% intervals over problems",
    width: int = 460,
    height: int = 300,
) -> alt.LayerChart:
    """Draw score against mean length (logarithmic), a point per model and benchmark, with both intervals.

    A colour is a model, a shape a benchmark. `table`: from `sdlab.results.comparison.comparison`. Points
    whose lengths are in words are hollow.

    Raises SdlabError when no result has both a score and a length.
    """
    import altair as alt

    need(table, ["model", "benchmark", "metric", "mean", "low", "high", "unit"], "score_against_length")
    parts = [
        table[table["metric"] == metric].set_index(["model", "benchmark"]) for metric in ("reward", "length")
    ]
    lengths = parts[1][["mean", "low", "high", "unit"]].rename(
        columns=lambda name: name if name == "unit" else f"{name}_length"
    )
    missing = table[table["metric"] == "no_answer"].set_index(["model", "benchmark"])["mean"]
    frame = parts[0][["mean", "low", "high"]].join(lengths, how="inner")
    frame = frame.join(missing.rename("no_answer")).fillna({"no_answer": 0.0}).reset_index()
    frame = frame[frame["mean_length"] > 0]
    if frame.empty:
        raise SdlabError("score_against_length needs results with a score and a length; none has both")
    # The logarithmic axis needs positive numbers.
    frame["low_length"] = frame["low_length"].clip(lower=frame["mean_length"] / 1000)
    names, shades = models_and_colours(frame)
    places = list(dict.fromkeys(frame["benchmark"]))
    hover = (
        "datum.model + ', ' + datum.benchmark + ': score ' + format(datum.mean, '.2f') + ' (' + "
        "format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f')"
        " + '), length ' + format(datum.mean_length, ',.0f') + ' ' + datum.unit"
        " + (datum.no_answer > 0 ? ', no readable answer: ' + format(datum.no_answer, '.0%') : '')"
    )
    units = list(dict.fromkeys(frame["unit"]))
    x_title = "length (" + ("tokens; hollow: words" if len(units) > 1 else units[0]) + ")"
    base = alt.Chart(frame).encode(
        color=alt.Color(
            "model:N", title="model", scale=alt.Scale(domain=names, range=shades), legend=alt.Legend(**SOLID)
        )
    )
    x = alt.X(
        "mean_length:Q",
        title=x_title,
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(format="~s", tickCount=5, grid=False),
    )
    y = alt.Y("mean:Q", title="score", scale=alt.Scale(domain=[0, 1]))
    shape = alt.Shape(
        "benchmark:N",
        title="benchmark",
        scale=alt.Scale(domain=places, range=[SHAPES[i % len(SHAPES)] for i in range(len(places))]),
        legend=alt.Legend(symbolFillColor=MUTED, symbolStrokeColor=INK),
    )
    layers = [
        base.mark_rule(strokeWidth=1.5, opacity=0.5, aria=False).encode(
            x=x, y=alt.Y("low:Q", title="score"), y2="high:Q"
        ),
        base.mark_rule(strokeWidth=1.5, opacity=0.5, aria=False).encode(
            x=alt.X("low_length:Q", title=x_title), x2="high_length:Q", y=y
        ),
    ]
    for unit in units:
        points = base.transform_filter(f"datum.unit == '{unit}'").mark_point(
            filled=unit == "tokens", size=110, opacity=1, strokeWidth=2
        )
        layers.append(
            points.encode(x=x, y=y, shape=shape, description=alt.Description("hover:N")).transform_calculate(
                hover=hover
            )
        )
    rows = [
        f"{row.model} on {row.benchmark}: score {number(row.mean)} ({number(row.low)} to {number(row.high)}) "
        f"at {number(row.mean_length)} {row.unit}"
        + (f", {row.no_answer:.0%} without a readable answer" if row.no_answer > 0 else "")
        for row in frame.head(DESCRIBED).itertuples()
    ]
    words = "; ".join(rows) + ("; and more" if len(frame) > DESCRIBED else "")
    return layered(*layers).properties(
        width=width,
        height=height,
        title=chart_title(title, subtitle + _unread(frame)),
        description=words,
    )


def _unread(frame: Frame) -> str:
    """Return which points include completions without a readable answer, or ""."""
    rows = frame[frame["no_answer"] > 0].head(DESCRIBED)
    words = [f"{row.model} on {row.benchmark} {row.no_answer:.0%}" for row in rows.itertuples()]
    return f"; without a readable answer: {', '.join(words)}" if words else ""
