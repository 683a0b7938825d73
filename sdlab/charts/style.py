"""The shared style of charts: labels, colours, number formats, and the words of the text alternative.

Frames have the form that `sdlab.measure.evaluation.summarise` returns: one row per group and metric, with the
columns `mean`, `low` and `high`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from sdlab.charts.picture import OKABE_ITO
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError
from sdlab.text.prompt import CONTEXT_LABELS

if TYPE_CHECKING:
    import altair as alt

BLUE, ORANGE, GREEN, RED, SKY, PINK = OKABE_ITO[:6]
YELLOW, WINE = OKABE_ITO[6], "#882255"
GREY = "#8c8c8c"  # reference lines
CONTEXT_COLOURS = {"none": BLUE, "solution": RED, "solution_no_think": ORANGE, "regenerated": PINK}
METHOD_LABELS = {
    "base": "base",
    "sft_unguided": "SFT, unguided",
    "sft_guided": "SFT, guided",
    "grpo": "GRPO",
    "sdpo": "SDPO",
    "sdpo_no_think": "SDPO without think",
}
METHOD_COLOURS = {
    "base": "#767676",
    "sft_unguided": SKY,
    "sft_guided": WINE,  # not pink: that is the context "regenerated"
    "grpo": GREEN,
    "sdpo": RED,
    "sdpo_no_think": ORANGE,
    "grpo_off": GREEN,
    "sdpo_off": RED,
    "grpo_long": GREEN,
    "sdpo_long": RED,
    "sdpo_no_think_long": ORANGE,
}
METRIC_LABELS = {
    "reward": "score",
    "length": "length (tokens)",
    "markers": "markers per completion",
    "density": "markers per 1,000 tokens",
    "truncated": "cut off",
    "no_answer": "no readable answer",
    "entropy": "entropy (nats)",
}


def need(frame: Frame, columns: Sequence[str], what: str) -> None:
    """Raise SdlabError if `frame` is empty or lacks one of `columns`."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SdlabError(
            f"{what} needs the columns {', '.join(columns)}; {', '.join(missing)} not in the frame, "
            f"which has {', '.join(map(str, frame.columns)) or 'none'}"
        )
    if not len(frame):
        raise SdlabError(f"{what} got an empty frame; check the filter before it")


def field(name: str, kind: str) -> str:
    """Return Altair's shorthand for the column `name` with the type `kind`: "Q", "N" or "O".

    Brackets, dots, colons and single quotes in the name are escaped. Raises SdlabError for a backslash or a
    double quote, which Vega-Lite does not allow there.
    """
    if {"\\", '"'} & set(str(name)):
        raise SdlabError(
            f"a chart cannot draw the column {name!r}: its name holds a backslash or a double quote; "
            f"rename it"
        )
    return re.sub(r"([\[\].:'])", r"\\\1", str(name)) + f":{kind}"


def datum(name: str) -> str:
    """Return the Vega expression for the value of the column `name` in the current row."""
    return f"datum[{json.dumps(str(name))}]"


def tip(name: str) -> alt.Tooltip:
    """Return the tooltip entry of a column of numbers, labelled with the column's name."""
    import altair as alt

    return alt.Tooltip(field(name, "Q"), title=str(name))


def number(value: float) -> str:
    """Return a value short enough for a label: 0.33, 9.8, 77, 13,054."""
    size = abs(value)
    return f"{value:.2f}" if size < 2 else f"{value:.1f}" if size < 20 else f"{value:,.0f}"


def label_colours(
    frame: Frame, column: str, labels: Mapping[str, str], colours: Mapping[str, str]
) -> tuple[Frame, list[str], list[str]]:
    """Return the frame with a `label` column, the labels in order, and their colours.

    A value of `column` that is not in `labels` is its own label.
    """
    order = [key for key in labels if key in set(frame[column])]
    order += [key for key in dict.fromkeys(frame[column]) if key not in labels]
    known = {key: colours[key] for key in order if key in colours}
    if colours is METHOD_COLOURS:  # chemistry_grpo has the colour of grpo, unless grpo itself is drawn
        for key in order:
            method = method_of(key)
            if method and key not in known and METHOD_COLOURS[method] not in known.values():
                known[key] = METHOD_COLOURS[method]
    spare = [colour for colour in OKABE_ITO if colour not in known.values()]
    if colours is METHOD_COLOURS:  # what is no method must not look like one
        spare.sort(key=lambda colour: (colour in METHOD_COLOURS.values()) + 2 * (colour == YELLOW))
    others = cycle(spare)
    shades = [known[key] if key in known else next(others) for key in order]
    names = [str(labels.get(key, key)) for key in order]
    return frame.assign(label=frame[column].map(dict(zip(order, names, strict=True)))), names, shades


def method_of(name: object) -> str | None:
    """Return the training method that a condition's name or a title contains, or None.

    For example chemistry_grpo: grpo; cover_sdpo_no_think_8: sdpo_no_think; "SDPO, live": sdpo.
    """
    words = str(name).lower()
    return next(
        (m for m in ("sdpo_no_think", "sdpo", "grpo", "sft_guided", "sft_unguided") if m in words), None
    )


def known_labels(frame: Frame, column: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and the colours for the values of `column`: those of contexts or those of methods."""
    values = set(frame[column])
    if values & set(CONTEXT_LABELS):
        return CONTEXT_LABELS, CONTEXT_COLOURS
    return METHOD_LABELS, METHOD_COLOURS


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Return `charts` drawn on top of each other, the first at the bottom; none has a `row` or a `column`."""
    import altair as alt

    chart = alt.layer(*charts)
    assert isinstance(chart, alt.LayerChart)  # Altair returns a FacetChart for charts with rows or columns
    return chart


def chart_title(title: str, subtitle: str) -> alt.Title:
    """Return a chart's title, without a second line when `subtitle` is empty."""
    import altair as alt

    return alt.Title(title, subtitle=subtitle) if subtitle else alt.Title(title)


def rows_in_words(
    frame: Frame, name: str, mean: str, low: str | None = None, high: str | None = None, limit: int = 12
) -> str:
    """Return the rows as text for the text alternative: "no context 0.33 (0.29 to 0.38), ..."."""
    rows = [
        f"{row[name]} {number(row[mean])}" + (f" ({number(row[low])} to {number(row[high])})" if low else "")
        for _, row in frame.head(limit).iterrows()
    ]
    return ", ".join(rows) + (", and more" if len(frame) > limit else "")
