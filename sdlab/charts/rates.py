"""Charts of the learning-rate sweep: the score of a method after training at each rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlab.charts.curves import STROKES
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

if TYPE_CHECKING:
    import altair as alt


def rate_curves(
    table: Frame,
    splits: Sequence[str] = ("in-domain", "unseen-types"),
    *,
    base: Mapping[str, float] | None = None,
    title: str = "Score after training at each learning rate",
    subtitle: str = "",
    width: int = 300,
) -> alt.HConcatChart:
    """Draw score against the learning rate: one panel per split, a colour per method.

    The rate has a logarithmic axis; bars are intervals. `table`: `sdlab.study.rates.sweep_table` (columns
    method, learning_rate, measure, mean, low, high). `base`: score of the untrained model by split, drawn as
    a grey line.

    Raises SdlabError when a column is missing or the table has none of `splits`.
    """
    import altair as alt
    import pandas

    columns = ["method", "learning_rate", "measure", "mean", "low", "high"]
    need(table, columns, "rate_curves")
    table = table[table["measure"].isin(splits)]
    need(table, columns, "rate_curves")
    frame, names, shades = label_colours(table, "method", METHOD_LABELS, METHOD_COLOURS)
    rates = sorted(frame["learning_rate"].unique().tolist())
    x = alt.X(
        "learning_rate:Q",
        title="learning rate",
        axis=alt.Axis(values=rates, format="~e"),
        scale=alt.Scale(type="log", domain=[rates[0] / 1.3, rates[-1] * 1.3]),
    )
    colour = alt.Color(
        "label:N",
        title=None,
        scale=alt.Scale(domain=names, range=shades),
        legend=alt.Legend(**STROKES) if len(names) > 1 else None,
    )
    hover = (
        "datum.label + ', learning rate ' + format(datum.learning_rate, '~e') + ': ' + format(datum.mean, "
        "'.2~f') + ' (' + format(datum.low, '.2~f') + ' to ' + format(datum.high, '.2~f') + ')'"
    )
    panels, words = [], []
    for split in (split for split in splits if split in set(frame["measure"])):
        rows = frame[frame["measure"] == split]
        line = alt.Chart(rows[["label", "learning_rate", "mean", "low", "high"]]).encode(x=x, color=colour)
        y = alt.Y(
            "mean:Q",
            title=METRIC_LABELS["reward"],
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(tickCount=5),
        )
        layers = [
            line.mark_rule(strokeWidth=2, opacity=0.6, aria=False).encode(
                y=alt.Y("low:Q", title=METRIC_LABELS["reward"]), y2="high:Q"
            ),
            line.mark_line(aria=False).encode(y=y),
            line.mark_point(filled=True, size=45, opacity=1)
            .encode(y=y, description=alt.Description("hover:N"))
            .transform_calculate(hover=hover),
        ]
        if base and split in base:
            layers.insert(
                0,
                alt.Chart(pandas.DataFrame({"mean": [base[split]]}))
                .mark_rule(color="#767676", strokeWidth=1.5, aria=False)
                .encode(y=y),
            )
            words.append(f"{split}, untrained: {number(base[split])}")
        panels.append(
            layered(*layers).properties(width=width, height=200, title=alt.Title(split, fontSize=13))
        )
        for name in names:
            curve = rows[rows["label"] == name].sort_values("learning_rate")
            words.append(
                f"{split}, {name}: "
                + ", ".join(
                    f"{number(score)} at {rate:g}"
                    for rate, score in zip(curve["learning_rate"], curve["mean"], strict=True)
                )
            )
    return alt.hconcat(*panels, spacing=24).properties(
        title=chart_title(title, subtitle), description="; ".join(words)
    )
