"""One row per problem: its pass rate with an exact interval, and pass@k from its own number of samples.

Thirty AIME problems with 16 samples each leave two uncertainties, which are reported separately: the rate of
a single problem (16 samples: about plus or minus 0.25), and the score of another thirty problems (resampled
by problem).
"""

from collections.abc import Iterable

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval, pass_at_k, ratio_interval

BLIND = 3  # effective number of solved (or missed) problems; with fewer, resampling is too narrow
KS = tuple(range(1, 17))  # of pass@k
# columns that are averaged by problem where they are known
MEANS = ("length", "markers", "markers_substring", "truncated", "entropy")


def rate_interval(right: int, samples: int, confidence: float = 0.95) -> Interval:
    """Return Clopper and Pearson's exact interval of one problem's pass rate, right / samples.

    It covers the rate at least as often as `confidence` says.

    Raises SdlabError unless 0 <= right <= samples, samples >= 1 and confidence is between 0 and 1.
    """
    if samples < 1 or not 0 <= right <= samples or not 0 < confidence < 1:
        raise SdlabError(
            f"a pass rate of {right} right of {samples} at confidence {confidence} is not possible; "
            "give 0 <= right <= samples, samples >= 1 and 0 < confidence < 1"
        )
    return Interval(right / samples, *(float(limit) for limit in _exact(right, samples - right, confidence)))


def _exact(right, wrong, confidence: float):
    """Return Clopper and Pearson's limits for `right` of right + wrong.

    Both are numbers or arrays; fractions of a count are allowed.
    """
    right, wrong, tail = np.asarray(right, dtype=float), np.asarray(wrong, dtype=float), (1 - confidence) / 2
    low = np.where(right > 0, stats.beta.ppf(tail, np.where(right > 0, right, 1), wrong + 1), 0.0)
    high = np.where(wrong > 0, stats.beta.ppf(1 - tail, right + 1, np.where(wrong > 0, wrong, 1)), 1.0)
    return low, high


def problem_rates(frame: pandas.DataFrame, confidence: float = 0.95) -> pandas.DataFrame:
    """Return one row per problem, in order of appearance, with its pass rate and exact interval.

    Columns: problem_id, generations, graded, right, rate, low, high, and the means of MEANS. `frame` has a
    row per completion with problem_id and reward (1, 0, or NaN where nothing could be graded). A problem
    without a graded completion has the rate NaN.

    Raises SdlabError on rewards other than 0 and 1, on missing columns and on an empty frame.
    """
    missing = [name for name in ("problem_id", "reward") if name not in frame.columns]
    if missing or frame.empty:
        raise SdlabError(
            "pass rates by problem need rows with problem_id and reward; "
            f"{f'missing: {missing}' if missing else 'the frame is empty'}"
        )
    rewards = frame["reward"].astype(float)
    if not rewards.dropna().isin((0.0, 1.0)).all():
        odd = rewards.dropna()[~rewards.dropna().isin((0.0, 1.0))].iloc[0]
        raise SdlabError(f"reward {odd} is not allowed in a pass rate; it must be 0 or 1")
    groups = frame.assign(reward=rewards).groupby("problem_id", sort=False)
    table = pandas.DataFrame(
        {"generations": groups.size(), "graded": groups["reward"].count(), "right": groups["reward"].sum()}
    )
    table["rate"] = table["right"] / table["graded"].where(table["graded"] > 0)
    low, high = _exact(table["right"], table["graded"] - table["right"], confidence)
    table["low"], table["high"] = (
        pandas.Series(limits, table.index).where(table["graded"] > 0) for limits in (low, high)
    )
    for name in MEANS:
        if name in frame.columns:
            table[name] = frame[name].astype(float).groupby(frame["problem_id"], sort=False).mean()
    return table.astype({"right": int}).reset_index()


def score_interval(values: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean over problems of values in [0, 1] (P,) with its interval over problems.

    The values are pass rates or pass@k; NaN are left out. Resampling by problem cannot show what never
    happened: 0 right of 480 would be 0.00 [0.00, 0.00]. So the interval is widened to Clopper and Pearson's
    limits for P draws in two cases: less than one problem's worth is solved (or missed), or it is spread over
    fewer than BLIND problems (Kish's effective number, squared sum over sum of squares). The sum then serves
    as the count (fractional: the binomial limits by the beta distribution). These limits hold for any spread
    of rates, because one coin toss per problem with that problem's value gives a binomial count of the same
    mean. Where the rule begins to apply, a band along k widens at once.
    """
    table = np.asarray(values, dtype=float)
    rates = table[np.isfinite(table)]
    if not len(rates):
        return Interval(np.nan, np.nan, np.nan)
    return widened(ratio_interval(rates, np.ones(len(rates)), confidence, seed), rates, confidence)


def widened(interval: Interval, values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Return `interval`, the mean of units' values in [0, 1] (P,), widened where too few units differ.

    `score_interval` has the rule; units are whatever was resampled, such as problems or conditions. Low or
    high of NaN is replaced.
    """
    if not _blind(values) and not _blind(1 - values):
        return interval
    low, high = _exact(float(values.sum()), float((1 - values).sum()), confidence)
    return Interval(interval.mean, np.fmin(interval.low, low).item(), np.fmax(interval.high, high).item())


def _blind(values: np.ndarray) -> bool:
    """Return whether resampling (P,) values sees too few of them."""
    total = float(values.sum())
    return total < 1 or total**2 / float((values**2).sum()) < BLIND


def pass_columns(problems: pandas.DataFrame, ks: Iterable[int] = KS) -> pandas.DataFrame:
    """Return the unbiased pass@k of each problem from its own graded completions: columns pass@1, ...

    A value is NaN where the problem has fewer than k graded completions.
    """
    graded, right = problems["graded"].to_numpy(int), problems["right"].to_numpy(int)
    columns = {}
    for k in ks:
        column, enough = np.full(len(problems), np.nan), graded >= k
        if enough.any():
            column[enough] = pass_at_k(graded[enough], right[enough], k)
        columns[f"pass@{k}"] = column
    return pandas.DataFrame(columns, index=problems.index)


def pass_at_k_curve(
    problems: pandas.DataFrame, ks: Iterable[int] = KS, confidence: float = 0.95, seed: int = 0
) -> pandas.DataFrame:
    """Return pass@k along k, averaged over the problems with at least k graded completions.

    Columns: k, mean, low, high, problems, left_out. `problems`: as returned by `problem_rates`. left_out
    counts graded problems with fewer than k completions; where it is not 0, a rise may come from other
    problems and not from k. A k that no problem reaches has no row.
    """
    columns, graded = pass_columns(problems, ks), int((problems["graded"] > 0).sum())
    rows = []
    for name in columns:
        values = columns[name].dropna()
        if len(values):
            row = {
                "k": int(str(name).removeprefix("pass@")),
                **vars(score_interval(values, confidence, seed)),
            }
            rows.append(row | {"problems": len(values), "left_out": graded - len(values)})
    return pandas.DataFrame(rows, columns=["k", "mean", "low", "high", "problems", "left_out"])
