"""The map of the arena: score against length, a point per method, a colour per family of methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdlab.charts.picture import INK, MUTED
from sdlab.charts.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, chart_title, layered, need, number
from sdlab.charts.types import Frame
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

FAMILY_COLOURS = {
    "follow": RED, "soften": ORANGE, "share": SKY, "weigh": BLUE, "oppose": PINK, "reward": GREEN,
    "neither": INK,
}  # fmt: skip
KIND_SHAPES = {"baseline": "square", "repair": "circle", "control": "triangle-up"}
UNTRAINED = "base"
LABEL = (6.5, 12)  # pixels: the width of a letter and the height of a line of a label
DESCRIBED = 50  # rows in the text alternative


def arena_map(
    table: Frame,
    *,
    split: str = "unseen-types",
    title: str = "Score and length after training, by method",
    subtitle: str = "lines: 95% intervals over seeds and problems; dashed: the untrained model",
    width: int = 620,
    height: int = 420,
) -> alt.LayerChart:
    """Draw the score on `split` against the completions' mean length, a labelled point per method.

    A colour is a family of methods, a shape is a kind: baseline, repair or control. Dashed lines mark the
    untrained model. A label that would cover another one is left out; hovering shows it.

    `table`: from `sdlab.study.arena_measures.measures`, with the metrics reward and length.
    Methods without a record are named in the text alternative only.

    Raises SdlabError when a column is missing, and when no method has both a score and a length.
    """
    import altair as alt
    import pandas

    from sdlab.study.arena_families import FAMILIES

    need(table, ["method", "kind", "family", "split", "metric", "mean", "low", "high"], "arena_map")
    table = table[table["split"] == split]
    score, length = (table[table["metric"] == metric].set_index("method") for metric in ("reward", "length"))
    whole = score[["kind", "family", "mean", "low", "high"]].join(
        length[["mean", "low", "high"]].add_suffix("_length"), how="inner"
    )
    rows = whole[whole["mean"].notna() & whole["mean_length"].notna()].reset_index()
    base, rows = rows[rows["method"] == UNTRAINED], rows[rows["method"] != UNTRAINED]
    absent = [name for name in whole.index if name not in set(rows["method"]) | {UNTRAINED}]
    if rows.empty:
        raise SdlabError(f"arena_map needs methods with a score and a length on {split!r}; none has both")
    rows = rows.assign(label=rows["family"].map(lambda family: FAMILIES[family][0]))
    families = [family for family in FAMILIES if family in set(rows["family"])]
    kinds = [kind for kind in KIND_SHAPES if kind in set(rows["kind"])]
    x_title, y_title = "length (tokens)", f"score, {split}"
    x = alt.X("mean_length:Q", title=x_title, scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("mean:Q", title=y_title, scale=alt.Scale(zero=False, padding=12))
    points = alt.Chart(rows).encode(
        color=alt.Color(
            "label:N",
            title="at a choice point",
            scale=alt.Scale(
                domain=[FAMILIES[family][0] for family in families],
                range=[FAMILY_COLOURS[family] for family in families],
            ),
            legend=alt.Legend(symbolType="circle", symbolOpacity=1, symbolStrokeWidth=0),
        )
    )
    shape = alt.Shape(
        "kind:N",
        title="kind",
        scale=alt.Scale(domain=kinds, range=[KIND_SHAPES[kind] for kind in kinds]),
        legend=alt.Legend(symbolFillColor=MUTED, symbolStrokeColor=MUTED),
    )
    hover = (
        "datum.method + ': score ' + format(datum.mean, '.2f') + ' (' + format(datum.low, '.2f') + ' to ' + "
        "format(datum.high, '.2f') + '), ' + format(datum.mean_length, '.0f') + ' tokens'"
    )
    layers = [
        points.mark_rule(strokeWidth=1.2, opacity=0.45, aria=False).encode(
            x=x, y=alt.Y("low:Q", title=y_title), y2="high:Q"
        ),
        points.mark_rule(strokeWidth=1.2, opacity=0.45, aria=False).encode(
            x=alt.X("low_length:Q", title=x_title), x2="high_length:Q", y=y
        ),
        points.mark_point(filled=True, size=80, opacity=1)
        .encode(x=x, y=y, shape=shape, description=alt.Description("hover:N"))
        .transform_calculate(hover=hover),
        alt.Chart(rows[rows["method"].isin(_readable_labels(rows, width, height))])
        .mark_text(align="left", dx=7, dy=-5, fontSize=10, color=INK, aria=False)
        .encode(x=x, y=y, text="method:N"),
    ]
    if len(base):
        mark = alt.Chart(pandas.DataFrame(base)).mark_rule(strokeDash=[5, 4], color=GREY)
        layers = [mark.encode(y=y), mark.encode(x=x), *layers]
    return layered(*layers).properties(
        width=width,
        height=height,
        title=chart_title(title, subtitle),
        description=_words(pandas.concat([base, rows]), absent),
    )


def _readable_labels(rows: Frame, width: int, height: int) -> list[str]:
    """Return the methods whose labels do not cover each other; baselines first, then by score."""
    places = {}
    for column, size in (("mean_length", width), ("mean", height)):
        low, span = rows[column].min(), rows[column].max() - rows[column].min()
        places[column] = ((rows[column] - low) / (span or 1) * size).tolist()
    order = sorted(
        zip(rows["method"], rows["kind"], *places.values(), strict=True),
        key=lambda row: (row[1] != "baseline", -row[3]),
    )
    kept: list[tuple[str, float, float]] = []
    for method, _, x, y in order:
        clear = all(
            abs(y - other_y) > LABEL[1]
            or x > other_x + LABEL[0] * len(other)
            or other_x > x + LABEL[0] * len(method)
            for other, other_x, other_y in kept
        )
        kept += [(method, x, y)] if clear else []
    return [method for method, *_ in kept]


def _words(rows: Frame, absent: list[str]) -> str:
    """Return the points as text, highest score first, and the methods without a record."""
    ordered = rows.sort_values("mean", ascending=False)
    words = "; ".join(
        f"{'untrained' if row.method == UNTRAINED else row.method} {number(row.mean)} "
        f"({number(row.low)} to {number(row.high)}) at {number(row.mean_length)} tokens"
        for row in ordered.head(DESCRIBED).itertuples()
    )
    return words + (f"; not recorded: {', '.join(absent)}" if absent else "")
