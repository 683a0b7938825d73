"""Intervals over training seeds and problems: a result must hold for other seeds and other problems.

`sdlab.measure.spread` describes the method. Two conditions are compared on the same problems and, where they
have seeds in common, seed by seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval
from sdlab.measure.shares import widened_ratio
from sdlab.measure.spread import ANYTHING, SHARE, Spread, crossed_spread, linearised
from sdlab.text.repr_html import ReprHtml

Table = pandas.DataFrame | np.ndarray | Sequence[Sequence[float]]  # (S, P)
Values = pandas.Series | np.ndarray | Sequence[float]  # (S,)
Seeds = Sequence[int] | None


@dataclass(frozen=True)
class Difference(ReprHtml):
    """Condition b minus condition a."""

    interval: Interval
    # Whether the interval excludes 0. False with fewer than two seeds on a side, because then the variation
    # between seeds is not known.
    significant: bool
    spread: Spread
    # The number of seeds compared: pairs of seeds, or the smaller side's number where seeds are not paired.
    seeds: int
    paired: bool = True
    # Where only the common seeds are compared: the seeds that only one side has.
    left_out: tuple = ()

    def __repr__(self) -> str:
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"<Difference {self}, {seeds}{' paired' if self.paired else ''}>"

    def __str__(self) -> str:
        notes = [] if self.significant else ["not significant"]
        if self.seeds == 1:
            notes.append("one seed")
        if self.left_out:
            notes.append(f"{self.seeds} common seeds")
        return self.interval.signed + (f" ({', '.join(notes)})" if notes else "")

    @property
    def seeds_show_spread(self) -> bool:
        """Return whether the seeds show how much seeds vary: not one seed, and not two equal ones."""
        return _measured(self.interval, self.seeds)

    def at(self, confidence: float) -> Interval:
        """Return the interval at another level, for example 0.9."""
        return self.spread.around(self.interval.mean, confidence)

    def equivalent(self, margin: float) -> bool:
        """Return whether the two conditions are shown to differ by less than `margin`.

        Two one-sided tests at 5% each: the 90% interval lies inside (-margin, margin). State the margin
        wherever you state the verdict. False means that equality is not shown; it does not mean that there is
        a difference. One seed never shows equality, and neither does a difference without any variation.

        Raises SdlabError unless margin > 0.

        Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657.
        """
        if not margin > 0:
            raise SdlabError(f"margin={margin!r} is not allowed; it must be above 0; use for example 0.05")
        interval = self.at(0.9)
        inside = -margin < interval.low and interval.high < margin
        return inside and interval.has_width and self.seeds_show_spread


def crossed_interval(
    over: Table,
    under: Table | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] = ANYTHING,
) -> Interval:
    """Return sum(over) / sum(under) with its interval over seeds and problems.

    Both are (S, P): one sum per training seed and problem. `under` None counts every cell once (a plain
    mean). The ratio is linearised (delta method). With one seed the interval is over problems only and says
    nothing about other seeds; with one problem it is over seeds only. `bounds`: the least and the largest
    possible value; the interval ends there. With the bounds SHARE it is widened by problem, as
    `sdlab.measure.shares` says.

    Raises SdlabError when a table is empty or ragged or has missing values, and when the two differ in shape.
    """
    top, bottom = _tables(over, under)
    mean, values = linearised(top, bottom)
    interval = crossed_spread(values).around(mean, confidence, bounds)
    return widened_ratio(interval, top.sum(0), bottom.sum(0), confidence) if bounds == SHARE else interval


def crossed_difference(
    over_a: Table,
    over_b: Table,
    under_a: Table | None = None,
    under_b: Table | None = None,
    confidence: float = 0.95,
    *,
    seeds_a: Seeds = None,
    seeds_b: Seeds = None,
) -> Difference:
    """Return the ratio of b minus the ratio of a with its interval over seeds and problems.

    The tables are (S_a, P) and (S_b, P) of the same problems, as in `crossed_interval`. Seeds are paired by
    their number: `seeds_a` and `seeds_b`, else the index of a data frame (its columns are the problems).
    Arrays without numbers are paired row by row. When the seeds differ, the common ones are compared and
    `left_out` has the others; then the difference may not equal the difference of the two conditions' own
    means. With fewer than two common seeds, all seeds are used unpaired, and each side adds the error of its
    own seeds.

    Raises SdlabError as `crossed_interval`, when the problems differ, when a seed's number occurs twice, and
    when arrays without numbers have different numbers of rows.
    """
    (mean_a, values_a), (mean_b, values_b), pairs = _sides(over_a, over_b, under_a, under_b, seeds_a, seeds_b)
    return _difference(mean_b - mean_a, pairs.contrast(values_a, values_b), pairs, confidence)


def crossed_ratio(
    over_a: Table,
    over_b: Table,
    under_a: Table | None = None,
    under_b: Table | None = None,
    confidence: float = 0.95,
    *,
    seeds_a: Seeds = None,
    seeds_b: Seeds = None,
) -> Interval:
    """Return the ratio of b divided by the ratio of a, with its interval: 0.5 means that b is half of a.

    The interval is computed for the logarithm (delta method). Tables and seeds are as in
    `crossed_difference`. With one seed the interval is over problems only.

    Raises SdlabError as `crossed_difference`, and when a or b is not above 0.
    """
    (mean_a, values_a), (mean_b, values_b), pairs = _sides(over_a, over_b, under_a, under_b, seeds_a, seeds_b)
    if not (mean_a > 0 and mean_b > 0):
        raise SdlabError(
            f"the ratio {mean_b:g} / {mean_a:g} has no interval; both must be above 0; compare the difference"
        )
    spread = pairs.contrast(values_a / mean_a, values_b / mean_b)
    return Interval(*np.exp(list(vars(spread.around(np.log(mean_b / mean_a), confidence)).values())).tolist())


def seeds_interval(
    values: Values, confidence: float = 0.95, bounds: tuple[float, float] = ANYTHING
) -> Interval:
    """Return the mean of one number per seed with Student's t interval, for what is measured once per run.

    `values` (S,); one number has no interval (NaN). `bounds` as in `crossed_interval`.

    Raises SdlabError without values and when one is missing.
    """
    numbers = _one_each(values)
    spread = crossed_spread((numbers - numbers.mean())[:, None])
    return spread.around(float(numbers.mean()), confidence, bounds)


def seeds_difference(
    a: Values,
    b: Values,
    confidence: float = 0.95,
    *,
    seeds_a: Seeds = None,
    seeds_b: Seeds = None,
) -> Difference:
    """Return b minus a, measured once per run, paired by the seed's number, with Student's t interval.

    The values are (S_a,) and (S_b,). Seeds are `seeds_a` and `seeds_b`, else the index of a pandas Series.
    They are paired, left out or compared unpaired as in `crossed_difference`.

    Raises SdlabError as `seeds_interval`, and for seeds as `crossed_difference`.
    """
    pairs = _pairs(_numbers(a, seeds_a, len(a)), _numbers(b, seeds_b, len(b)), len(a), len(b))
    values_a, values_b = _one_each(a)[pairs.rows_a], _one_each(b)[pairs.rows_b]
    mean_a, mean_b = float(values_a.mean()), float(values_b.mean())
    spread = pairs.contrast((values_a - mean_a)[:, None], (values_b - mean_b)[:, None])
    return _difference(mean_b - mean_a, spread, pairs, confidence)


def _one_each(values: Values) -> np.ndarray:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not numbers.size or np.isnan(numbers).any():
        raise SdlabError(
            f"an interval over seeds needs one number per seed, none missing; got shape {numbers.shape} with "
            f"{int(np.isnan(numbers).sum())} missing; leave out runs without a value on purpose"
        )
    return numbers


def _difference(mean: float | np.ndarray, spread: Spread, pairs: "_Pairs", confidence: float) -> Difference:
    interval, seeds = spread.around(mean, confidence), min(len(pairs.rows_a), len(pairs.rows_b))
    significant = bool(interval.low > 0 or interval.high < 0) and _measured(interval, seeds)
    return Difference(interval, significant, spread, seeds, pairs.paired, pairs.left_out)


def _measured(interval: Interval, seeds: int) -> bool:
    """Return whether the seeds show how much seeds vary.

    One seed does not show it, and two equal seeds do not either.
    """
    return seeds > 2 or (seeds == 2 and interval.high - interval.low > 1e-9 * abs(interval.mean))


def _tables(over: Table, under: Table | None) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(over, pandas.DataFrame) and isinstance(under, pandas.DataFrame):
        if not (over.index.equals(under.index) and over.columns.equals(under.columns)):
            raise SdlabError("the two tables of a ratio have other seeds or problems; give both in one order")
    top = np.asarray(over, dtype=float)
    bottom = np.ones_like(top) if under is None else np.asarray(under, dtype=float)
    if top.ndim != 2 or not top.size or top.shape != bottom.shape:
        raise SdlabError(
            "an interval over seeds and problems needs tables (seeds, problems); "
            f"got shapes {top.shape} and {bottom.shape}"
        )
    if missing := int((np.isnan(top) | np.isnan(bottom)).sum()):
        raise SdlabError(
            f"{missing} of {top.size} cells are missing; every seed must have every problem; "
            "choose the problems (or seeds) that are complete"
        )
    return top, bottom


@dataclass(frozen=True)
class _Pairs:
    """The rows of a and b that are compared."""

    rows_a: list[int]
    rows_b: list[int]
    paired: bool
    left_out: tuple = ()

    def contrast(self, values_a: np.ndarray, values_b: np.ndarray) -> Spread:
        """Return the spread of b minus a from their linear parts, rows already chosen."""
        return crossed_spread(values_b - values_a) if self.paired else crossed_spread(values_b, -values_a)


def _pairs(numbers_a: list | None, numbers_b: list | None, size_a: int, size_b: int) -> _Pairs:
    if (numbers_a is None) != (numbers_b is None):
        raise SdlabError("the seeds of one side only are numbered; give seeds_a and seeds_b")
    everything = list(range(size_a)), list(range(size_b))
    if numbers_a is None or numbers_b is None:
        if size_a != size_b:
            raise SdlabError(
                f"the same seeds on both sides cannot be {size_a} and {size_b} rows; give seeds_a and seeds_b"
            )
        return _Pairs(*everything, paired=True)
    common = [number for number in numbers_a if number in set(numbers_b)]
    if len(common) < min(2, max(size_a, size_b)):
        return _Pairs(*everything, paired=False)
    rows_a, rows_b = ([numbers.index(one) for one in common] for numbers in (numbers_a, numbers_b))
    return _Pairs(rows_a, rows_b, paired=True, left_out=tuple(sorted({*numbers_a, *numbers_b} - {*common})))


def _numbers(table: Table | Values, seeds: Seeds, size: int) -> list | None:
    """Return the numbers of the seeds: those named, else a pandas index, else None."""
    if seeds is not None:
        numbers = list(seeds)
    elif isinstance(table, pandas.DataFrame | pandas.Series):
        numbers = list(table.index)
    else:
        return None
    if len(numbers) != size or len(set(numbers)) != size:
        raise SdlabError(f"{size} rows have the seeds {numbers}; give every row a seed's number of its own")
    return numbers


def _sides(
    over_a: Table,
    over_b: Table,
    under_a: Table | None,
    under_b: Table | None,
    seeds_a: Seeds,
    seeds_b: Seeds,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], "_Pairs"]:
    """Return (ratio, linear parts) of a and of b on the compared rows, and these rows."""
    numbers_a, numbers_b = _numbers(over_a, seeds_a, len(over_a)), _numbers(over_b, seeds_b, len(over_b))
    if isinstance(over_a, pandas.DataFrame) and isinstance(over_b, pandas.DataFrame):
        if set(over_a.columns) != set(over_b.columns):
            raise SdlabError("the conditions have different problems; compare them on the same problems")
        if under_b is not None and not isinstance(under_b, pandas.DataFrame):  # its columns are over_b's
            under_b = pandas.DataFrame(np.asarray(under_b), over_b.index, over_b.columns)
        over_b = over_b[over_a.columns]
        under_b = under_b[over_a.columns] if under_b is not None else None
    (a, m), (b, n) = _tables(over_a, under_a), _tables(over_b, under_b)
    if a.shape[1] != b.shape[1]:
        raise SdlabError(
            f"the conditions have {a.shape[1]} and {b.shape[1]} problems; compare them on the same problems"
        )
    pairs = _pairs(numbers_a, numbers_b, len(a), len(b))
    return linearised(a[pairs.rows_a], m[pairs.rows_a]), linearised(b[pairs.rows_b], n[pairs.rows_b]), pairs
