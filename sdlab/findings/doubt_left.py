"""What is left of the doubt after training: tables and sentences of the recorded study of mechanisms."""

from collections.abc import Mapping, Sequence

import pandas

from sdlab.measure.intervals import Interval, tidy
from sdlab.measure.ladder import AS_IT_IS, NUDGES, PATCH, PATCH_ALL, STEER
from sdlab.measure.readouts import CHANGE, MARKER, NEAR, RESIDUAL, TRANSFER, TRUE, UNEMBEDDING
from sdlab.study.conditions import condition
from sdlab.study.mechanism_claims import CLAIMS, FAR, LEARNT, claims_by_organism
from sdlab.study.mechanism_recorded import Estimate, Mechanism, Point
from sdlab.study.mechanism_unit import BASE

Studies = Mapping[str, Mechanism]
TARGET_NAMES = {
    "entropy": "entropy of the belief",
    "candidates": "number of candidates left",
    "right": "whether the next proposal is right",
    "refuted": "which candidates are refuted",
}


def about(studies: Studies) -> str:
    """Return one sentence: which organisms are recorded, with which seeds, and whether they are still these."""
    if not studies:
        return "Nothing is recorded here; `sdlab reproduce mechanism` makes it."
    parts = [
        f"{name} (seeds {', '.join(map(str, one.about['seeds']))}"
        + ("" if one.current else "; recorded with other weights than the ones here")
        + ")"
        for name, one in studies.items()
    ]
    return f"Recorded: {'; '.join(parts)}."


def label(model: str) -> str:
    """Return the name of a model for readers: "base", or the label of its condition."""
    return BASE if model == BASE else condition(model).label


def change(estimate: Estimate) -> str:
    """Return a change with its sign, its interval and a note where it is not significant."""
    sign = "+" if estimate.interval.mean >= 0 else ""
    note = "" if estimate.significant else " (one seed)" if estimate.seeds < 2 else " (not significant)"
    return f"{sign}{estimate.interval}{note}"


def _ends(row: pandas.Series, names: Sequence[str] = ("mean", "low", "high")) -> str:
    return str(Interval(*(float(row[name]) for name in names)))


def probe_table(study: Mechanism, target: str = "entropy") -> pandas.DataFrame:
    """Return one row per model: what probes read at the best layer, its change, and the controls."""
    layer, rows = study.best_layer(target), {}
    for model in study.models:
        own, far = (study.probe(model, split, target=target, layer=layer) for split in (NEAR, FAR))
        row = {"in-domain": _ends(own), "unseen types": _ends(far)}
        if model != BASE:
            row["change, unseen types"] = _ends(far, ("change", "change_low", "change_high"))
            row["base's probe, in-domain"] = _ends(study.probe(model, NEAR, TRANSFER, target, layer))
        controls = study.probes[(study.probes["model"] == model) & (study.probes["target"] == target)]
        for name in ("shuffled labels", "position", "embedding"):
            values = controls.loc[(controls["control"] == name) & (controls["probe"] == "own"), "mean"]
            row[name] = tidy(float(values.max())) if len(values) else ""
        rows[label(model)] = row
    metric = study.probe(BASE, target=target)["metric"]
    table = pandas.DataFrame.from_dict(rows, orient="index").fillna("")
    return table.rename_axis(f"{metric}, {TARGET_NAMES[target]}, layer {layer}")


