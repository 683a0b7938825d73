import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.intervals import (
    Interval,
    difference_interval,
    pass_at_k,
    ratio_interval,
    row_interval,
    row_intervals,
)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(case):
    n, c, k = case
    samples = [True] * c + [False] * (n - c)
    subsets = list(itertools.combinations(samples, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_where_factorials_overflow():
    n, c, k = 20_000, 3, 10_000
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-9)
    assert pass_at_k([4, 8], [0, 8], 2).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("n, c, k", [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(SdlabError):
        pass_at_k(n, c, k)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(7)
    problems, generations, trials = 40, 4, 150
    held = width = 0
    for trial in range(trials):
        chances = random.beta(2, 1, problems)  # mean 2/3; problems differ, generations of one problem agree
        right = random.binomial(generations, chances).astype(float)
        found = ratio_interval(right, np.full(problems, generations), seed=trial)
        held += found.low <= 2 / 3 <= found.high
        width += found.high - found.low
    assert 0.88 <= held / trials <= 0.995
    # Var of a problem's mean: beta(2, 1) gives 1/18 between problems and E[p(1-p)]/4 = 1/24 within
    expected = 2 * 1.96 * math.sqrt((1 / 18 + 1 / 24) / problems)
    assert width / trials == pytest.approx(expected, rel=0.1)


def graded(random, problems, spread, own):
    """Rates of 4 completions of two conditions that do not differ; logits vary by problem, and apart by
    `own`.
    """
    shared = random.normal(0.5, spread, problems)
    return (
        random.binomial(4, 1 / (1 + np.exp(-(shared + own * random.normal(size=problems))))) / 4
        for _ in range(2)
    )


@pytest.mark.parametrize("own", [0.0, 0.8])
@pytest.mark.parametrize("problems", [6, 8, 12, 20, 30])
def test_differences_hold_their_level_with_few_problems(problems, own):
    random = np.random.default_rng(problems)
    ones, trials, alarms = np.ones(problems), 1500, 0
    for _ in range(trials):
        a, b = graded(random, problems, 1.5, own)
        found = difference_interval(a, ones, b, ones)
        alarms += found.low > 0 or found.high < 0
    assert alarms / trials <= 0.065


def test_a_difference_has_students_interval_over_problems():
    random = np.random.default_rng(4)
    a, b = random.random(9), random.random(9)
    wanted = stats.ttest_rel(b, a).confidence_interval()
    found = difference_interval(a, np.ones(9), b, np.ones(9))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    m, n = random.integers(1, 9, 9), random.integers(1, 9, 9)

    def change(kept):
        return (b * n)[kept].sum() / n[kept].sum() - (a * m)[kept].sum() / m[kept].sum()

    # The jackknife's error is the linearised one up to terms of order 1 / P.
    without = np.array([change(np.arange(9) != left) for left in range(9)])
    error = (8 / 9 * ((without - without.mean()) ** 2).sum()) ** 0.5
    found = difference_interval(a * m, m, b * n, n)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 8) * error, rel=0.25)
    left_out = difference_interval([*a, 5], [*np.ones(9), 1], [*b, 0], [*np.ones(9), 0])
    assert (left_out.low, left_out.high) == pytest.approx((wanted.low, wanted.high))


def test_pairing_removes_what_problems_share():
    random = np.random.default_rng(3)
    hard = random.uniform(0, 10, 30)
    a, b = hard + random.normal(0, 0.1, 30), hard + 0.5 + random.normal(0, 0.1, 30)
    ones = np.ones(30)
    paired, alone = difference_interval(a, ones, b, ones), ratio_interval(b, ones)
    assert paired.low < 0.5 < paired.high and paired.high - paired.low < 0.2 < alone.high - alone.low
    assert paired.mean == pytest.approx(b.mean() - a.mean())
    back = difference_interval(b, ones, a, ones)
    assert back.mean == pytest.approx(-paired.mean)


@pytest.mark.parametrize(
    "over, under, expected",
    [
        ([1, 1, 1], [1, 1, 1], (1, 1, 1)),
        ([0, 0], [5, 9], (0, 0, 0)),
        ([2, 4, 6], [10, 20, 30], (0.2, 0.2, 0.2)),
        ([0.5], [1], (0.5, math.nan, math.nan)),
        ([0, 0], [0, 0], (math.nan, math.nan, math.nan)),
    ],
)
def test_degenerate_cases_are_quiet(over, under, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ratio_interval(over, under)
    assert list(vars(found).values()) == pytest.approx(list(expected), nan_ok=True)


def test_nearly_degenerate_cases_still_have_an_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for right in ([1, 0], [1] * 30 + [0], [0] * 30 + [1]):
            found = ratio_interval(right, np.ones(len(right)))
            assert 0 <= found.low <= found.mean <= found.high <= 1 and found.low < found.high
        same = difference_interval([1, 2, 3], [4, 4, 4], [1, 2, 3], [4, 4, 4])
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_seeds_repeat_and_bad_input_is_refused():
    over, under = np.arange(12.0), np.ones(12)
    assert (
        ratio_interval(over, under, seed=1)
        == ratio_interval(over, under, seed=1)
        != ratio_interval(over, under, seed=2)
    )
    assert ratio_interval(over, under, 0.5).low > ratio_interval(over, under, 0.95).low
    for arguments in (([], []), ([1, 2], [1]), ([1, 2], [1, 1], 95)):
        with pytest.raises(SdlabError):
            ratio_interval(*arguments)


def test_text_form():
    assert str(Interval(0.3, 0.25, 0.354)) == "0.30 [0.25, 0.35]"
    assert str(Interval(13054, 12000.4, 14000)) == "13,054 [12,000, 14,000]"
    assert str(Interval(8.83, math.nan, math.nan)) == "8.8"
    assert str(Interval(0.0, 0.0, 0.0)) == "0.00" and str(Interval(0.2, 0.2 - 1e-17, 0.2)) == "0.20"
    assert str(Interval(0.0, 0.0, 0.001)) == "0.00 [0.00, 0.00]"  # narrow, but it has a width


def test_the_intervals_of_a_table_are_its_rows_under_the_named_columns():
    table = pandas.DataFrame({
        "mean": [0.5, 3], "low": [0.4, 2], "high": [0.6, 4],
        "change": [-1, 0.0], "change_low": [-2, -0.5], "change_high": [0, 0.5],
    })  # fmt: skip
    assert row_intervals(table) == [Interval(0.5, 0.4, 0.6), Interval(3.0, 2.0, 4.0)]
    assert row_interval(table.iloc[1]) == Interval(3.0, 2.0, 4.0)
    columns = ("change", "change_low", "change_high")
    assert row_intervals(table, columns) == [Interval(-1, -2, 0), Interval(0, -0.5, 0.5)]
    assert str(row_interval(table.iloc[1], columns)) == "0.00 [-0.50, 0.50]"
