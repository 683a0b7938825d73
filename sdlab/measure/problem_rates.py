"""One row per problem: its pass rate with an exact interval, and pass@k from its own number of samples.

Thirty AIME problems with 16 samples each leave two uncertainties, which are reported separately: the rate of
a single problem (16 samples: about plus or minus 0.25), and the score of another thirty problems (resampled
by problem).
"""

from collections.abc import Iterable

import numpy as np
import pandas
from numpy.typing import ArrayLike

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval, pass_at_k
from sdlab.measure.shares import exact_limits, share_interval

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
    low, high = exact_limits(right, samples - right, confidence)
    return Interval(right / samples, float(low), float(high))


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
    low, high = exact_limits(table["right"], table["graded"] - table["right"], confidence)
    table["low"], table["high"] = (
        pandas.Series(limits, table.index).where(table["graded"] > 0) for limits in (low, high)
    )
    for name in MEANS:
        if name in frame.columns:
            table[name] = frame[name].astype(float).groupby(frame["problem_id"], sort=False).mean()
    return table.astype({"right": int}).reset_index()


def score_interval(values: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean over problems of values in [0, 1] (P,) with its interval over problems.

    The values are pass rates or pass@k; NaN are left out. The interval is `share_interval`, so 0 right of 480
    completions is not 0.00 [0.00, 0.00]. Where its rule begins to apply, a band along k widens at once.
    """
    table = np.asarray(values, dtype=float)
    rates = table[np.isfinite(table)]
    if not len(rates):
        return Interval(np.nan, np.nan, np.nan)
    return share_interval(rates, np.ones(len(rates)), confidence, seed)


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