def target_table(study: Mechanism, split: str = FAR) -> pandas.DataFrame:
    """Return one row per target and one column per model: what a probe reads at the target's best layer."""
    rows = {
        f"{TARGET_NAMES[target]} ({study.probe(BASE, split, target=target)['metric']})": {
            label(model): _ends(study.probe(model, split, target=target)) for model in study.models
        }
        for target in TARGET_NAMES
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(f"target, {split}")


def layer_rows(study: Mechanism, target: str = "entropy") -> pandas.DataFrame:
    """Return what probes read at every layer: panel (split or the base's probe), model, x, mean, low, high."""
    panels = (("in-domain", NEAR, "own"), ("unseen types", FAR, "own"), ("the base's probe", NEAR, TRANSFER))
    rows = []
    for panel, split, probe in panels:
        for model in study.models:
            for layer in [0, *study.layers()]:
                source = "own" if model == BASE else probe
                row = study.probe(model, split, source, target, layer)
                ends = {name: float(row[name]) for name in ("mean", "low", "high")}
                rows.append({"panel": panel, "model": model, "x": layer, **ends})
    return pandas.DataFrame(rows)


def layer_words(study: Mechanism, model: str = LEARNT, target: str = "entropy") -> str:
    """Return one sentence: at which layers less can be read than before training."""
    rows = [study.probe(model, FAR, target=target, layer=layer) for layer in study.layers()]
    less = [int(row["layer"]) for row in rows if row["change_high"] < 0]
    where = f"at layers {', '.join(map(str, less))} of {len(rows)}" if less else "at no layer"
    worst = min(rows, key=lambda row: row["change"])
    return (
        f"{label(model)}, unseen types: significantly less is read {where}; the largest change is "
        f"{_ends(worst, ('change', 'change_low', 'change_high'))} at layer {int(worst['layer'])}."
    )


def marker_table(study: Mechanism, split: str = FAR) -> pandas.DataFrame:
    """Return one row per model: the probability of a marker, why its logit changed, and true statements."""
    rows = {}
    for model in study.models:
        row = {"probability of a marker": str(study.mean_readout(model, MARKER, split))}
        if model != BASE:
            row |= {
                "of the base's": str(study.readout_ratio(model, MARKER, BASE, split).interval),
                "change of the logit": str(study.mean_readout(model, CHANGE, split)),
                "by the residual": str(study.mean_readout(model, RESIDUAL, split)),
                "by the unembedding": str(study.mean_readout(model, UNEMBEDDING, split)),
            }
        row["true statements"] = str(study.mean_readout(model, TRUE, split))
        rows[label(model)] = row
    return pandas.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis(split)


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
    clear = estimate.interval.low > 0 or estimate.interval.high < 0
    sign = "+" if estimate.interval.mean >= 0 else ""
    return f"{sign}{estimate.interval}" + ("" if clear else " (not significant)")


def dose_rows(study: Mechanism, model: str = LEARNT, split: str = FAR) -> pandas.DataFrame:
    """Return markers and score of a steered model by dose: panel (metric), model (layer), x, mean, low, high."""
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


def patch_words(study: Mechanism, model: str = LEARNT, split: str = FAR) -> str:
    """Return one sentence: what each block of the base brings back when it replaces the trained one."""
    gains = {
        point: study.combine([(1.0, point), (-1.0, Point(model))], "reward", split)
        for point in [*study.points(model, PATCH), *study.points(model, PATCH_ALL)]
    }
    parts = [f"{point_name(point)} {change(gain)}" for point, gain in gains.items()]
    return f"{label(model)}, {split}, change of the score: {'; '.join(parts)}."


def steering_words(study: Mechanism, model: str = LEARNT) -> str:
    """Return one sentence: the steering with the best score in-domain, and its result on unseen types."""
    chosen = study.chosen_dose(model)
    parts = []
    for metric, name in (("markers", "markers"), ("reward", "score")):
        values = [tidy(study.mean(one, metric, FAR).mean) for one in (Point(BASE), Point(model), chosen)]
        parts.append(f"{name} {values[0]} in the base, {values[1]} after training, {values[2]} when steered")
    return f"{label(model)}: {point_name(chosen)} has the best score in-domain. On unseen types: {'; '.join(parts)}."


def claim_table(studies: Studies) -> pandas.DataFrame:
    """Return the claims with their verdicts, a column per organism."""
    table = claims_by_organism(studies)
    many = len(studies) > 1
    return table.drop(columns=["question"] if many else ["question", "all"]).set_index("claim")


def refuting_table() -> pandas.DataFrame:
    """Return what would refute each claim."""
    rows = {claim.claim: {"it would be refuted by": claim.refuting} for claim in CLAIMS}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("claim")


def answers(studies: Studies) -> list[str]:
    """Return one sentence per question: the verdicts on its claims, on every organism."""
    table, lines = claims_by_organism(studies), []
    for question, part in table.groupby("question", sort=False):
        claims = "; ".join(
            f"{claim}: **{_verdicts(row)}**"
            for claim, row in part.set_index("claim")[list(studies)].iterrows()
        )
        lines.append(f"{question} {claims[0].upper()}{claims[1:]}.")
    return lines


def _verdicts(row: pandas.Series) -> str:
    words = [str(cell).partition(":")[0] for cell in row]
    return (
        words[0]
        if len(set(words)) == 1
        else ", ".join(f"{n} {w}" for n, w in zip(row.index, words, strict=True))
    )


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
