"""Intervals of shares: the exact limits, their coverage by simulation, and who uses them."""

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.measure.comparison import compare
from sdlab.measure.crossed import crossed_difference, crossed_interval
from sdlab.measure.evaluation import is_share, marker_means, summarise, table_one
from sdlab.measure.intervals import difference_interval, ratio_interval
from sdlab.measure.shares import share_difference, share_interval
from sdlab.measure.spread import SHARE

SAMPLES = 8


def exact(right, problems, method="exact"):
    found = stats.binomtest(right, problems).proportion_ci(method=method)
    return found.low, found.high


@pytest.mark.parametrize("right", [0, 6])
@pytest.mark.parametrize("samples", [1, 8])
def test_where_nothing_or_everything_is_right_the_limits_are_clopper_and_pearsons(right, samples):
    found = share_interval(np.full(6, right // 6 * samples), np.full(6, samples))
    assert (found.low, found.high) == pytest.approx(exact(right, 6))
    wilson = exact(right, 6, "wilson")  # narrower, another method: the same order of size
    assert found.low <= wilson[0] and found.high >= wilson[1]
    assert found.high - found.low < 1.25 * (wilson[1] - wilson[0])


def test_the_same_value_on_every_problem_is_not_certainty():
    found = share_interval([2] * 5, [8] * 5)  # a quarter of 5 problems' worth
    assert (found.low, found.high) == pytest.approx(
        (stats.beta.ppf(0.025, 1.25, 4.75), stats.beta.ppf(0.975, 2.25, 3.75))
    )
    uneven = share_interval([0, 0, 0], [10, 1, 1])  # one problem has nearly all the weight
    assert uneven.high == pytest.approx(1 - 0.025 ** (102 / 144)) and uneven.high > exact(0, 3)[1]


def chances(random, score, alike, problems):
    concentration = 200 if alike else 0.5
    return random.beta(score * concentration, (1 - score) * concentration, problems)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("score", [0.02, 0.95])
@pytest.mark.parametrize("problems", [4, 8, 20])
def test_a_score_near_its_ends_is_covered_with_few_problems(problems, score, alike):
    random, held, trials = np.random.default_rng(5), 0, 80
    for trial in range(trials):
        right = random.binomial(SAMPLES, chances(random, score, alike, problems))
        found = share_interval(right, np.full(problems, SAMPLES), seed=trial)
        held += found.low <= score <= found.high
    assert held / trials >= 0.92  # 0.95 minus about 1.5 standard errors


def test_resampling_alone_is_right_in_less_than_half_of_these_cases():
    random, held = np.random.default_rng(5), 0
    for trial in range(60):
        right = random.binomial(SAMPLES, chances(random, 0.02, False, 8))
        found = ratio_interval(right, np.full(8, SAMPLES), seed=trial)
        held += found.low <= 0.02 <= found.high
    assert held < 30


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("before, after", [(0.02, 0.02), (0.0, 0.05), (0.0, 0.95), (0.95, 0.05)])
@pytest.mark.parametrize("problems", [4, 6, 12, 30])
def test_differences_are_covered_where_few_problems_change_or_all_do(problems, before, after, alike):
    random, held, trials, full = np.random.default_rng(6), 0, 300, np.full(problems, SAMPLES)
    for _ in range(trials):
        a, b = (
            random.binomial(SAMPLES, chances(random, s, alike, problems) if s else 0, problems)
            for s in (before, after)
        )
        found = share_difference(a, full, b, full)
        held += found.low <= after - before <= found.high
    assert held / trials >= 0.87  # t over many small changes is at its least; with few, t alone covers 0.10


def test_no_change_is_as_uncertain_as_no_event_and_a_change_everywhere_is_significant():
    zeros, ones = np.zeros(7), np.ones(7)
    same = share_difference(zeros, ones, zeros, ones)
    most = exact(0, 7)[1]
    assert (same.mean, same.low, same.high) == pytest.approx((0, -most, most))
    turned = share_difference(zeros, ones, ones, ones)
    assert (turned.low, turned.high) == pytest.approx((exact(7, 7)[0], 1))
    back = share_difference(ones, ones, zeros, ones)
    assert (back.low, back.high) == pytest.approx((-turned.high, -turned.low))
    assert np.isnan(share_difference([0], [1], [1], [1]).low)  # one problem
    random = np.random.default_rng(0)
    sides = random.random(12), np.ones(12), random.random(12), np.ones(12)
    assert share_difference(*sides) == difference_interval(*sides)
    half = share_difference([0.25] * 8, [1] * 8, [0.75] * 8, [1] * 8)  # every problem gains a half
    assert (half.low, half.high) == pytest.approx(exact(4, 8))
    mixed = share_difference(np.eye(20)[0], np.ones(20), 1 - np.eye(20)[0], np.ones(20))  # 19 rise, 1 falls
    assert mixed.low <= 2 * exact(19, 20)[0] - 1 and mixed.high >= 2 * exact(19, 20)[1] - 1


def rows(rewards, **columns):
    frame = pandas.DataFrame([
        {"problem_id": f"p{i}", "reward": float(r), "truncated": False, "length": 9, "markers": 0,
         "completion": "no doubt", "context": "none"}
        for i, values in enumerate(rewards) for r in values
    ])  # fmt: skip
    return frame.assign(**columns)


def test_table_one_and_summaries_do_not_claim_certainty():
    frame = rows([[0, 0]] * 4)
    table = summarise(frame, "context").set_index("metric")
    for name in ("reward", "truncated"):
        assert table.loc[name, ["low", "high"]].tolist() == pytest.approx(list(exact(0, 4)))
    counts = table.loc[["length", "markers", "density"]]
    assert (counts["low"] == counts["high"]).all()  # no limits are known, and as text there are none
    cells = table_one(frame).loc["none"]
    assert cells["reward"] == "0.00 [0.00, 0.60]" and cells["markers"] == "0.00" and cells["length"] == "9.0"
    assert (marker_means(frame)["high"] == 0).all()
    assert (summarise(frame.assign(markers=[0, 1] * 4), "context", ["markers"])["high"] == 0.5).all()


def test_what_is_a_share():
    frame = rows([[0, 1]] * 2, wrong=[0, 1, 1, 0], nats=[0.1, 0.2, 0.3, 0.4], **{"pass@4": 0.3})
    shares = [name for name in ("reward", "truncated", "wrong", "pass@4") if is_share(frame, name)]
    assert shares == ["reward", "truncated", "wrong", "pass@4"]
    assert not any(is_share(frame, name) for name in ("nats", "markers", "length", "density"))
    assert not is_share(frame.assign(reward=[0, 2, 0, 1]), "reward")


def test_a_comparison_without_any_change_shows_no_equality():
    zeros = rows([[0, 0]] * 6)
    same = compare(zeros, zeros, margin=0.05)
    assert same.equivalent is False and not same.significant
    assert "0.00 [-0.46, 0.46] (6 problems)" in same.sentence
    assert "] (90% interval, 6 problems)" in compare(zeros, zeros, confidence=0.9).sentence
    assert compare(rows([[0]] * 150), rows([[0]] * 150), margin=0.05).equivalent  # 0.02 at most
    length = compare(zeros, zeros, "length", margin=1)
    assert length.equivalent is False and "[" not in length.sentence and not length.significant
    longer = compare(zeros, zeros.assign(length=12), "length")
    assert longer.significant and not longer.difference.has_width
    assert not compare(zeros.head(4), zeros.head(4).assign(length=12), "length").significant  # 2 problems


def test_recorded_scores_over_seeds_are_widened_by_problems():
    nothing = crossed_interval(np.zeros((3, 20)), bounds=SHARE)
    assert (nothing.low, nothing.high) == pytest.approx(exact(0, 20))
    table = np.random.default_rng(0).random((3, 20))
    assert crossed_interval(table, bounds=SHARE) == crossed_interval(table, bounds=(0.0, 1.0))
    inner = crossed_interval(table)
    assert 0 < inner.low and inner == crossed_interval(table, bounds=SHARE)
    assert not crossed_difference(np.zeros((3, 20)), np.zeros((3, 20))).equivalent(0.1)
