"""Intervals over seeds and problems: coverage by simulation, agreement with a plain loop, and what must not happen."""

import numpy as np
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.crossed import crossed_difference, crossed_interval, seeds_difference, seeds_interval


def test_the_mean_is_a_ratio_of_sums():
    over, under = np.array([[2.0, 4.0], [6.0, 0.0]]), np.array([[4.0, 4.0], [8.0, 2.0]])
    assert crossed_interval(over, under).mean == pytest.approx(12 / 18)


def test_intervals_agree_with_a_plain_loop_over_resamples():
    rng = np.random.default_rng(1)
    table = rng.random((5, 40)) < rng.random((1, 40))
    means = []
    for _ in range(4000):
        s, p = rng.integers(0, 5, 5), rng.integers(0, 40, 40)
        means.append(table[s][:, p].mean())
    found = crossed_interval(table)
    assert (found.low, found.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.012)


def test_intervals_cover_the_truth_when_seeds_and_problems_vary():
    rng, held = np.random.default_rng(2), 0
    for _ in range(120):
        found = crossed_interval(
            rng.normal(0, 0.05, (5, 1)) + rng.normal(0, 0.2, (1, 60)) + rng.normal(0, 0.3, (5, 60))
        )
        held += found.low <= 0 <= found.high
    assert held >= 106  # 95% of 120 is 114; fewer than 106 has a chance below 1%


def test_seed_noise_widens_the_interval():
    rng = np.random.default_rng(3)
    problems = rng.normal(0, 0.2, (1, 50))
    steady = crossed_interval(np.repeat(problems, 5, 0))
    noisy = crossed_interval(problems + rng.normal(0, 0.5, (5, 1)))
    assert noisy.high - noisy.low > 2 * (steady.high - steady.low)


def test_a_shift_of_every_cell_is_found_exactly_and_pairing_removes_what_is_shared():
    rng = np.random.default_rng(4)
    a = rng.normal(0, 1, (5, 30))
    found = crossed_difference(a, a + 0.25)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.25, 0.25)) and found.significant
    assert not crossed_difference(a, a).significant


def test_two_seeds_are_never_significant():
    a = np.zeros((2, 50))
    assert not crossed_difference(a, a + 1).significant and "not significant" in str(
        crossed_difference(a, a + 1)
    )


@pytest.mark.parametrize(
    "over, under", [(np.zeros(3), None), (np.zeros((0, 3)), None), (np.zeros((2, 3)), np.ones((2, 4)))]
)
def test_wrong_tables_are_named(over, under):
    with pytest.raises(SdlabError, match="shapes"):
        crossed_interval(over, under)
    with pytest.raises(SdlabError, match="same problems"):
        crossed_difference(np.zeros((3, 4)), np.zeros((3, 5)))


def test_seeds_alone_have_students_interval():
    values = np.array([0.1, 0.4, 0.35, 0.2, 0.3])
    found = seeds_interval(values)
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    )
    assert np.isnan(seeds_interval([0.3]).low) and seeds_interval([0.3]).mean == 0.3
    with pytest.raises(SdlabError, match="one number per seed"):
        seeds_interval([])


def test_seeds_are_compared_in_pairs():
    rng = np.random.default_rng(0)
    level = rng.normal(size=5)  # what a seed's questions are worth, the same on both sides
    a, b = level + rng.normal(size=5) * 0.01, level + 0.1 + rng.normal(size=5) * 0.01
    found = seeds_difference(a, b)
    paired = stats.ttest_rel(b, a).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (paired.low, paired.high)
    ) and found.significant
    assert not seeds_difference(a[:2], b[:2]).significant  # two seeds never decide
    with pytest.raises(SdlabError, match="same seeds on both sides"):
        seeds_difference(a, b[:3])
