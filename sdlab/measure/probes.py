"""Linear probes: is a quantity, such as the reasoner's uncertainty, still represented in a model?

A probe predicts a target from the residual stream of one layer: ridge regression for a number, logistic
regression for a yes or no. It is fitted on some problems and judged on others, so it cannot know the problem.
A probe that predicts well shows that the target can be read there; it does not show that the model uses it.

Controls: "embedding" (layer 0, the token alone), "position" (where the place is, and how long the prompt is),
and "shuffled labels". A probe of the base model applied to a trained model, after each model's own mean is
subtracted, asks whether both represent the target in the same subspace.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.places import REFUTED, Places
from sdlab.measure.probe_fits import judge, predictions
from sdlab.measure.spread import crossed_spread
from sdlab.seeds import stable_int

FEWEST = 10  # rows of each class that a column of several needs
CONTROLS = ("shuffled labels", "position")
NONE, EMBEDDING = "none", "embedding"


@dataclass(frozen=True)
class ProbeScore:
    """How well one probe predicts one target on problems that it was not fitted on.

    value: R2 of a number (1 minus the squared error over that of the mean), or the area under the ROC curve.
    parts: what each problem contributes to the value, with mean 0, from which intervals are computed.
    """

    target: str
    layer: int | None  # None: no residuals are used
    control: str
    metric: str
    value: float
    parts: pandas.Series
    rows: int
    dimensions: int


def probe(
    states: Mapping[int, np.ndarray],
    places: Places,
    targets: Sequence[str],
    *,
    apply: Mapping[int, np.ndarray] | None = None,
    test: tuple[Mapping[int, np.ndarray], Places] | None = None,
    controls: Sequence[str] = CONTROLS,
    folds: int = 5,
    seed: int = 0,
) -> list[ProbeScore]:
    """Return the score of a probe for every layer, target and control.

    states: layer -> (N, d), from `residuals` at `places`. targets: columns of places.frame; "refuted" means
    all columns of single candidates, each with its own probe, averaged. apply: residuals of another model at
    the same places; probes are then fitted on `states` and judged on `apply`. test: residuals and places of
    other problems to judge on, such as unseen types; without it, problems are divided into `folds`.

    A warning says when a probe has fewer rows than dimensions.

    Raises SdlabError for an unknown target or control, one with a single value, residuals of another number
    of places or dimensions, and fewer problems than folds.
    """
    if unknown_controls := set(controls) - set(CONTROLS):
        raise SdlabError(f"unknown controls {sorted(unknown_controls)}; choose among {', '.join(CONTROLS)}")
    _check(states, places, apply, test, folds)
    scores = []
    here = _position(places)
    elsewhere = None if test is None else (_position(test[1]), test[1])
    for target in targets:
        columns = _columns(places, target, folds)
        shared = (places, target, columns, folds, seed)
        for layer, x in states.items():
            there = None if test is None else (test[0][layer], test[1])
            away = None if apply is None else apply[layer]
            name = EMBEDDING if layer == 0 else NONE
            scores.append(_score(layer, name, x, away, there, *shared))
            if "shuffled labels" in controls:
                scores.append(_score(layer, "shuffled labels", x, away, there, *shared))
        if "position" in controls:
            scores.append(_score(None, "position", here, None, elsewhere, *shared))
    rows, width = len(places.frame), max(x.shape[1] for x in states.values())
    if rows < width:
        warnings.warn(
            f"the probes have {rows} rows and {width} dimensions, so they depend on their penalty; "
            "use more problems or more places",
            stacklevel=2,
        )
    return scores


def probe_table(
    *seeds: Sequence[ProbeScore], confidence: float = 0.95, names: Mapping[str, object] | None = None
) -> pandas.DataFrame:
    """Return one row per target, layer and control, with the interval over problems and training seeds.

    seeds: the scores of one model per training seed, from `probe` with the same problems; with one the
    interval is over problems only. names: further columns with the same value in all rows.

    Columns: `names`, target, layer (nan where no residuals are used), control, metric, mean, low, high,
    seeds, problems, rows and dimensions (of one seed).

    Raises SdlabError without scores and when the seeds differ in problems, layers or targets.
    """
    keyed = [{(s.target, s.layer, s.control): s for s in scores} for scores in seeds]
    if not keyed or not keyed[0] or any(one.keys() != keyed[0].keys() for one in keyed):
        raise SdlabError(
            f"{len(keyed)} lists of probe scores with different targets, layers or controls; "
            "give the result of the same call of probe for every seed, at least one"
        )
    rows = []
    for key, first in keyed[0].items():
        same = [one[key] for one in keyed]
        if any(not s.parts.index.equals(first.parts.index) for s in same):
            raise SdlabError(
                "the seeds have different problems; use the same problems for all, in the same order"
            )
        mean = float(np.mean([s.value for s in same]))
        bounds = (-np.inf, 1.0) if first.metric == "R2" else (0.0, 1.0)
        deviations = np.stack([s.parts + s.value - mean for s in same])
        interval = crossed_spread(deviations).around(mean, confidence, bounds)
        rows.append(
            dict(names or {})
            | {
                "target": first.target, "layer": np.nan if first.layer is None else first.layer,
                "control": first.control, "metric": first.metric, **vars(interval), "seeds": len(same),
                "problems": len(first.parts), "rows": first.rows, "dimensions": first.dimensions,
            }
        )  # fmt: skip
    return pandas.DataFrame(rows)


def _score(layer, control, x, away, there, places: Places, target, columns, folds, seed) -> ProbeScore:
    judged = places if there is None else there[1]
    index = pandas.Index(dict.fromkeys(judged.groups))
    total, value, parts = 0, 0.0, np.zeros(len(index))
    metric = "AUROC" if _values(places, columns) <= {0.0, 1.0} else "R2"
    for column in columns:
        y = places.frame[column].to_numpy(float)
        rows = np.flatnonzero(~np.isnan(y))
        labels = y[rows]
        if control == "shuffled labels":
            labels = np.random.default_rng(stable_int("shuffle", seed, column)).permutation(labels)
        truth, at = y, rows
        if there is not None:
            if column not in judged.frame:
                continue
            truth = judged.frame[column].to_numpy(float)
            at = np.flatnonzero(~np.isnan(truth))
        if not len(at):
            continue
        predicted = predictions(
            x[rows], labels, places.groups[rows], None if away is None else away[rows],
            None if there is None else there[0][at], folds,
        )  # fmt: skip
        truth = labels if control == "shuffled labels" and there is None else truth[at]
        one, by_problem = judge(predicted, truth, judged.groups[at], metric)
        if np.isnan(one):
            continue
        total += len(at)
        value += len(at) * one
        parts += len(at) * by_problem.reindex(index, fill_value=0.0).to_numpy() * len(index)
    if not total:
        raise SdlabError(f"target {target!r} has one value only among the judged places; use more problems")
    return ProbeScore(
        target, layer, control, metric, value / total, pandas.Series(parts / total, index), total, x.shape[1]
    )


def _values(places: Places, columns: Sequence[str]) -> set[float]:
    """Return the different values of a target, without nan."""
    values = np.unique(places.frame[list(columns)].to_numpy(float))
    return set(values[~np.isnan(values)].tolist())


def _columns(places: Places, target: str, folds: int) -> list[str]:
    """Return the columns of a target.

    Those of single candidates need FEWEST rows of each class, and as many problems as folds.
    """
    frame = places.frame
    columns = [target]
    if target == REFUTED.strip():
        columns = [name for name in map(str, frame.columns) if name.startswith(REFUTED)]
    if not columns or columns[0] not in frame:
        raise SdlabError(f"unknown target {target!r}; these places have {', '.join(map(str, frame.columns))}")
    if len(columns) > 1:
        columns = [
            name
            for name in columns
            if frame[name].value_counts().reindex([0.0, 1.0], fill_value=0).min() >= FEWEST
            and frame.loc[frame[name].notna(), "problem_id"].nunique() >= folds
        ]
    if not columns or len(_values(places, columns)) < 2:
        raise SdlabError(f"target {target!r} has too few different values at these places; use more problems")
    return columns


def _check(states, places: Places, apply, test, folds: int) -> None:
    problems = places.frame["problem_id"].nunique()
    if not 2 <= folds <= problems:
        raise SdlabError(
            f"{problems} problems cannot be divided into {folds} folds; a probe needs at least 2 folds "
            "and one problem per fold; use more problems or fewer folds"
        )
    others = [(apply, places)] if apply is not None else []
    others += [test] if test is not None else []
    for more, where in [(states, places), *others]:
        for layer, x in states.items():
            if layer not in more:
                raise SdlabError(f"layer {layer} is missing in the other residuals; read the same layers")
            if more[layer].shape != (len(where.frame), x.shape[1]):
                raise SdlabError(
                    f"layer {layer} has residuals of shape {more[layer].shape} for {len(where.frame)} places "
                    f"and {x.shape[1]} dimensions; read them at these places, from a model of this size"
                )


def _position(places: Places) -> np.ndarray:
    """Return the features of the control without residuals: position and length of the prompt, (N, 4)."""
    at, before = (places.frame[name].to_numpy(float) for name in ("position", "prompt_tokens"))
    return np.stack([at, at**2, np.log1p(at), before], axis=1)
