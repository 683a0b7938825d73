"""Which measure of a training run warns first that the run will fail? Estimated from recorded runs.

This module measures how well the change of a measure after k steps separates failed from healthy runs.
`sdlab.study.detection` judges a threshold that is watched at every step. What holds for the runs of one
method may not hold for another, so both use cross-validation over methods: a measure's direction and its
threshold come from the runs of all other methods.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas
from numpy.typing import ArrayLike

from sdlab.errors import SdlabError, unknown
from sdlab.seeds import stable_int
from sdlab.settings import Seed, Share, checked
from sdlab.study.outcomes import RUN
from sdlab.study.recorded import Recorded
from sdlab.study.watch import MEASURES, change

STEPS = (2, 3, 4, 6, 10)
RESAMPLES = 1000


def changes(recorded: Recorded, runs: pandas.DataFrame, measure: str) -> pandas.DataFrame:
    """Return the change of a measure after k steps, with a row per run and a column per k.

    `runs` are those of `sdlab.study.outcomes.outcomes`; the index is (condition, seed). Row k of a run is
    measured after k updates, so column 0 is 0. Columns beyond the end of a run are nan. Runs without the
    measure are left out: `attrs["left_out"]` has their number.

    Raises SdlabError for an unknown measure and when no run has it.
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if measure not in recorded.steps.columns or recorded.steps[measure].isna().all():
        raise SdlabError(
            f"no recorded run has the column {measure!r}; runs of an older version did not write it; "
            "make them again with `sdlab reproduce`, or choose another measure"
        )
    wide = recorded.steps.pivot(index=RUN, columns="step", values=measure)
    wide = wide.reindex(pandas.MultiIndex.from_frame(runs[RUN]))
    known = wide[wide[0].notna()]
    moved = pandas.DataFrame(change(known, measure), index=known.index, columns=known.columns)
    moved = moved[moved[0].notna()]
    moved.attrs["left_out"] = len(wide) - len(moved)
    return moved


