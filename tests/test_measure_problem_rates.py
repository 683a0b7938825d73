import itertools
from math import comb

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.intervals import ratio_interval
from sdlab.measure.problem_rates import (
    pass_at_k_curve,
    pass_columns,
    problem_rates,
    rate_interval,
    score_interval,
)


def rows(**rewards):
    return pandas.DataFrame(
        [
            {"problem_id": p, "reward": r, "length": 10.0 * i}
            for p, values in rewards.items()
            for i, r in enumerate(values)
        ]
    )


@pytest.mark.parametrize("samples", [1, 4, 16])
def test_a_rates_interval_is_where_the_data_would_be_a_surprise(samples):
    for right in range(samples + 1):
        found = rate_interval(right, samples)
        exact = stats.binomtest(right, samples).proportion_ci(method="exact")
        assert found.mean == right / samples and (found.low, found.high) == pytest.approx(
            (exact.low, exact.high)
        )
        at_least, at_most = (
            stats.binom.sf(right - 1, samples, found.low),
            stats.binom.cdf(right, samples, found.high),
        )
        assert found.low == 0 if right == 0 else at_least == pytest.approx(0.025)
        assert found.high == 1 if right == samples else at_most == pytest.approx(0.025)


def test_a_rates_interval_holds_the_truth_at_least_as_often_as_it_says():
    for rate in (0.02, 0.3, 0.5, 0.97):
        held = sum(
            stats.binom.pmf(c, 16, rate)
            for c in range(17)
            if rate_interval(c, 16).low <= rate <= rate_interval(c, 16).high
        )
        assert held >= 0.95


@pytest.mark.parametrize("bad", [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_impossible_rates_are_refused(bad):
    with pytest.raises(SdlabError, match="is not possible"):
        rate_interval(*bad)


def test_one_row_per_problem():
    nan = float("nan")
    table = problem_rates(rows(b=[1, 0, 1, 1], a=[0, 0], c=[nan, nan], d=[1, nan])).set_index("problem_id")
    assert table.index.tolist() == ["b", "a", "c", "d"]
    assert (
        table["generations"].tolist() == [4, 2, 2, 2]
        and table["graded"].tolist() == [4, 2, 0, 1]
        and table["right"].tolist() == [3, 0, 0, 1]
    )
    assert (
        table["rate"].tolist()[:2] == [0.75, 0.0]
        and np.isnan(table.loc["c", ["rate", "low", "high"]].astype(float)).all()
    )
    assert table["length"].tolist() == [15, 5, 5, 5]
    assert tuple(table.loc["b", ["low", "high"]]) == pytest.approx(
        tuple(stats.beta.ppf([0.025, 0.975], [3, 4], [2, 1]))
    )
    with pytest.raises(SdlabError, match=r"reward 0\.5 is not allowed"):
        problem_rates(rows(a=[0.5]))
    with pytest.raises(SdlabError, match="missing: .'reward'"):
        problem_rates(rows(a=[1]).drop(columns="reward"))


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one_each_problem_from_its_own_samples():
    rewards = {"a": [1, 0, 0, 0, 0], "b": [0, 1, 1], "c": [0, 0], "d": [1] * 5}
    problems = problem_rates(rows(**rewards))
    columns = pass_columns(problems, range(1, 6))
    for k in range(1, 6):
        for place, values in enumerate(rewards.values()):
            subsets = list(itertools.combinations(values, k))
            expected = sum(map(any, subsets)) / len(subsets) if subsets else np.nan
            assert columns[f"pass@{k}"][place] == pytest.approx(expected, nan_ok=True)
            if subsets:
                n, c = len(values), sum(values)
                assert expected == pytest.approx(1 - comb(n - c, k) / comb(n, k))
    curve = pass_at_k_curve(problems, range(1, 9)).set_index("k")
    assert curve.index.tolist() == [1, 2, 3, 4, 5]  # nobody has more
    assert curve["problems"].tolist() == [4, 4, 3, 2, 2] and curve["left_out"].tolist() == [0, 0, 1, 2, 2]
    assert curve["mean"][2] == pytest.approx(np.nanmean(columns["pass@2"]))
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()


def test_ungraded_problems_are_not_counted_as_left_out():
    curve = pass_at_k_curve(problem_rates(rows(a=[1, 0], b=[float("nan")] * 2)), (1, 2))
    assert curve["left_out"].tolist() == [0, 0] and curve["problems"].tolist() == [1, 1]
    assert pass_at_k_curve(problem_rates(rows(b=[float("nan")]))).empty


def test_a_score_far_from_the_ends_is_resampled_by_problem():
    values = np.random.default_rng(0).uniform(size=30)
    assert score_interval(values) == ratio_interval(values, np.ones(30))
    assert score_interval([*values, np.nan]) == score_interval(values)
    assert np.isnan(score_interval([np.nan]).mean)


def test_a_low_score_that_many_problems_carry_is_resampled_and_one_that_few_carry_is_not():
    many, few = [1 / 16, 2 / 16, 0] * 10, [1.0, 7 / 8] + [0.0] * 28
    assert sum(many) == sum(few) == 1.875
    assert score_interval(many) == ratio_interval(many, np.ones(30))
    exact = stats.beta.ppf(0.975, 2.875, 28.125)
    assert score_interval(few).high == pytest.approx(exact) and exact > ratio_interval(few, np.ones(30)).high


@pytest.mark.parametrize("solved", [0, 1, 29, 30])
def test_what_never_happened_has_the_exact_limits(solved):
    found, exact = (
        score_interval([1.0] * solved + [0.0] * (30 - solved)),
        stats.binomtest(solved, 30).proportion_ci(method="exact"),
    )
    assert found.low <= exact.low + 1e-9 and found.high >= exact.high - 1e-9  # never narrower
    if solved in (0, 30):
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_one_right_sample_of_480_does_not_make_the_score_certain():
    assert score_interval([1 / 16] + [0] * 29).high == pytest.approx(
        stats.beta.ppf(0.975, 1 + 1 / 16, 30 - 1 / 16)
    )


def test_near_the_ends_it_holds_the_truth_about_as_often_as_it_says():
    """Thirty problems, one in fifty solvable (at a rate from 0 to 1), 16 samples: resampling alone is right
    in about half of the cases.
    """
    rng, held, alone, mean = np.random.default_rng(1), 0, 0, 0.02 * 0.5
    for _ in range(100):
        rates = np.where(rng.random(30) < 0.02, rng.random(30), 0)
        values = rng.binomial(16, rates) / 16
        found, plain = score_interval(values), ratio_interval(values, np.ones(30))
        held, alone = held + (found.low <= mean <= found.high), alone + (plain.low <= mean <= plain.high)
    assert held >= 91 and alone < 60  # 95 is what it says
