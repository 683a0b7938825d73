"""Curves of recorded training runs: rollouts step by step, and the evaluations during training.

One colour per condition. Bands are over training seeds (`run_curves`) or over seeds and problems
(`split_curves`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from sdlab.charts.style import (
    METHOD_COLOURS,
    METRIC_LABELS,
    chart_title,
    label_colours,
    layered,
    need,
    number,
)
from sdlab.charts.types import Frame, Options
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

    from sdlab.study.recorded import Recorded

LABELS = METRIC_LABELS | {
    "kl_to_base": "KL to base (nats per token)",
    "loss": "loss",
    "grad_norm": "gradient norm",
    "used_rows": "completions with a gradient",
    "seconds": "seconds",
    "pass_at_g": "problems with a right completion",
    "teacher_entropy": "teacher entropy (nats)",
    "u_mean": "log teacher/student, mean (nats)",
    "u_spread": "log teacher/student, spread (nats)",
    "divergence": "divergence (nats)",
    "fork_rate": "tokens above 0.5 nats of entropy",
    "clip_fraction": "tokens clipped",
    "ratio_mean": "importance ratio, mean",
    "ratio_max": "importance ratio, largest",
    "idle_groups": "groups without a gradient",
    "tokens_per_second": "tokens per second",
}
FROM_ZERO = (
    "reward", "truncated", "kl_to_base", "grad_norm", "used_rows", "seconds", "pass_at_g", "teacher_entropy",
    "u_spread", "divergence", "fork_rate", "clip_fraction", "idle_groups", "tokens_per_second",
)  # fmt: skip
STROKES: Options = {"symbolType": "stroke", "symbolOpacity": 1, "symbolStrokeWidth": 2.5, "symbolSize": 300}
DASHES = ([1, 0], [6, 4], [2, 3], [8, 3, 2, 3])


def run_curves(
    steps: Frame,
    metrics: Sequence[str] = ("reward", "length", "markers", "density", "entropy", "kl_to_base"),
    by: str = "condition",
    labels: Mapping[str, str] | None = None,
    *,
    title: str = "Training",
    subtitle: str | None = None,
    columns: int = 3,
    width: int = 210,
) -> alt.ConcatChart:
    """Draw training columns against the step: one panel per metric, one colour per `by`.

    Lines are means over seeds; bands go from the lowest to the highest seed. `steps`: a row per step and seed
    with the columns step, seed (may be missing: one run), `by` and the metrics, as in `Recorded.steps`.
    `labels`: names for the values of `by` (default: the labels of the recorded conditions).

    Raises SdlabError when the frame is empty or lacks a column, or when no metric holds a number.
    """
    import altair as alt

    need(steps, ["step", by], "run_curves")
    missing = [metric for metric in metrics if metric not in steps.columns]
    if missing:
        raise SdlabError(
            f"run_curves found no column {', '.join(missing)}; the frame has "
            f"{', '.join(map(str, steps.columns))}"
        )
    drawn = [metric for metric in metrics if steps[metric].notna().any()]
    if not drawn:
        raise SdlabError(f"run_curves found no number in {', '.join(metrics)}; choose other metrics")
    seeds = steps["seed"].nunique() if "seed" in steps.columns else 1
    frame, names, shades = label_colours(steps, by, _named(labels), METHOD_COLOURS)
    panels, words = [], []
    for metric in drawn:
        rows = (
            frame.dropna(subset=[metric])
            .groupby(["label", "step"], sort=False)[metric]
            .agg(["mean", "min", "max"])
            .reset_index()
        )
        rows = rows.rename(columns={"min": "low", "max": "high"})
        panels.append(_panel(rows, metric, names, shades, None, width, seeds > 1))
        words.append(
            f"{LABELS.get(metric, metric)}: "
            + ", ".join(
                _travel(rows[rows["label"] == name], name) for name in names if name in set(rows["label"])
            )
        )
    if subtitle is None:
        subtitle = (
            f"line: mean over {seeds} training seeds; band: lowest to highest seed"
            if seeds > 1
            else "one training seed"
        )
    return alt.concat(*panels, columns=columns, spacing=24).properties(
        title=chart_title(title, subtitle), description="; ".join(words)
    )


def split_curves(
    recorded: Recorded,
    names: str | Sequence[str],
    metric: str | Sequence[str] = "reward",
    splits: Sequence[str] = ("in-domain", "unseen-types"),
    *,
    labels: Mapping[str, str] | None = None,
    title: str = "Scores on problems outside the training set",
    subtitle: str | None = None,
    columns: int = 2,
    width: int = 300,
) -> alt.ConcatChart | alt.LayerChart:
    """Draw evaluations along training with 95% bands over seeds and problems, one colour per condition.

    The first split is solid, the others dashed. `recorded`: a `sdlab.study.recorded.Recorded`; `names`: its
    conditions; `metric`: one of `Recorded.table`, or several (a panel each). Every curve uses the problems
    that were evaluated at all its steps; otherwise it would jump where the last evaluation has more problems.
    A condition with one evaluation (base) is a dot.

    Raises SdlabError when a condition was not evaluated on a split.
    """
    import altair as alt
    import pandas

    metrics = [metric] if isinstance(metric, str) else list(metric)
    names = [names] if isinstance(names, str) else list(names)
    common = _on_common_problems(recorded, names, splits)
    frame = pandas.concat(
        [common.curve(name, one, split) for name in names for split in splits for one in metrics],
        ignore_index=True,
    )
    need(frame, ["condition", "split", "metric", "step", "mean", "low", "high"], "split_curves")
    frame, labels_drawn, shades = label_colours(frame, "condition", _named(labels), METHOD_COLOURS)
    panels, words = [], []
    for one in metrics:
        rows = frame[frame["metric"] == one]
        panels.append(_panel(rows, one, labels_drawn, shades, list(splits), width, True))
        words.append(
            f"{LABELS.get(one, one)}: "
            + ", ".join(
                _travel(rows[(rows["label"] == name) & (rows["split"] == split)], f"{name}, {split},", True)
                for name in labels_drawn
                for split in splits
            )
        )
    if subtitle is None:
        runs = common.evaluations.groupby("condition")["seed"].nunique()
        counted = " or ".join(str(n) for n in sorted(set(runs)))
        subtitle = (
            f"{counted} training seed{'s' * (counted != '1')}; bands: 95% intervals over seeds and problems"
        )
    chart = alt.concat(*panels, columns=columns, spacing=24) if len(panels) > 1 else panels[0]
    return chart.properties(title=chart_title(title, subtitle), description="; ".join(words))


def _named(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return a name for each condition: its recorded label unless `labels` has another."""
    from sdlab.study.conditions import CONDITIONS, LONG

    return {name: condition.label for name, condition in (CONDITIONS | LONG).items()} | dict(labels or {})


