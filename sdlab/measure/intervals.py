"""Confidence intervals by problem: completions of one problem resemble each other, so problems are resampled.

Every measure is a ratio of two sums over problems (score: reward over completions; density: markers over
tokens). One ratio has a bootstrap interval, BCa (Efron 1987, `scipy.stats.bootstrap`) rather than percentile:
for scores near 0 or 1 it covers more often. In a simulation of 95% intervals (8 completions per problem;
`python tests/benchmarks/bench_intervals.py --one-seed`) it covered the truth in 92, 93 and 96% of cases at a
score of 0.7 and in 76, 85 and 94% at 0.95, with 8, 20 and 60 problems. So treat a score's interval as too
narrow with fewer than about 20 problems, and near 0 or 1 with fewer than about 60.

The difference of two ratios on the same problems has Student's t interval, which keeps its level from 6
problems on. BCa called 8 to 16% of null differences significant with 6 to 12 problems.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import overload

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.seeds import stable_int

RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are NaN where there is none (one problem).

    An interval without width comes from values that do not vary, which does not make the estimate certain: as
    text it is the estimate alone.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        numbers = [tidy(value) for value in (self.mean, self.low, self.high)]
        return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if self.has_width else numbers[0]

    @property
    def signed(self) -> str:
        """Return a difference as text: with a plus sign unless its mean is below 0."""
        return f"{'+' if self.mean >= 0 else ''}{self}"

    @property
    def has_width(self) -> bool:
        """Return whether low and high are numbers, and apart."""
        return isfinite(self.low) and self.high - self.low > 1e-12 * max(1.0, abs(self.mean))


ENDS = ("mean", "low", "high")  # the columns of an interval in a table


def row_interval(row: pandas.Series, columns: Sequence[str] = ENDS) -> Interval:
    """Return the interval of one row of a table; `columns` name its mean, low and high."""
    return Interval(*(float(row[name]) for name in columns))


def row_intervals(table: pandas.DataFrame, columns: Sequence[str] = ENDS) -> list[Interval]:
    """Return the interval of every row of a table, as `row_interval`."""
    return [Interval(*row) for row in table[list(columns)].to_numpy(float).tolist()]


def interval_cells(table: pandas.DataFrame, columns: Sequence[str] = ENDS) -> list[str]:
    """Return the interval of every row of a table as text, for a cell."""
    return [str(interval) for interval in row_intervals(table, columns)]


def tidy(value: float) -> str:
    """Return a number with the digits a table needs: 0.33, 9.8, 13,054."""
    size = abs(value)
    if size < 0.005:
        return "0.00"  # and not "-0.00"
    if size < 100:
        return f"{value:.2f}" if size < 2 else f"{value:.1f}"
    return f"{value:,.0f}" if size < 1e15 else "nan"


def ratio_interval(over: ArrayLike, under: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return sum(over) / sum(under) with its interval over problems.

    Both are (P,), one sum per problem, with `under` >= 0. Problems with `under` 0 have no value and are left
    out. When every problem has the same ratio, the interval has no width: resampling cannot show what never
    happened. That of a share has a width there, too (`sdlab.measure.shares`).

    Raises SdlabError when P is 0, when the shapes differ, and when `confidence` is not between 0 and 1.
    """
    top, bottom = known_problems((over, under), confidence)

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return _ratio(a.sum(axis), b.sum(axis))

    mean = float(statistic(top, bottom))
    if len(top) < 2:
        return Interval(mean, np.nan, np.nan)
    if np.ptp(top / bottom) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)
    for method in ("BCa", "percentile"):  # BCa is undefined when hardly any resample differs from the rest
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of that case; the fallback deals with it
            limits = stats.bootstrap(
                (top, bottom),
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=RESAMPLES,
                batch=max(1, 500_000 // len(top)),
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(stable_int("bootstrap", seed)),
            ).confidence_interval
        if np.isfinite(limits.low) and np.isfinite(limits.high):
            return Interval(mean, float(limits.low), float(limits.high))
    return Interval(mean, np.nan, np.nan)


def difference_interval(
    over_a: ArrayLike,
    under_a: ArrayLike,
    over_b: ArrayLike,
    under_b: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Return the ratio of b minus the ratio of a, paired by problem, with its interval.

    All four are (P,): the same problems in the same order. The interval is Student's t over the problems'
    contributions to the difference (the ratios are linearised). Problems with `under` 0 on either side are
    left out. One problem has no interval (NaN). When every problem has the same difference, the interval has
    no width; that of two shares has one there, too (`sdlab.measure.shares`).

    Raises SdlabError as `ratio_interval`.
    """
    a, m, b, n = known_problems((over_a, under_a, over_b, under_b), confidence)
    if not len(a):
        return Interval(np.nan, np.nan, np.nan)
    ratio_a, ratio_b = a.sum() / m.sum(), b.sum() / n.sum()
    mean = float(ratio_b - ratio_a)
    if len(a) == 1:
        return Interval(mean, np.nan, np.nan)
    added = (b - ratio_b * n) / n.mean() - (a - ratio_a * m) / m.mean()
    half = float(stats.t.ppf((1 + confidence) / 2, len(a) - 1) * added.std(ddof=1) / len(a) ** 0.5)
    return Interval(mean, mean - half, mean + half)


def known_problems(parts: Sequence[ArrayLike], confidence: float) -> list[np.ndarray]:
    """Return the columns (over, under, ...) of the problems whose every `under` is not 0.

    Raises SdlabError when there is no problem, when the shapes differ, and when `confidence` is not between 0
    and 1.
    """
    columns = [np.asarray(part, dtype=float) for part in parts]
    if not columns[0].size or any(column.shape != (len(columns[0]),) for column in columns):
        raise SdlabError(
            f"an interval needs one number per problem; got shapes {[column.shape for column in columns]}"
        )
    if not 0 < confidence < 1:
        raise SdlabError(
            f"confidence={confidence!r} is not allowed; it must be between 0 and 1, for example 0.95"
        )
    known = np.all([under != 0 for under in columns[1::2]], axis=0)
    return [column[known] for column in columns]


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), np.nan), where=np.asarray(under) != 0)


Counts = np.ndarray | pandas.Series


@overload
def pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def pass_at_k(n: Counts, c: Counts, k: int) -> np.ndarray: ...
def pass_at_k(n: int | Counts, c: int | Counts, k: int) -> float | np.ndarray:
    """Return the unbiased estimate of pass@k from n samples with c right: 1 - C(n-c, k) / C(n, k).

    `n` and `c` are numbers or arrays of one shape. The product form stays exact where the binomials overflow.

    Raises SdlabError unless 1 <= k <= n and 0 <= c <= n.

    Source: Chen et al. 2021 (arXiv 2107.03374).
    """
    n_all, c_all = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    if k < 1 or (n_all < k).any():
        raise SdlabError(
            f"pass@k needs 1 <= k <= samples per problem; k={k}, samples={n_all.min() if n_all.size else 0}"
        )
    if (c_all < 0).any() or (c_all > n_all).any():
        raise SdlabError("pass@k needs a count of right samples between 0 and the samples per problem")

    def one(n: int, c: int) -> float:
        return 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    values = np.array([one(int(a), int(b)) for a, b in zip(n_all.ravel(), c_all.ravel(), strict=True)])
    values = values.reshape(n_all.shape)
    return values if values.ndim else float(values)
