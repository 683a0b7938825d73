"""What is left of the doubt after training: tables and sentences of the recorded study of mechanisms."""

from collections.abc import Mapping

import pandas

from sdlab.measure.intervals import row_interval, tidy
from sdlab.measure.readouts import CHANGE, MARKER, NEAR, RESIDUAL, TRANSFER, TRUE, UNEMBEDDING
from sdlab.study.conditions import condition
from sdlab.study.mechanism_claims import CLAIMS, FAR, LEARNT, claim_rows, claims_by_organism
from sdlab.study.mechanism_recorded import Mechanism
from sdlab.study.mechanism_unit import BASE

Studies = Mapping[str, Mechanism]
ENDS_OF_CHANGE = ("change", "change_low", "change_high")
TARGET_NAMES = {
    "entropy": "entropy of the belief",
    "candidates": "number of candidates left",
    "right": "whether the next proposal is right",
    "refuted": "which candidates are refuted",
}


def about(studies: Studies) -> str:
    """Return one sentence: which organisms are recorded, with which seeds, and whether they have changed."""
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


def probe_table(study: Mechanism, target: str = "entropy") -> pandas.DataFrame:
    """Return one row per model: what probes read at the best layer, its change, and the controls."""
    layer, rows = study.best_layer(target), {}
    for model in study.models:
        own, far = (study.probe(model, split, target=target, layer=layer) for split in (NEAR, FAR))
        row = {"in-domain": str(row_interval(own)), "unseen types": str(row_interval(far))}
        if model != BASE:
            row["change, unseen types"] = str(row_interval(far, ENDS_OF_CHANGE))
            row["base's probe, in-domain"] = str(
                row_interval(study.probe(model, NEAR, TRANSFER, target, layer))
            )
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
            label(model): str(row_interval(study.probe(model, split, target=target)))
            for model in study.models
        }
        for target in TARGET_NAMES
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(f"target, {split}")


def layer_rows(study: Mechanism, target: str = "entropy") -> pandas.DataFrame:
    """Return what probes read at every layer: panel, model, x (the layer), mean, low, high."""
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


def _less(study: Mechanism, model: str = LEARNT) -> list[int]:
    rows = [study.probe(model, FAR, layer=layer) for layer in study.layers()]
    return [int(row["layer"]) for row in rows if row["change_high"] < 0]


def less_at(study: Mechanism) -> int:
    """Return 0, 1 or 2: after SDPO significantly less is read at no layer, at some, or at all."""
    count = len(_less(study))
    return 0 if not count else 1 if count < len(study.layers()) else 2


def layer_title(study: Mechanism) -> str:
    """Return the title of the chart of layers: what is read at the best layer before and after SDPO."""
    before, after = (study.probe(model, FAR)["mean"] for model in (BASE, LEARNT))
    return f"Layer {study.best_layer()}, unseen types: {before:.2f} in the base, {after:.2f} after SDPO"


def layer_words(study: Mechanism, model: str = LEARNT) -> str:
    """Return one sentence: at which layers less can be read than before training."""
    rows = [study.probe(model, FAR, layer=layer) for layer in study.layers()]
    less = _less(study, model)
    where = f"at layer {', '.join(map(str, less))} (of 1 to {len(rows)}, " if less else "at no layer ("
    worst = min(rows, key=lambda row: row["change"])
    return (
        f"{label(model)}, unseen types: significantly less is read {where}each judged by itself); "
        f"the largest change is {row_interval(worst, ENDS_OF_CHANGE)} at layer {int(worst['layer'])}."
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
        if study.has_readout(TRUE, split):
            row["true statements"] = str(study.mean_readout(model, TRUE, split))
        rows[label(model)] = row
    return pandas.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis(split)


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


def recorded_verdicts(studies: Studies) -> dict[str, dict[str, str]]:
    """Return organism -> claim -> verdict."""
    return {
        name: {claim: row["verdict"] for claim, row in claim_rows(study).items()}
        for name, study in studies.items()
    }


def _verdicts(row: pandas.Series) -> str:
    words = [str(cell).partition(":")[0] for cell in row]
    return (
        words[0]
        if len(set(words)) == 1
        else ", ".join(f"{n} {w}" for n, w in zip(row.index, words, strict=True))
    )
