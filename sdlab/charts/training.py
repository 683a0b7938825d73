"""Training curves: score, length and markers step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlab.charts.style import (
    GREY,
    METHOD_COLOURS,
    METHOD_LABELS,
    METRIC_LABELS,
    chart_title,
    datum,
    field,
    label_colours,
    layered,
    need,
    number,
    rows_in_words,
)
from sdlab.charts.types import Frame, Options
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt


def training_curves(
    frame: Frame,
    metrics: Sequence[str] = ("reward", "length", "markers", "density", "entropy"),
    *,
    step: str = "step",
    by: str = "method",
    split: str | None = "split",
    recorded: str | None = "recorded",
    title: str = "Training",
    subtitle: str = "",
    baseline: Mapping[str, float] | None = None,
    columns: int = 3,
    width: int = 210,
) -> alt.ConcatChart:
    """Draw small multiples against the training step: one panel per metric, one colour per `by`.

    `baseline`: the untrained model's value of some metrics, drawn as a dashed grey line.

    The first split in the frame is solid and the others are dashed. Rows whose `recorded` is true (from an
    earlier, longer run) are faint and named in the legend. The frame may lack the columns `split` and
    `recorded` and some metrics. Raises SdlabError when it lacks `step`, `by` or all metrics.
    """
    import altair as alt

    need(frame, [step, by], "training_curves")
    drawn = [metric for metric in metrics if metric in frame.columns and frame[metric].notna().any()]
    if not drawn:
        raise SdlabError(f"training_curves found none of {', '.join(metrics)} among the frame's columns")
    frame, names, shades = label_colours(frame, by, METHOD_LABELS, METHOD_COLOURS)
    splits = list(dict.fromkeys(frame[split])) if split in frame.columns else []
    is_recorded = frame[recorded].astype(bool) if recorded in frame.columns else frame["label"].isna()
    frame = frame.assign(source=is_recorded.map({True: "recorded", False: "this run"}))
    encodings: Options = {
        "x": alt.X(field(step, "Q"), title="step", axis=alt.Axis(tickCount=4, tickMinStep=1, format="d")),
        "color": alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(domain=names, range=shades),
            legend=alt.Legend() if len(names) > 1 else None,
        ),
    }
    if split and len(splits) > 1:
        dashes = [[1, 0], [6, 4], [2, 3], [8, 3, 2, 3]]
        encodings["strokeDash"] = alt.StrokeDash(
            field(split, "N"),
            title=None,
            scale=alt.Scale(domain=splits, range=[dashes[i % 4] for i in range(len(splits))]),
        )
    if is_recorded.any():
        encodings["opacity"] = alt.Opacity(
            "source:N", title=None, scale=alt.Scale(domain=["this run", "recorded"], range=[1.0, 0.4])
        )
    panels = []
    for metric in drawn:
        rows = frame[frame[metric].notna()][
            list(dict.fromkeys([step, "label", "source", metric] + ([split] if splits else [])))
        ]
        parts = ["datum.label"] + ([datum(split)] if split and splits else [])
        parts += ["datum.source"] * bool(is_recorded.any())
        base = (
            alt.Chart(rows)
            .encode(**encodings, description=alt.Description("hover:N"))
            .transform_calculate(hover=" + ', ' + ".join(parts))
            .properties(width=width, height=150)
        )
        y = alt.Y(
            field(metric, "Q"),
            title=None,
            scale=alt.Scale(zero=metric != "entropy"),
            axis=alt.Axis(tickCount=4, labelFlush=True),
        )
        panel = base.mark_line().encode(y=y)
        if rows[step].nunique() == 1:  # a line needs two points
            panel = base.mark_point().encode(y=y)
        if baseline and metric in baseline:
            rule = alt.Chart().mark_rule(color=GREY, strokeDash=[5, 4], aria=False)
            panel = layered(rule.encode(y=alt.datum(baseline[metric])), panel)
        panels.append(panel.properties(title=alt.Title(METRIC_LABELS.get(metric, metric), fontSize=13)))
    last = frame.sort_values(step).groupby("label", sort=False).tail(1)
    words = "; ".join(
        f"{METRIC_LABELS.get(metric, metric)} at the last step: "
        f"{rows_in_words(last.dropna(subset=[metric]), 'label', metric)}"
        + (f" (untrained {number(baseline[metric])})" if baseline and metric in baseline else "")
        for metric in drawn
    )
    return alt.concat(*panels, columns=columns, spacing=24).properties(
        title=chart_title(title, subtitle), description=words
    )
