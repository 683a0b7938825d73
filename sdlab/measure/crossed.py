"""Intervals over training seeds and problems at once: a result must hold for another seed and for other problems.

Every seed's model answers the same problems, so seeds and problems cross. The pigeonhole bootstrap (Owen 2007, "The
pigeonhole bootstrap", Annals of Applied Statistics 1:386) resamples both, independently; for such data it is somewhat
conservative, and with few seeds that is the right side to err on. With one seed only problems are resampled.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.intervals import RESAMPLES, Interval
from sdlab.seeds import stable_int


@dataclass(frozen=True)
class Difference:
    """Condition b minus condition a."""

    interval: Interval
    significant: bool  # the interval leaves out 0, and there are at least three seeds on each side

    def __str__(self) -> str:
        sign = "+" if self.interval.mean >= 0 else ""
        return f"{sign}{self.interval}" + ("" if self.significant else " (not significant)")


def crossed_interval(over, under=None, confidence: float = 0.95, seed: int = 0) -> Interval:
    """sum(over) / sum(under) with a percentile interval; both (S, P): one sum per training seed and problem.

    `under` None counts every cell once (a plain mean). Raises SdlabError when the arrays are empty, ragged or differ in shape.
    """
    over, under = _table(over, under)
    problems, seeds = _counts(seed, over.shape[1], len(over))
    draws = _ratio(over, under, seeds, problems)
    return _percentiles(over.sum() / under.sum(), draws, confidence)


def crossed_difference(
    over_a, over_b, under_a=None, under_b=None, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Ratio of b minus ratio of a, (S_a, P) and (S_b, P): the same problems in the same order, resampled together.

    Seeds are resampled together when both have the same number (run s of a and of b share their seed), else apart.
    Raises SdlabError as crossed_interval, and when the numbers of problems differ.
    """
    (a, m), (b, n) = _table(over_a, under_a), _table(over_b, under_b)
    if a.shape[1] != b.shape[1]:
        raise SdlabError(
            f"the conditions have {a.shape[1]} and {b.shape[1]} problems; compare them on the same problems"
        )
    problems, seeds_a, *apart = _counts(seed, a.shape[1], len(a), *([len(b)] if len(a) != len(b) else []))
    seeds_b = apart[0] if apart else seeds_a
    draws = _ratio(b, n, seeds_b, problems) - _ratio(a, m, seeds_a, problems)
    interval = _percentiles(b.sum() / n.sum() - a.sum() / m.sum(), draws, confidence)
    return Difference(interval, (interval.low > 0 or interval.high < 0) and min(len(a), len(b)) >= 3)


def seeds_interval(values, confidence: float = 0.95) -> Interval:
    """The mean of one number per training seed (S,) with Student's t interval, for what is measured once per run.

    Resampling five numbers would give an interval far too narrow; one number has none (NaN). Raises SdlabError without values.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size:
        raise SdlabError(f"an interval over seeds needs one number per seed; got shape {values.shape}")
    mean, n = float(values.mean()), len(values)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * float(values.std(ddof=1)) / n**0.5 if n > 1 else np.nan
    return Interval(mean, mean - half, mean + half)


def seeds_difference(a, b, confidence: float = 0.95) -> Difference:
    """b minus a, one number per seed each (S,), paired: run s of a and of b share their seed and their questions."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise SdlabError(
            f"a comparison paired by seed needs the same seeds on both sides; got shapes {a.shape} and {b.shape}"
        )
    interval = seeds_interval(b - a, confidence)
    return Difference(interval, bool(interval.low > 0 or interval.high < 0) and len(a) >= 3)


def _table(over, under):
    over = np.asarray(over, dtype=float)
    under = np.ones_like(over) if under is None else np.asarray(under, dtype=float)
    if over.ndim != 2 or not over.size or over.shape != under.shape:
        raise SdlabError(
            f"an interval over seeds and problems needs tables (seeds, problems); got shapes {over.shape} and {under.shape}"
        )
    return over, under


@lru_cache(maxsize=8)  # a figure asks for dozens of intervals over equally large tables
def _counts(seed: int, *sizes: int) -> tuple[np.ndarray, ...]:
    """How often each of `size` things is in each resample, (RESAMPLES, size), for each of `sizes`, drawn in this order."""
    rng = np.random.default_rng(stable_int("crossed", seed))
    return tuple(
        rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(float)
        if size > 1
        else np.ones((RESAMPLES, 1))
        for size in sizes
    )


def _ratio(over, under, seeds, problems) -> np.ndarray:
    above, below = (
        np.einsum("rs,sp,rp->r", seeds, table, problems, optimize=True) for table in (over, under)
    )
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)


def _percentiles(mean: float, draws: np.ndarray, confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return Interval(float(mean), float(low), float(high))
