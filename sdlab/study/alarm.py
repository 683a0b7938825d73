"""Which measure of a training run warns first that the run will fail? Estimated from recorded runs.

This module measures how well the change of a measure after k steps separates failed from healthy runs.
`sdlab.study.detection` judges a threshold that is watched at every step. What holds for the runs of one
method may not hold for another, so both use cross-validation over methods: a measure's direction and its
threshold come from the runs of all other methods.

The seeds of one condition resemble each other, so a condition is the unit of an area's interval. Often few
conditions hold failed runs, and a bootstrap over conditions is then too narrow: in a simulation of areas
within methods whose true value is 0.5 (26 conditions of 5 seeds, two methods) its 95% interval excluded 0.5
in 7 to 15% of cases with 3 to 7 conditions with failed runs. The interval of `area_interval` did so in at
most 5.3% with 3 to 11 of them.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy import stats

from sdlab.errors import SdlabError, unknown
from sdlab.measure.intervals import Interval
from sdlab.measure.shares import widened
from sdlab.settings import Share, checked
from sdlab.study.outcomes import RUN
from sdlab.study.recorded import Recorded
from sdlab.study.watch import MEASURES, change

STEPS = (2, 3, 4, 6, 10)


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


def auroc(values: ArrayLike, failed: ArrayLike) -> float:
    """Return the probability that a failed run has a larger value than a healthy one; ties count one half.

    values (N,), failed (N,) bool: the area under the ROC curve. It is nan without a failed or without a
    healthy run.
    """
    return auroc_within(values, failed, np.zeros(len(np.asarray(values))))


def auroc_within(values: ArrayLike, failed: ArrayLike, groups: ArrayLike) -> float:
    """Return `auroc` over pairs of a failed and a healthy run of the same group only; ties count one half.

    values, failed, groups (N,). A measure that tells only the groups apart has 0.5. It is nan when no group
    has failed and healthy runs.
    """
    won, pairs = _pairs(values, failed, groups)
    return float(won.sum() / pairs.sum()) if pairs.any() else math.nan


def area_interval(
    values: ArrayLike,
    failed: ArrayLike,
    conditions: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Return the area with its interval over conditions, all of it nan without a pair.

    values, failed, conditions (N,). groups (N,): only pairs within a group count, as in `auroc_within`; None
    takes all pairs. The interval is Student's t over what each condition contributes to the area, with one
    degree of freedom less than the scarcer outcome has conditions. Where almost every pair is won, or lost,
    the contributions are all about 0. So it is widened by the rule of
    `sdlab.measure.shares`, with these conditions as units.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, summed by condition.
    """
    failed, conditions = np.asarray(failed, dtype=bool), np.asarray(conditions)
    won, pairs = _pairs(values, failed, np.zeros(len(failed)) if groups is None else groups)
    if not pairs.any():
        return Interval(math.nan, math.nan, math.nan)
    area = float(won.sum() / pairs.sum())
    lost = (won - area * pairs) / pairs.sum()
    names, place = np.unique(conditions, return_inverse=True)
    parts = np.bincount(place[failed], lost.sum(1), len(names))
    parts += np.bincount(place[~failed], lost.sum(0), len(names))
    shares = min(
        (_shares(won.sum(axis), pairs.sum(axis), conditions[mine])
         for axis, mine in ((1, failed), (0, ~failed))), key=len,
    )  # fmt: skip
    units = len(shares)
    if units == 1:
        return widened(Interval(area, math.nan, math.nan), shares, confidence)
    error = math.sqrt(float((parts**2).sum()) * units / (units - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, units - 1)) * error
    return widened(Interval(area, max(0.0, area - half), min(1.0, area + half)), shares, confidence)


def _pairs(values: ArrayLike, failed: ArrayLike, groups: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return what each failed run wins against each healthy one, and whether the two are compared."""
    values, failed, groups = np.asarray(values, float), np.asarray(failed, bool), np.asarray(groups)
    above = values[failed][:, None] - values[~failed]
    pairs = (groups[failed][:, None] == groups[~failed]).astype(float)
    return np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0)) * pairs, pairs


def _shares(won: np.ndarray, pairs: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Return the share of pairs won by condition, of those that have a pair."""
    _, place = np.unique(conditions, return_inverse=True)
    won, pairs = np.bincount(place, won), np.bincount(place, pairs)
    return won[pairs > 0] / pairs[pairs > 0]


def method_alone(runs: pandas.DataFrame) -> float:
    """Return the area under the ROC curve of knowing a run's method and nothing of the run itself.

    Every run counts as likely to fail as the share of its method's runs that failed, itself among them. So
    for a new run this is an upper limit.
    """
    return auroc(runs.groupby("method")["failed"].transform("mean"), runs["failed"])


@checked
def auroc_table(
    recorded: Recorded,
    runs: pandas.DataFrame,
    measures: Sequence[str] | None = None,
    steps: Sequence[int] = STEPS,
    confidence: Share = 0.95,
) -> pandas.DataFrame:
    """Return the area under the ROC curve of every measure after k steps.

    `runs` as in `changes`. measures: None takes all that some run has.

    Columns: measure, label, step, direction ("fall" or "rise", the one that fits all runs), auroc (in that
    direction, so at least 0.5), low, high (`area_interval`), unseen (the area when each method's direction
    is learned from the other methods, so possibly below 0.5), within with within_low and within_high
    (only runs of the same method are compared, in the direction of auroc), mixed (how many methods have
    failed and healthy runs; only these count in `within`), runs, failed, left_out. Runs that ended
    earlier do not count.

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
                | _area(values.to_numpy(), part, confidence)
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


def _area(values: np.ndarray, runs: pandas.DataFrame, confidence: float) -> dict:
    failed = runs["failed"].to_numpy(bool)
    names = ("auroc", "low", "high", "unseen", "within", "within_low", "within_high")
    nothing = {"direction": ""} | dict.fromkeys(names, math.nan) | {"mixed": 0}
    if not len(values) or failed.all() or not failed.any():
        return nothing
    sign = 1 if auroc(values, failed) >= 0.5 else -1
    conditions, methods = runs.index.get_level_values("condition"), runs["method"].to_numpy()
    across = area_interval(sign * values, failed, conditions, None, confidence)
    within = area_interval(sign * values, failed, conditions, methods, confidence)
    learned = np.full(len(values), np.nan)
    for method in runs["method"].unique():
        mine = methods == method
        other = auroc(values[~mine], failed[~mine])
        if not math.isnan(other):
            learned[mine] = values[mine] if other >= 0.5 else -values[mine]
    known = ~np.isnan(learned)
    shares = runs.groupby("method")["failed"].mean()
    return {
        "direction": "rise" if sign > 0 else "fall", "auroc": across.mean, "low": across.low,
        "high": across.high, "unseen": auroc(learned[known], failed[known]), "within": within.mean,
        "within_low": within.low, "within_high": within.high,
        "mixed": int(((shares > 0) & (shares < 1)).sum()),
    }  # fmt: skip
