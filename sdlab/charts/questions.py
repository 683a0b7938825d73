"""Charts against the number of training problems: the coverage study (paper Figures 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlab.charts.curves import STROKES
from sdlab.charts.picture import OKABE_ITO
from sdlab.charts.style import (
    METHOD_COLOURS,
    METHOD_LABELS,
    METRIC_LABELS,
    chart_title,
    label_colours,
    layered,
    need,
    number,
)
from sdlab.charts.types import Frame
from sdlab.world.splits import TRAINING

if TYPE_CHECKING:
    import altair as alt

SHARES = ("reward", "truncated")  # drawn from 0 to 1
DASHES = {TRAINING: [2, 3], "in-domain": [1, 0], "unseen-types": [6, 4]}


def question_curves(
    table: Frame,
    metrics: Sequence[str] = ("reward", "length", "markers"),
    splits: Sequence[str] = (TRAINING,),
    *,
    base: Frame | None = None,
    live: Frame | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
    columns: int = 3,
    width: int = 220,
) -> alt.ConcatChart:
    """Draw metrics against the number of training problems, with 95% bands.

    One panel per metric, a colour per method, a dash per split. `table`:
    `sdlab.study.coverage_table.coverage_table` (columns method, questions, num_questions, split, metric,
    mean, low, high). `base`: rows split, metric, mean of the untrained model, drawn as a grey line. `live`:
    rows like those of `table`, drawn as diamonds.

    Raises SdlabError when a column is missing or no row has one of `metrics` and `splits`.
    """
    import altair as alt

    columns_needed = ["method", "questions", "num_questions", "split", "metric", "mean", "low", "high"]
    need(table, columns_needed, "question_curves")
    table = table[table["metric"].isin(metrics) & table["split"].isin(splits)]
    need(table, columns_needed, "question_curves")
    order = table.drop_duplicates("questions").sort_values("num_questions")["questions"].tolist()
    frame, names, shades = label_colours(table, "method", METHOD_LABELS | dict(labels or {}), METHOD_COLOURS)
    label_of = dict(zip(frame["method"], frame["label"], strict=True))
    panels, words = [], []
    for metric in metrics:
        rows = frame[frame["metric"] == metric]
        if rows.empty:
            continue
        panels.append(
            _panel(
                rows,
                metric,
                order,
                names,
                shades,
                list(splits),
                _selected(base, metric, splits),
                _selected(live, metric, splits),
                label_of,
                width,
            )
        )
        words.append(
            f"{METRIC_LABELS.get(metric, metric)}: "
            + "; ".join(_in_words(rows, name, split, order) for name in names for split in splits)
        )
    return alt.concat(*panels, columns=columns, spacing=24).properties(
        title=chart_title(title, subtitle), description=". ".join(words)
    )


def _selected(table: Frame | None, metric: str, splits: Sequence[str]) -> Frame | None:
    """Return the rows of one metric on `splits`; None without a table."""
    return None if table is None else table[(table["metric"] == metric) & table["split"].isin(splits)]


def _panel(
    rows: Frame,
    metric: str,
    order: Sequence[str],
    names: Sequence[str],
    shades: Sequence[str],
    splits: Sequence[str],
    base: Frame | None,
    live: Frame | None,
    label_of: Mapping[str, str],
    width: int,
) -> alt.LayerChart:
    """Draw one metric; `base` are grey lines, `live` are diamonds with the label of their method."""
    import altair as alt

    if metric in SHARES:  # Student's interval can leave the range from 0 to 1
        rows = rows.assign(low=rows["low"].clip(0, 1), high=rows["high"].clip(0, 1))
    x = alt.X(
        "questions:N",
        sort=order,
        title="training problems",
        axis=alt.Axis(labelAngle=0),
        scale=alt.Scale(type="point", padding=0.3),
    )
    scale = alt.Scale(domain=[0, 1]) if metric in SHARES else alt.Scale(zero=True, nice=4)
    axis = alt.Axis(tickCount=4)
    y, low = (alt.Y(f"{column}:Q", title=None, scale=scale, axis=axis) for column in ("mean", "low"))
    colour = alt.Color(
        "label:N",
        title=None,
        scale=alt.Scale(domain=names, range=shades),
        legend=alt.Legend(**STROKES) if len(names) > 1 else None,
    )
    dash = (
        alt.StrokeDash(
            "split:N",
            title=None,
            scale=alt.Scale(domain=splits, range=[DASHES.get(split, [8, 3, 2, 3]) for split in splits]),
            legend=alt.Legend(**STROKES),
        )
        if len(splits) > 1
        else alt.Undefined
    )
    hover = (
        "datum.label + ', ' + datum.split + ', ' + datum.questions + ' problems: ' + format(datum.mean, "
        "'.3~g')"
    )
    hover += " + ' (' + format(datum.low, '.3~g') + ' to ' + format(datum.high, '.3~g') + ')'"
    line = alt.Chart(rows[["label", "questions", "split", "mean", "low", "high"]]).encode(x=x, color=colour)
    layers = [
        line.mark_area(opacity=0.15, aria=False).encode(y=low, y2="high:Q", detail="split:N"),
        line.mark_line(aria=False).encode(y=y, strokeDash=dash),
        line.mark_point(filled=True, size=38, opacity=1)
        .encode(y=y, description=alt.Description("hover:N"))
        .transform_calculate(hover=hover),
    ]
    if base is not None and len(base):
        rule = alt.Chart(base[["split", "mean"]]).mark_rule(color="#767676", strokeWidth=1.5, aria=False)
        layers.insert(0, rule.encode(y=y, strokeDash=dash))
    if live is not None and len(live):
        labelled = live.assign(label=live["method"].map(label_of))
        points = alt.Chart(labelled[["label", "questions", "split", "mean", "low", "high"]])
        layers.append(
            points.mark_rule(strokeWidth=2, aria=False).encode(x=x, y=low, y2="high:Q", color=colour)
        )
        layers.append(
            points.mark_point(
                shape="diamond", filled=True, size=150, opacity=1, stroke="black", strokeWidth=1
            )
            .encode(x=x, y=y, color=colour, description=alt.Description("hover:N"))
            .transform_calculate(hover=f"'live: ' + {hover}")
        )
    return layered(*layers).properties(
        width=width, height=190, title=alt.Title(METRIC_LABELS.get(metric, metric), fontSize=13)
    )


def transfer_points(
    table: Frame,
    *,
    title: str = "",
    subtitle: str = "",
    x_title: str = "change of score against the untrained model",
    width: int = 420,
) -> alt.LayerChart:
    """Draw the change after training for each kind of training and each place of measurement, with intervals.

    `table`: columns label (a row of the chart), place (a colour), mean, low, high, in the order to draw.

    Raises SdlabError when it is empty or lacks a column.
    """
    import altair as alt

    need(table, ["label", "place", "mean", "low", "high"], "transfer_points")
    labels, places = (list(dict.fromkeys(table[column])) for column in ("label", "place"))
    hover = (
        "datum.label + ', ' + datum.place + ': ' + format(datum.mean, '+.3~f') + ' (' + format(datum.low, "
        "'.3~f') + ' to ' + format(datum.high, '.3~f') + ')'"
    )
    base = alt.Chart(table[["label", "place", "mean", "low", "high"]]).encode(
        y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=300)),
        yOffset=alt.YOffset("place:N", sort=places),
        color=alt.Color(
            "place:N",
            title=None,
            sort=places,
            scale=alt.Scale(domain=places, range=list(OKABE_ITO[: len(places)])),
        ),
    )
    zero = alt.Chart().mark_rule(color="#767676").encode(x=alt.datum(0))
    whisker = base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q", title=x_title), x2="high:Q")
    dot = (
        base.mark_point(filled=True, size=80, opacity=1)
        .encode(x="mean:Q", description=alt.Description("hover:N"))
        .transform_calculate(hover=hover)
    )
    words = "; ".join(
        f"{row.label}, {row.place}: {row.mean:+.2f} ({row.low:.2f} to {row.high:.2f})"
        for row in table.itertuples()
    )
    return layered(zero, whisker, dot).properties(
        width=width, height=alt.Step(18), title=chart_title(title, subtitle), description=words
    )


def _in_words(rows: Frame, name: str, split: str, order: Sequence[str]) -> str:
    """Describe a curve in words."""
    own = rows[(rows["label"] == name) & (rows["split"] == split)].set_index("questions")
    return f"{name}, {split}: " + ", ".join(
        f"{number(own.loc[q, 'mean'])} at {q}" for q in order if q in own.index
    )
