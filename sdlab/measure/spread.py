"""Uncertainty of a mean over seeds and problems: variance components, and intervals that keep their level.

Every seed's model is evaluated on the same problems, so seeds and problems cross. A value is modelled as the
sum of a mean, a part of its seed, a part of its problem and the rest of its cell. The analysis of variance
gives three squared standard errors of the mean: `seeds` (S - 1 degrees of freedom; it includes the rest),
`problems` (P - 1; it includes the rest) and `rest`. The squared half-width of the interval is

    max(t(S - 1)^2 seeds + t(P - 1)^2 max(problems - rest, 0), t(P - 1)^2 max(problems, rest)).

The first term is Banerjee's rule (1960, Sankhya 22:357): squared errors, each times its own squared t
quantile, give an interval that covers at least as often as it says, whatever the true variances are, also
with two seeds. A negative estimate of the problems' variance counts as 0, and the interval is never narrower
than from problems or cells alone. One t quantile with Satterthwaite's degrees of freedom is too narrow here:
in a simulation of normal tables like those below it called up to 10% of null differences significant with two
seeds and 7% with three.

The price (`python tests/benchmarks/bench_intervals.py`): where seeds do not vary, the interval of a
difference is 3.1 to 3.9 times as wide as the percentile interval of the bootstrap over seeds and problems
with 2 seeds, 1.2 to 1.4 times with 3, and narrower with 5 (0.9) and 10 (0.7 to 0.9). Where they do vary (SD
0.1), that bootstrap called up to 37% of null differences significant with 2 seeds, 21% with 3 and 15% with 5;
this interval called at most 6%.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval

ANYTHING, POSITIVE, SHARE = (-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)  # bounds of a value


@dataclass(frozen=True)
class Spread:
    """The uncertainty of an estimate: squared standard errors with their degrees of freedom.

    The errors are numbers, or arrays when `crossed_spread` got many tables at once.
    """

    # independent parts: (squared error, degrees of freedom)
    parts: tuple[tuple[float | np.ndarray, int], ...]
    # The interval is at least as wide as this part alone makes it.
    least: tuple[float | np.ndarray, int] | None = None

    def half_width(self, confidence: float) -> float | np.ndarray:
        """Return half the width of the interval; NaN when there is nothing to estimate it from.

        Raises SdlabError when `confidence` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise SdlabError(
                f"confidence={confidence!r} is not allowed; it must be between 0 and 1; use for example 0.95"
            )
        if not self.parts:
            return np.nan
        squared = sum(error * _quantile(degrees, confidence) ** 2 for error, degrees in self.parts)
        if self.least:
            squared = np.maximum(squared, self.least[0] * _quantile(self.least[1], confidence) ** 2)
        return np.sqrt(squared)

    def around(
        self, mean: float | np.ndarray, confidence: float, bounds: tuple[float, float] = ANYTHING
    ) -> Interval:
        """Return `mean` with its interval, cut at `bounds` (the least and the largest possible value)."""
        half = self.half_width(confidence)
        low, high = (float(np.clip(value, *bounds)) for value in (mean - half, mean + half))
        return Interval(float(mean), low, high)


@lru_cache(maxsize=256)
def _quantile(degrees: int, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def crossed_spread(*tables: np.ndarray) -> Spread:
    """Return the spread of the sum of the tables' means.

    Each table has its own seeds; all have the same problems. Tables are (S, P) as `linearised` returns them,
    with mean 0; (..., S, P) are many at once.
    """
    parts: list[tuple[np.ndarray, int]] = []
    problems: np.ndarray = np.zeros(())
    rest: np.ndarray = np.zeros(())
    for table in tables:
        (seeds, count), by_seed, by_problem = table.shape[-2:], table.mean(-1), table.mean(-2)
        problems = problems + by_problem
        if seeds > 1:
            parts.append((by_seed.var(-1, ddof=1) / seeds, seeds - 1))
        if seeds > 1 and count > 1:
            cells = table - by_seed[..., None] - by_problem[..., None, :]
            rest = rest + (cells**2).sum((-2, -1)) / ((seeds - 1) * (count - 1) * seeds * count)
    if problems.shape[-1] == 1:
        return Spread(tuple(parts))
    count = problems.shape[-1]
    error = problems.var(-1, ddof=1) / count
    return Spread((*parts, (np.maximum(error - rest, 0.0), count - 1)), (np.maximum(error, rest), count - 1))


def linearised(over: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio of sums (...) and every cell's contribution to it (..., S, P), with mean 0.

    The delta method: (over - ratio * under) / mean of under. A table whose `under` adds up to 0 gives NaN.
    """
    total = under.sum((-2, -1))
    mean = np.divide(over.sum((-2, -1)), total, out=np.full(total.shape, np.nan), where=total != 0)
    below = np.where(total == 0, np.nan, total)[..., None, None] / np.prod(under.shape[-2:])
    return mean, (over - mean[..., None, None] * under) / below