def auroc(values: ArrayLike, failed: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """Return the probability that a failed run has a larger value than a healthy one; ties count one half.

    values (N,), failed (N,) bool, weights (R, N) or None: the area under the ROC curve, () or (R,). It is nan
    without a failed or without a healthy run.
    """
    values, failed = np.asarray(values, dtype=float), np.asarray(failed, dtype=bool)
    weights = np.ones((1, len(values))) if weights is None else np.asarray(weights, dtype=float)
    above = values[failed][:, None] - values[~failed]
    wins = np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0))
    bad, good = weights[:, failed], weights[:, ~failed]
    pairs = bad.sum(1) * good.sum(1)
    areas = np.divide(((bad @ wins) * good).sum(1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return areas if len(areas) > 1 else areas[0]


def auroc_within(
    values: ArrayLike, failed: ArrayLike, groups: ArrayLike, weights: ArrayLike | None = None
) -> np.ndarray:
    """Return `auroc` over pairs of a failed and a healthy run of the same group only; ties count one half.

    values, failed, groups (N,), weights (R, N) or None: the area, () or (R,). A measure that tells only the
    groups apart has 0.5. It is nan when no group has failed and healthy runs.
    """
    values, failed, groups = (
        np.asarray(values, dtype=float),
        np.asarray(failed, dtype=bool),
        np.asarray(groups),
    )
    weights = np.ones((1, len(values))) if weights is None else np.asarray(weights, dtype=float)
    pairs, won = np.zeros(len(weights)), np.zeros(len(weights))
    for group in np.unique(groups):
        mine = groups == group
        own = weights[:, mine][:, failed[mine]].sum(1) * weights[:, mine][:, ~failed[mine]].sum(1)
        area = np.atleast_1d(auroc(values[mine], failed[mine], weights[:, mine]))
        pairs, won = pairs + own, won + np.where(own > 0, own * area, 0.0)
    areas = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return areas if len(areas) > 1 else areas[0]


def method_alone(runs: pandas.DataFrame) -> float:
    """Return the area under the ROC curve of knowing a run's method and nothing of the run itself.

    Every run counts as likely to fail as the share of its method's runs that failed.
    """
    return float(auroc(runs.groupby("method")["failed"].transform("mean"), runs["failed"]))


@checked
def auroc_table(
    recorded: Recorded,
    runs: pandas.DataFrame,
    measures: Sequence[str] | None = None,
    steps: Sequence[int] = STEPS,
    confidence: Share = 0.95,
    seed: Seed = 0,
) -> pandas.DataFrame:
    """Return the area under the ROC curve of every measure after k steps.

    `runs` as in `changes`. measures: None takes all that some run has.

    Columns: measure, label, step, direction ("fall" or "rise", the one that fits all runs), auroc (in that
    direction, so at least 0.5), low, high (percentile bootstrap; the conditions are resampled, because the
    seeds of one condition resemble each other), unseen (the area when each method's direction is learned from
    the other methods, so possibly below 0.5), within with within_low and within_high (only runs of the same
    method are compared, in the direction of auroc), mixed (how many methods have failed and healthy
    runs; only these count in `within`), runs, failed, left_out. Runs that ended earlier do not count.

    Raises SdlabError as `changes`, and without both failed and healthy runs.
    """
    if runs["failed"].all() or not runs["failed"].any():
        raise SdlabError(
            f"{int(runs['failed'].sum())} of {len(runs)} runs failed; an area under the ROC curve needs "
            "failed and healthy runs; change what counts as a failure, or add runs"
        )
    rows = []
    for measure in measures_of(recorded, runs) if measures is None else measures:
        moved = changes(recorded, runs, measure)
        for step in steps:
            values = moved[step].dropna() if step in moved.columns else pandas.Series(dtype=float)
            part = runs.set_index(RUN).loc[values.index] if len(values) else runs.iloc[:0]
            rows.append(
                {"measure": measure, "label": MEASURES[measure].label, "step": step}
                | _area(values.to_numpy(), part, confidence, seed)
                | {
                    "runs": len(values),
                    "failed": int(part["failed"].sum()),
                    "left_out": len(runs) - len(values),
                }
            )
    return pandas.DataFrame(rows)


def measures_of(recorded: Recorded, runs: pandas.DataFrame) -> list[str]:
    """Return the measures that at least one of the runs has."""
    steps = recorded.steps[recorded.steps["condition"].isin(runs["condition"])]
    return [name for name in MEASURES if name in steps.columns and steps[name].notna().any()]


def _area(values: np.ndarray, runs: pandas.DataFrame, confidence: float, seed: int) -> dict:
    failed = runs["failed"].to_numpy(bool)
    names = ("auroc", "low", "high", "unseen", "within", "within_low", "within_high")
    nothing = {"direction": ""} | dict.fromkeys(names, math.nan) | {"mixed": 0}
    if not len(values) or failed.all() or not failed.any():
        return nothing
    area = float(auroc(values, failed))
    sign = 1 if area >= 0.5 else -1
    names, place = np.unique(runs.index.get_level_values("condition"), return_inverse=True)
    rng = np.random.default_rng(stable_int("auroc", seed))
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)[:, place]
    low, high = np.nanpercentile(
        auroc(sign * values, failed, draws), [50 * (1 - confidence), 50 * (1 + confidence)]
    )
    learned = np.full(len(values), np.nan)
    for method in runs["method"].unique():
        mine = (runs["method"] == method).to_numpy()
        other = float(auroc(values[~mine], failed[~mine])) if (~mine).any() else math.nan
        if not math.isnan(other):
            learned[mine] = values[mine] if other >= 0.5 else -values[mine]
    known = ~np.isnan(learned)
    unseen = float(auroc(learned[known], failed[known])) if known.any() else math.nan
    groups = runs["method"].to_numpy()
    shares = runs.groupby("method")["failed"].mean()
    mixed = int(((shares > 0) & (shares < 1)).sum())
    inside, ends = math.nan, (math.nan, math.nan)
    if mixed:
        inside = float(auroc_within(sign * values, failed, groups))
        drawn = auroc_within(sign * values, failed, groups, draws)
        ends = tuple(np.nanpercentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)]).tolist())
    return {
        "direction": "rise" if sign > 0 else "fall", "auroc": max(area, 1 - area), "low": float(low),
        "high": float(high), "unseen": unseen, "within": inside, "within_low": ends[0],
        "within_high": ends[1], "mixed": mixed,
    }  # fmt: skip
