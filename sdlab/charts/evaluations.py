"""Charts of evaluations: pass rates per problem, pass@k, and score against length, for any models.

They take the frames of `sdlab.results.result` and `sdlab.results.comparison`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from sdlab.charts.picture import OKABE_ITO
from sdlab.charts.style import chart_title, layered, need, number
from sdlab.charts.types import Frame, Options
from sdlab.errors import SdlabError
from sdlab.text.plural import plural

if TYPE_CHECKING:
    import altair as alt

    from sdlab.results.result import Result

NAMED = 60  # with more problems the rows of `pass_rates` have no names
# Without these the legend of a chart with bands and lines would be as pale as they are.
SOLID: Options = {"symbolOpacity": 1, "symbolType": "circle", "symbolStrokeWidth": 0, "symbolSize": 90}


def models_and_colours(frame: Frame) -> tuple[list[str], list[str]]:
    """Return the models in order of appearance, and their colours.

    Colours repeat when there are more models than the palette has.
    """
    names = list(dict.fromkeys(frame["model"]))
    return names, [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(names))]


def pass_rates(
    results: Sequence[Result],
    *,
    title: str = "Each problem's pass rate",
    subtitle: str = "",
    width: int = 420,
) -> alt.LayerChart:
    """Draw one row per problem, with a dot per model and its exact 95% interval.

    Rows are sorted by the first model's rate. `results`: `sdlab.results.result.Result` of one or several
    models on one benchmark; problems are matched by their prompts. Problems without a verdict are left out.

    Raises SdlabError for results of several benchmarks, and when no completion has a verdict.
    """
    import altair as alt
    import pandas

    benchmarks = {result.benchmark for result in results}
    if len(benchmarks) != 1:
        raise SdlabError(
            f"pass_rates got results of {len(benchmarks)} benchmarks; it shows one; choose the results of one"
        )
    tables = [result.problems.assign(model=result.model) for result in results]
    frame = cast(Frame, pandas.concat(tables, ignore_index=True))
    frame = frame.dropna(subset=["rate"])[
        ["key", "problem_id", "model", "rate", "low", "high", "right", "graded"]
    ]
    need(frame, ["rate"], "pass_rates")
    names, shades = models_and_colours(frame)
    first = frame[frame["model"] == names[0]].sort_values(["rate", "problem_id"], ascending=[False, True])
    order = list(dict.fromkeys([*first["key"], *frame["key"]]))
    backwards = frame.iloc[::-1]  # so that the first model's name of a problem is the one that stays
    labels = dict(zip(backwards["key"], backwards["problem_id"], strict=True))
    shared = {label for label, count in Counter(labels.values()).items() if count > 1}  # by several prompts
    labels = {key: f"{label} ({key[:4]})" if label in shared else label for key, label in labels.items()}
    frame["problem"] = frame["key"].map(labels)
    several, named = len(names) > 1, len(order) <= NAMED
    axis = alt.Axis(labels=named, ticks=False, domain=False, grid=named, labelLimit=160)
    hover = (
        "datum.problem + ', ' + datum.model + ': ' + datum.right + ' of ' + datum.graded + ' right, ' + "
        "format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f')"
    )
    offset: Options = {"yOffset": alt.YOffset("model:N", sort=names)} if several else {}
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "problem:N",
            sort=[labels[key] for key in order],
            title=None if named else plural(len(order), "problem"),
            axis=axis,
        ),
        color=alt.Color(
            "model:N",
            title=None,
            scale=alt.Scale(domain=names, range=shades),
            legend=alt.Legend(orient="top", columns=1, **SOLID) if several else None,
        ),
        **offset,
    )
    whisker = base.mark_rule(
        strokeWidth=1.5 if named else 0.5, opacity=0.6 if named else 0.25, aria=False
    ).encode(
        x=alt.X("low:Q", title="share of right completions", scale=alt.Scale(domain=[0, 1])), x2="high:Q"
    )
    dot = (
        base.mark_point(filled=True, size=45 if named else 14, opacity=1)
        .encode(x="rate:Q", description=alt.Description("hover:N"))
        .transform_calculate(hover=hover)
    )
    words = []
    for name in names:
        own = frame[frame["model"] == name]
        gap = (own["high"] - own["low"]).median()
        words.append(
            f"{name}: {(own['rate'] == 0).sum()} of {plural(len(own), 'problem')} never solved, "
            f"{(own['rate'] == 1).sum()} always; "
            f"mean {own['rate'].mean():.2f}; half of the intervals are wider than {gap:.2f}"
        )
    unread = [
        f"{result.model}: {result.unreadable} completions have no readable answer"
        for result in results
        if result.unreadable_count
    ]
    step = (11 if several else 16) if named else max(1, 600 // (len(order) * len(names)))
    return layered(whisker, dot).properties(
        width=width,
        height=alt.Step(step),
        title=chart_title(title, "; ".join([subtitle or results[0].benchmark, *unread])),
        description=". ".join([*words, *unread]),
    )


def pass_at_k_curves(
    curves: Frame,
    *,
    title: str = "pass@k",
    subtitle: str = "bands: 95%, over problems",
    columns: int = 3,
    width: int = 220,
) -> alt.ConcatChart:
    """Draw pass@k against k with its band: one panel per benchmark, a colour per model.

    `curves`: concatenated frames of `Result.pass_at_k` (columns model, benchmark, k, mean, low, high,
    left_out). A larger, hollow point is over fewer problems than pass@1, because some have fewer than k
    generations.
    Raises SdlabError when the frame is empty or lacks a column.
    """
    import altair as alt

    need(curves, ["model", "benchmark", "k", "mean", "low", "high", "left_out"], "pass_at_k_curves")
    names, shades = models_and_colours(curves)
    panels, words = [], []
    hover = (
        "datum.model + ', pass@' + datum.k + ': ' + format(datum.mean, '.3f') + ' (' + format(datum.low, "
        "'.2f') + ' to ' + format(datum.high, '.2f') + ')'"
    )
    colour = alt.Color(
        "model:N",
        title=None,
        scale=alt.Scale(domain=names, range=shades),
        legend=alt.Legend(orient="top", columns=2, **SOLID) if len(names) > 1 else None,
    )
    for benchmark, rows in curves.groupby("benchmark", sort=False):
        x = alt.X(
            "k:Q",
            title="k",
            scale=alt.Scale(type="log", base=2, nice=False),
            axis=alt.Axis(values=[k for k in (1, 2, 4, 8, 16, 32, 64) if k <= rows["k"].max()], format="d"),
        )
        y, low = (
            alt.Y(f"{name}:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
            for name in ("mean", "low")
        )
        base = alt.Chart(rows).encode(x=x, color=colour)
        layers = [
            base.mark_area(opacity=0.15, aria=False).encode(y=low, y2="high:Q"),
            base.mark_line(aria=False).encode(y=y),
            base.transform_filter("datum.left_out == 0")
            .mark_point(filled=True, size=26, opacity=1)
            .encode(y=y, description=alt.Description("hover:N"))
            .transform_calculate(hover=hover),
        ]
        if rows["left_out"].any():
            fewer = hover + " + ', ' + datum.left_out + ' problems left out'"
            layers.append(
                base.transform_filter("datum.left_out > 0")
                .mark_point(filled=False, size=70, opacity=1, strokeWidth=1.5)
                .encode(y=y, description=alt.Description("hover:N"))
                .transform_calculate(hover=fewer)
            )
        panels.append(
            layered(*layers).properties(width=width, height=190, title=alt.Title(benchmark, fontSize=13))
        )
        for name, own in rows.groupby("model", sort=False):
            ends = own.sort_values("k").iloc[[0, -1]]
            values = zip(ends["mean"], ends["k"], strict=True)
            described = dict.fromkeys(f"{number(mean)} at k={k}" for mean, k in values)
            share = own["no_answer"].iloc[0] if "no_answer" in own else 0
            unread = f", {share:.0%} of the completions without a readable answer" if share > 0 else ""
            words.append(f"{benchmark}, {name}: " + " and ".join(described) + unread)
            subtitle += f"; {benchmark}, {name}: {share:.0%} without a readable answer" if share > 0 else ""
    return alt.concat(*panels, columns=columns, spacing=24).properties(
        title=chart_title(title, subtitle), description="; ".join(words)
    )
