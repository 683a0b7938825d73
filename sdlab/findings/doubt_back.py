"""What takes the doubt away and what brings it back: the recorded ladder of interventions in words."""

from collections.abc import Sequence

import pandas

from sdlab.findings.before_after import signed
from sdlab.findings.doubt_left import label
from sdlab.measure.intervals import tidy
from sdlab.measure.ladder import (
    AS_IT_IS,
    INSERTIONS,
    NEITHER,
    NEUTRAL_WORDS,
    NO_CHECKS,
    NO_WORDS,
    NUDGES,
    PATCH,
    PATCH_ALL,
    RANDOM,
    STEER,
)  # fmt: skip
from sdlab.study.mechanism_claims import FAR, LEARNT
from sdlab.study.mechanism_recorded import Estimate, Mechanism, Point
from sdlab.study.mechanism_unit import BASE

PUSHES = (STEER, RANDOM)
REMOVALS = (NEUTRAL_WORDS, NO_WORDS, NO_CHECKS, NEITHER)
INSERTED = (*INSERTIONS, *NUDGES, PATCH, PATCH_ALL)


def change(estimate: Estimate) -> str:
    """Return a change with its sign, its interval and a note where it is not significant."""
    if not estimate.significant and estimate.seeds < 2:
        return f"{signed(estimate.interval)} (one seed)"
    return signed(estimate.interval, estimate.significant)


def point_name(point: Point) -> str:
    """Return what was done in words: "steer, layer 3, dose 0.5"."""
    more = [] if point.layer is None else [f"layer {point.layer:g}"]
    more += [] if point.dose is None else [f"dose {point.dose:g}"]
    return ", ".join([point.intervention, *more])


def ladder_table(
    study: Mechanism, model: str = LEARNT, interventions: Sequence[str] = (), split: str = FAR
) -> pandas.DataFrame:
    """Return one row per intervention on a model: markers, checks, score, and the change of the score.

    interventions: names, in this order; none takes all.
    """
    points = [
        point
        for name in interventions or dict.fromkeys(one.intervention for one in study.points(model))
        for point in study.points(model, name)
    ]
    rows = {}
    for point in [Point(model), *(one for one in points if one.intervention != AS_IT_IS)]:
        moved = study.combine([(1.0, point), (-1.0, Point(model))], "reward", split)
        rows[point_name(point)] = {
            "markers": tidy(study.mean(point, "markers", split).mean),
            "checks": tidy(study.mean(point, "checks", split).mean),
            "length": tidy(study.mean(point, "length", split).mean),
            "score": str(study.mean(point, "reward", split)),
            "change": "" if point == Point(model) else change(moved) if model != BASE else _alone(moved),
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(f"{label(model)}, {split}")


def _alone(estimate: Estimate) -> str:
    """Return a change of the organism itself, which has no training seeds."""
    return signed(estimate.interval, estimate.interval.low > 0 or estimate.interval.high < 0)


def dose_rows(study: Mechanism, model: str = LEARNT, split: str = FAR) -> pandas.DataFrame:
    """Return markers and score of a steered model by dose: panel, model (layer), x, mean, low, high."""
    rows = []
    points = study.points(model, STEER)
    for metric, panel in (("markers", "markers per completion"), ("reward", "score")):
        for layer in dict.fromkeys(point.layer for point in points):
            same = [Point(model), *(point for point in points if point.layer == layer)]
            rows += [
                {"panel": panel, "model": f"layer {layer:g}", "x": point.dose or 0.0}
                | vars(study.mean(point, metric, split))
                for point in same
            ]
    return pandas.DataFrame(rows)


def dose_title(rows: pandas.DataFrame) -> str:
    """Return the title "Steered most, layer 4: markers 0.64 to 67, score 0.24 to 0.09".

    rows: from `dose_rows`; the layer with the most markers at the largest dose is named.
    """
    means = {
        (panel, layer, dose): float(mean)
        for panel, layer, dose, mean in rows[["panel", "model", "x", "mean"]].itertuples(index=False)
    }
    most, panels = rows["x"].max(), {"markers": "markers per completion", "score": "score"}
    layer = max(rows["model"].unique(), key=lambda one: means[panels["markers"], one, most])
    changes = (
        f"{name} {tidy(means[panel, layer, 0.0])} to {tidy(means[panel, layer, most])}"
        for name, panel in panels.items()
    )
    return f"Steered most, {layer}: {', '.join(changes)}"


def patch_words(study: Mechanism, model: str = LEARNT, split: str = FAR) -> str:
    """Return one sentence: what each block of the base brings back when it replaces the trained one."""
    gains = {
        point: study.combine([(1.0, point), (-1.0, Point(model))], "reward", split)
        for point in [*study.points(model, PATCH), *study.points(model, PATCH_ALL)]
    }
    parts = [f"{point_name(point)} {change(gain)}" for point, gain in gains.items()]
    return f"{label(model)}, {split}, change of the score: {'; '.join(parts)}."


def costs_more(study: Mechanism, split: str = FAR) -> int:
    """Return 0, 1 or 2: the base scores lower with neutral words, without checks, or neither is shown."""
    words, checks = Point(BASE, NEUTRAL_WORDS), Point(BASE, NO_CHECKS)
    gap = study.combine([(1.0, words), (-1.0, checks)], "reward", split).interval
    return 0 if gap.high < 0 else 1 if gap.low > 0 else 2


def steering_words(study: Mechanism, model: str = LEARNT) -> str:
    """Return one sentence: the steering with the best score in-domain, and its result on unseen types."""
    chosen = study.chosen_dose(model)
    parts = []
    for metric, name in (("markers", "markers"), ("reward", "score")):
        values = [tidy(study.mean(one, metric, FAR).mean) for one in (Point(BASE), Point(model), chosen)]
        parts.append(f"{name} {values[0]} in the base, {values[1]} after training, {values[2]} when steered")
    found = "; ".join(parts)
    return f"{label(model)}: {point_name(chosen)} has the best score in-domain. On unseen types: {found}."


def nudge_share(study: Mechanism, model: str = LEARNT, split: str = FAR) -> str:
    """Return one sentence: the score with a nudge to check, beside the same nudge to the base."""
    parts = []
    for name in NUDGES:
        own, base = (
            study.combine([(1.0, Point(one, name)), (-1.0, Point(one))], "reward", split)
            for one in (model, BASE)
        )
        parts.append(f"{name}: {change(own)} after training, {_alone(base)} for the base")
    return f"{label(model)}, {split}, change of the score with {'; '.join(parts)}."
