"""Many methods against one: p-values from the intervals over seeds and problems, Holm's correction, verdicts.

With 42 methods and one comparator, two of the 95% intervals exclude 0 by chance. So the p-values of all
methods against the same comparator, in one round and on one split, are a family, and Holm's correction
(1979, Scand. J. Stat. 6:65) keeps the probability of any wrong rejection in the family below 5%. There is one
family for each of three hypotheses (no difference; lower by the margin or more; not within the margin), so
this holds for each kind of verdict, not for all kinds together. The p-value of a difference is 1 minus the
confidence at which its interval (`sdlab.measure.spread`) just reaches 0.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from sdlab.measure.crossed import Difference
from sdlab.study.arena_conditions import UNTRAINED, arena_name
from sdlab.study.recorded import Recorded
from sdlab.study.statements import MARGIN

LEVEL = 0.05  # of a family
SMALLEST = 1e-12  # p-values below this are reported as this
BETTER, WORSE, EQUAL, NOT_WORSE = "better", "worse", "equal", "not worse"
NOT_SETTLED = "not settled"
GAINS, KEEPS, LOSES = "gains", "keeps", "loses"  # against the untrained model
NOT_RECORDED, ONE_SEED = "not recorded", "one seed"
COLUMNS = (
    "method", "other", "split", "seeds", "mean", "low", "high", "p", "p_least", "p_within", "verdict",
)  # fmt: skip


def p_value(difference: Difference, at: float = 0.0) -> float:
    """Return the two-sided p-value of the hypothesis that the true difference is `at`.

    It is NaN with fewer than two seeds, or when two seeds are equal: they do not show how much seeds vary.
    """
    distance = abs(difference.interval.mean - at)
    if difference.seeds < 2 or not difference.spread.half_width(0.95) > 0:
        return math.nan

    def excess(log_p: float) -> float:
        return float(difference.spread.half_width(1 - math.exp(log_p))) - distance

    lowest, highest = math.log(SMALLEST), math.log(1 - 1e-9)
    if excess(lowest) <= 0:
        return SMALLEST
    if excess(highest) >= 0:
        return 1.0
    return math.exp(root_scalar(excess, bracket=(lowest, highest), xtol=1e-10).root)


def p_above(difference: Difference, at: float) -> float:
    """Return the one-sided p-value of the hypothesis that the true difference is at most `at`."""
    both = p_value(difference, at)
    return both / 2 if difference.interval.mean > at else 1 - both / 2


def p_within(difference: Difference, margin: float) -> float:
    """Return the p-value of the hypothesis that the true difference is not within (-margin, margin).

    It is the larger one of the two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657).
    """
    both = p_value(difference, margin)
    return max(p_above(difference, -margin), both / 2 if difference.interval.mean < margin else 1 - both / 2)


def p_beyond(difference: Difference, margin: float) -> float:
    """Return the p-value of the hypothesis that the true difference is within [-margin, margin].

    It is the two-sided one at the nearer end of the margin, which holds the level wherever the truth lies.
    """
    mean = difference.interval.mean
    both = p_value(difference, math.copysign(margin, mean))
    return both if abs(mean) > margin or math.isnan(both) else 1.0


def holm(p: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values (N,) of a family; a NaN stays NaN and is no member of the family."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return adjusted


def frames_of(recorded: Recorded, split: str | None = None) -> dict[str, pandas.DataFrame]:
    """Return the evaluations by condition, of one split or (None) of all: a record of the arena is large."""
    rows = recorded.evaluations
    rows = rows if split is None else rows[rows["split"] == split]
    return {str(name): frame for name, frame in rows.groupby("condition", sort=False)}


def recorded_in(frames: Mapping[str, pandas.DataFrame], *names: str) -> Recorded:
    """Return the records of some conditions, without steps, from `frames_of`."""
    rows = pandas.concat([frames[name] for name in dict.fromkeys(names)])
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), rows, {})


def compare_with(
    recorded: Recorded,
    methods: Sequence[str],
    other: str,
    round_name: str = "hunts",
    split: str = "unseen-types",
    margin: float = MARGIN,
) -> pandas.DataFrame:
    """Return every method's score minus that of `other`, with a verdict: one row per method, as one family.

    other: a method, or "base" for the untrained model. Columns: COLUMNS. low and high are the 95% interval
    of the single difference. p (the difference is 0), p_least (it is at most -margin) and p_within (it is
    not within the margin) are adjusted by Holm's correction over the methods.

    The verdict against a method: better or worse (p), else equal (p_within), else not worse by the margin or
    more (p_least), each below 5%, else not settled. Against the untrained model: gains (above it by p), keeps
    (not lower by the margin or more, by p_least), loses (below it by p), else not settled. A method that
    keeps may still be a little lower. A method without a record, or whose comparator has none, is not
    recorded; with one seed in common the verdict is "one seed".
    """
    frames, name = frames_of(recorded, split), arena_name(other, round_name)
    rows: list[dict] = []
    for method in methods:
        if method == other:
            continue
        row: dict = dict.fromkeys(COLUMNS, math.nan) | {"method": method, "other": other, "split": split}
        row |= {"seeds": 0, "verdict": NOT_RECORDED}
        own = arena_name(method, round_name)
        if {own, name} <= frames.keys():
            difference = recorded_in(frames, name, own).difference(name, own, "reward", split)
            row |= {"seeds": difference.seeds, "verdict": "", **vars(difference.interval)}
            row["p"] = p_value(difference)
            row["p_least"] = p_above(difference, -margin)
            row["p_within"] = p_within(difference, margin)
        rows.append(row)
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    for column in ("p", "p_least", "p_within"):
        table[column] = holm(table[column].astype(float))
    verdict = against_untrained if other == UNTRAINED else against_method
    table["verdict"] = [
        row["verdict"] or verdict(row["mean"], row["p"], row["p_least"], row["p_within"])
        for row in table.to_dict("records")
    ]
    return table


def against_method(mean: float, p: float, p_least: float, p_within: float) -> str:
    """Return the verdict on a difference from another method; see `compare_with`."""
    if math.isnan(p):
        return ONE_SEED
    if p < LEVEL:
        return BETTER if mean > 0 else WORSE
    if p_within < LEVEL:
        return EQUAL
    return NOT_WORSE if p_least < LEVEL else NOT_SETTLED


def against_untrained(mean: float, p: float, p_least: float, p_within: float) -> str:
    """Return the verdict on a difference from the untrained model; see `compare_with`."""
    if math.isnan(p):
        return ONE_SEED
    if p < LEVEL and mean > 0:
        return GAINS
    if p_least < LEVEL:
        return KEEPS
    return LOSES if p < LEVEL else NOT_SETTLED