def _on_common_problems(recorded: Recorded, names: Sequence[str], splits: Sequence[str]) -> Recorded:
    """Return `recorded` with only the problems evaluated at every step of their condition and split."""
    import pandas

    frame, kept = cast(Frame, recorded.evaluations), []
    for name in names:
        for split in splits:
            rows = frame[(frame["condition"] == name) & (frame["split"] == split)]
            if rows.empty:
                pairs = set(zip(frame["condition"], frame["split"], strict=True))
                raise SdlabError(
                    f"no evaluation of condition {name!r} on split {split!r} is recorded; choose one of: "
                    f"{', '.join(sorted(f'{condition} on {place}' for condition, place in pairs))}"
                )
            times = rows.groupby("problem_id")["step"].nunique()
            kept.append(rows[rows["problem_id"].isin(times[times == rows["step"].nunique()].index)])
    return replace(recorded, evaluations=pandas.concat(kept, ignore_index=True))


def _panel(
    rows: Frame,
    metric: str,
    names: Sequence[str],
    shades: Sequence[str],
    splits: Sequence[str] | None,
    width: int,
    band: bool,
) -> alt.LayerChart:
    """Draw one metric against the step.

    `rows`: columns label, step, mean, low, high and, with `splits`, split.
    """
    import altair as alt

    hover = (
        "datum.label + ', "
        + ("' + datum.split + ', " if splits else "")
        + "step ' + datum.step + ': ' + format(datum.mean, '.3~g')"
    )
    hover += " + ' (' + format(datum.low, '.3~g') + ' to ' + format(datum.high, '.3~g') + ')'" if band else ""
    steps = sorted(rows["step"].unique().tolist())
    ticks = steps if len(steps) <= 5 else alt.Undefined  # without it a short run has half steps
    encodings: Options = {
        "x": alt.X(
            "step:Q", title="step", axis=alt.Axis(tickCount=5, values=ticks), scale=alt.Scale(nice=False)
        ),
        "color": alt.Color(
            "label:N",
            title=None,
            scale=alt.Scale(domain=names, range=shades),
            legend=alt.Legend(**STROKES) if len(names) > 1 else None,
        ),
    }
    if splits and len(splits) > 1:
        dashes = [DASHES[i % len(DASHES)] for i in range(len(splits))]
        encodings["strokeDash"] = alt.StrokeDash(
            "split:N", title=None, scale=alt.Scale(domain=splits, range=dashes), legend=alt.Legend(**STROKES)
        )
    base = alt.Chart(rows[["label", "step", "mean", "low", "high"] + (["split"] if splits else [])]).encode(
        **encodings
    )
    y = alt.Y(
        "mean:Q",
        title=None,
        scale=alt.Scale(zero=metric in FROM_ZERO),
        axis=alt.Axis(
            tickCount=4, labelFlush=True, format=".2~g" if metric == "kl_to_base" else alt.Undefined
        ),
    )
    curve = ["label"] + (["split"] if splits else [])
    once = rows.groupby(curve)["step"].transform("nunique") == 1  # a line needs two points
    layers = []
    if band:
        layers.append(
            base.mark_area(opacity=0.16, aria=False).encode(
                y=alt.Y("low:Q", title=None),
                y2="high:Q",
                strokeDash=alt.Undefined,
                detail=curve[1:] or alt.Undefined,
            )
        )
    layers.append(base.mark_line(aria=False).encode(y=y))
    plain = base.encode(strokeDash=alt.Undefined)
    if band and once.any():
        alone = rows.loc[once, [*curve, "step", "low", "high"]]
        layers.append(
            plain.properties(data=alone)
            .mark_rule(strokeWidth=2, opacity=0.6, aria=False)
            .encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        )
    if splits or once.any():  # evaluations are few enough for a dot each
        dots = plain.mark_point(filled=True, size=34, opacity=1).encode(
            y=y, description=alt.Description("hover:N")
        )
        layers.append(dots.transform_calculate(hover=hover))
    return layered(*layers).properties(
        width=width,
        height=150 if not splits else 200,
        title=alt.Title(LABELS.get(metric, metric), fontSize=13),
    )


def _travel(rows: Frame, name: str, interval: bool = False) -> str:
    """Describe a curve in words: where it starts and where it ends."""
    rows = rows.sort_values("step")
    first, last = rows.iloc[0], rows.iloc[-1]
    end = number(last["mean"]) + (f" ({number(last['low'])} to {number(last['high'])})" if interval else "")
    if len(rows) == 1:
        return f"{name} {end}"
    return (
        f"{name} from {number(first['mean'])} at step {int(first['step'])} to {end} at step "
        f"{int(last['step'])}"
    )
