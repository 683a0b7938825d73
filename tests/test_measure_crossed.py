"""Intervals over seeds and problems: closed forms, plain loops, simulated levels, pairing by number."""

import numpy as np
import pandas
import pytest
from benchmarks import bench_intervals as simulation
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.crossed import (
    crossed_difference,
    crossed_interval,
    crossed_ratio,
    seeds_difference,
    seeds_interval,
)
from sdlab.measure.intervals import Interval
from sdlab.measure.spread import crossed_spread, linearised


def limits(found) -> tuple[float, float]:
    interval = found if isinstance(found, Interval) else found.interval
    return interval.low, interval.high


def numbered(table, seeds, problems=None) -> pandas.DataFrame:
    """A table as `Recorded.table` gives it."""
    return pandas.DataFrame(np.asarray(table, dtype=float), index=seeds, columns=problems)


def test_the_mean_is_a_ratio_of_sums():
    over, under = np.array([[2.0, 4.0], [6.0, 0.0]]), np.array([[4.0, 4.0], [8.0, 2.0]])
    assert crossed_interval(over, under).mean == pytest.approx(12 / 18)


def test_the_interval_is_the_documented_sum_of_variance_components():
    """Written out with loops over cells, for a ratio of sums and for a difference of two conditions."""
    rng = np.random.default_rng(1)
    over, under = rng.random((3, 7)) + rng.random((1, 7)) + rng.random((3, 1)), rng.integers(1, 9, (3, 7))

    def by_loops(cells):
        (S, P), mean = cells.shape, cells.mean()
        by_seed, by_problem = [cells[s].mean() for s in range(S)], [cells[:, p].mean() for p in range(P)]
        seeds = sum((m - mean) ** 2 for m in by_seed) / (S - 1) / S
        problems = sum((m - mean) ** 2 for m in by_problem) / (P - 1) / P
        rest = sum(
            (cells[s, p] - by_seed[s] - by_problem[p] + mean) ** 2 for s in range(S) for p in range(P)
        ) / ((S - 1) * (P - 1) * S * P)
        t_seeds, t_problems = stats.t.ppf(0.975, S - 1), stats.t.ppf(0.975, P - 1)
        both = t_seeds**2 * seeds + t_problems**2 * max(problems - rest, 0)
        return max(both, t_problems**2 * max(problems, rest)) ** 0.5

    ratio = over.sum() / under.sum()
    added = [[(over[s, p] - ratio * under[s, p]) * 21 / under.sum() for p in range(7)] for s in range(3)]
    half = by_loops(np.array(added))
    assert limits(crossed_interval(over, under)) == pytest.approx((ratio - half, ratio + half))
    other = rng.random((3, 7))
    half, mean = by_loops(other - over), other.mean() - over.mean()
    assert limits(crossed_difference(over, other)) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize("kind, interaction", [("normal", False), ("graded", True), ("density", True)])
def test_intervals_hold_their_level_whatever_varies(kind, interaction):
    """In all 24 worlds of a kind in `tests/benchmarks/bench_intervals.py`, from two seeds to ten."""
    worlds = [world for world in simulation.worlds() if world[:2] == (kind, interaction)]
    assert len(worlds) == 24
    for world in worlds:
        rates = simulation.rates(np.random.default_rng(simulation.stable(world)), *world, 1000)
        assert rates["covers"] >= 0.93 and rates["difference"] >= 0.93, (world, rates)
        assert rates["false"] <= 0.065 and rates["unpaired"] <= 0.065, (world, rates)
        assert not rates["equal"] > 0.065, (world, rates)  # NaN where the margin is not simulated


def test_the_simulation_asks_what_users_ask():
    """The public functions, one table at a time, give what the simulation computes for many at once."""
    rng = np.random.default_rng(3)
    (a, b), _ = simulation.draw(rng, "density", True, 3, 0.03, 30, 4)
    (mean_a, values_a), (mean_b, values_b) = linearised(*a), linearised(*b)
    halves = crossed_spread(values_b - values_a).half_width(0.95)
    apart = crossed_spread(values_b, -values_a).half_width(0.95)
    for k in range(4):
        found = crossed_difference(a[0][k], b[0][k], a[1][k], b[1][k])
        assert limits(found) == pytest.approx(
            (mean_b[k] - mean_a[k] - halves[k], mean_b[k] - mean_a[k] + halves[k])
        )
        numbers = {"seeds_a": range(3), "seeds_b": range(5, 8)}
        unpaired = crossed_difference(a[0][k], b[0][k], a[1][k], b[1][k], **numbers).interval
        assert unpaired.high - unpaired.low == pytest.approx(2 * apart[k])


def test_one_seed_has_students_interval_over_problems_and_decides_nothing():
    rng = np.random.default_rng(2)
    a, b = rng.random((1, 30)), rng.random((1, 30)) + 2
    found = crossed_interval(a)
    assert limits(found) == pytest.approx(stats.t.interval(0.95, 29, a.mean(), stats.sem(a[0])))
    apart, paired = crossed_difference(a, b), stats.ttest_rel(b[0], a[0]).confidence_interval()
    assert limits(apart) == pytest.approx((paired.low, paired.high))
    assert not apart.significant and str(apart).endswith("(not significant, one seed)")
    assert not crossed_difference(a, a + 0.001).equivalent(1)
    assert np.isnan(limits(crossed_interval([[1.0]]))).all()


def test_one_problem_has_students_interval_over_seeds():
    values = np.array([[0.1], [0.4], [0.35], [0.2]])
    wanted = stats.t.interval(0.95, 3, values.mean(), stats.sem(values[:, 0]))
    assert limits(crossed_interval(values)) == pytest.approx(wanted)


def test_seed_noise_widens_the_interval():
    rng = np.random.default_rng(3)
    problems = rng.normal(0, 0.2, (1, 50))
    steady = crossed_interval(np.repeat(problems, 5, 0))
    noisy = crossed_interval(problems + rng.normal(0, 0.5, (5, 1)))
    assert noisy.high - noisy.low > 2 * (steady.high - steady.low)
    wanted = stats.t.interval(0.95, 49, problems.mean(), stats.sem(problems[0]))
    assert limits(steady) == pytest.approx(wanted)  # seeds that are equal add nothing


def test_problems_that_cancel_count_as_no_variance_not_as_a_negative_one():
    """Every problem has one mean over seeds: the estimate of the problems' variance is below 0."""
    rng = np.random.default_rng(5)
    cells = rng.normal(size=(4, 20))
    cells += rng.normal(size=(4, 1)) - cells.mean(0)
    wanted = stats.t.interval(0.95, 3, cells.mean(), stats.sem(cells.mean(1)))
    assert limits(crossed_interval(cells)) == pytest.approx(wanted)


def test_seeds_that_happen_to_agree_leave_the_spread_of_the_cells():
    """All seeds have one mean and all problems have one mean: only the cells show that values vary."""
    rng = np.random.default_rng(12)
    cells = rng.normal(size=(4, 20))
    cells -= cells.mean(0)
    cells -= cells.mean(1)[:, None]
    half = stats.t.ppf(0.975, 19) * ((cells**2).sum() / (3 * 19) / 80) ** 0.5
    assert limits(crossed_interval(cells + 1)) == pytest.approx((1 - half, 1 + half))


def test_a_shift_of_every_cell_is_found_exactly_and_pairing_removes_what_is_shared():
    rng = np.random.default_rng(4)
    a = rng.normal(0, 1, (5, 30))
    found = crossed_difference(a, a + 0.25)
    assert limits(found) == pytest.approx((0.25, 0.25)) and found.significant
    assert not crossed_difference(a, a).significant


def test_two_seeds_are_significant_where_their_own_spread_allows_it():
    rng = np.random.default_rng(6)
    a = rng.normal(0, 0.1, (2, 50))
    clear = crossed_difference(a, a + np.array([[0.60], [0.61]]))
    assert clear.significant  # 0.005 * 12.7 to each side
    assert not crossed_difference(a, a + np.array([[0.55], [0.65]])).significant  # 0.05 * 12.7
    equal = crossed_difference(a, a + 1)  # two equal seeds are no measurement of how much seeds vary
    assert not equal.significant and not equal.equivalent(2) and "not significant" in str(equal)
    assert crossed_difference(a[[0, 1, 1]], a[[0, 1, 1]] + 1).significant


def test_seeds_are_paired_by_their_number_not_by_their_position():
    rng = np.random.default_rng(7)
    level = rng.normal(0, 1, (5, 1))
    a, b = level + rng.normal(0, 0.1, (5, 20)), level + 0.2 + rng.normal(0, 0.1, (5, 20))
    order = [3, 0, 4, 1, 2]
    in_order = crossed_difference(a, b)
    for shuffled in (
        crossed_difference(a, b[order], seeds_a=range(5), seeds_b=order),
        crossed_difference(numbered(a, range(5)), numbered(b[order], order)),
    ):
        assert limits(shuffled) == pytest.approx(limits(in_order)) and shuffled.significant
    assert not crossed_difference(a, b[order]).significant  # what the position says is wrong here
    columns = [f"p{i}" for i in range(20)]
    mixed = crossed_difference(numbered(a, range(5), columns), numbered(b, range(5), columns).iloc[:, ::-1])
    assert limits(mixed) == pytest.approx(limits(in_order))  # and problems by their name
    single = seeds_difference(pandas.Series(a[:, 0]), pandas.Series(b[order, 0], index=order))
    assert limits(single) == pytest.approx(limits(seeds_difference(a[:, 0], b[:, 0])))


def test_different_seeds_are_compared_on_the_common_ones_and_the_others_are_named():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(5, 20)), rng.normal(size=(3, 20))
    found = crossed_difference(a, b, seeds_a=range(5), seeds_b=(4, 2, 9))
    by_hand = crossed_difference(a[[2, 4]], b[[1, 0]])
    assert limits(found) == pytest.approx(limits(by_hand))
    assert (found.seeds, found.paired, found.left_out) == (2, True, (0, 1, 3, 9))
    assert "2 common seeds" in str(found)
    single = seeds_difference(pandas.Series([1.0, 2, 4]), pandas.Series([2.0, 5], index=[1, 2]))
    assert single.interval.mean == pytest.approx(0.5) and single.left_out == (0,)


def test_seeds_without_a_common_number_are_compared_unpaired():
    a, b = np.array([1.0, 2, 4]), np.array([6.0, 7, 9, 9])
    found = seeds_difference(pandas.Series(a, index=[0, 1, 2]), pandas.Series(b, index=[10, 11, 12, 13]))
    half = sum(stats.t.ppf(0.975, len(x) - 1) ** 2 * x.var(ddof=1) / len(x) for x in (a, b)) ** 0.5
    middle = b.mean() - a.mean()
    assert limits(found) == pytest.approx((middle - half, middle + half))
    assert not found.paired and found.seeds == 3
    tables = [np.tile(x[:, None], 8) for x in (a, b)]  # all problems alike: the same interval
    both = crossed_difference(*tables, seeds_a=range(3), seeds_b=range(10, 14))
    assert limits(both) == pytest.approx(limits(found))
    one = crossed_difference(tables[0][:1], tables[1], seeds_a=[0], seeds_b=range(10, 14))
    assert not one.significant and one.seeds == 1


def test_equivalence_needs_the_90_percent_interval_inside_the_margin():
    rng = np.random.default_rng(9)
    a = rng.normal(0.5, 0.1, (5, 60))
    b = a + rng.normal(0, 0.05, (5, 60))
    found = crossed_difference(a, b)
    widest = max(abs(found.at(0.9).low), abs(found.at(0.9).high))
    assert found.equivalent(widest * 1.001) and not found.equivalent(widest * 0.999)
    assert limits(found.at(0.9)) == pytest.approx(limits(crossed_difference(a, b, confidence=0.9)))
    values = rng.normal(0, 0.1, 6)
    one_sided = max(
        stats.ttest_1samp(values, -0.2, alternative="greater").pvalue,
        stats.ttest_1samp(values, 0.2, alternative="less").pvalue,
    )
    assert seeds_difference(np.zeros(6), values).equivalent(0.2) == (one_sided < 0.05)
    noisy = crossed_difference(a, a + rng.normal(0, 2, (5, 60)))
    assert not noisy.significant and not noisy.equivalent(0.05)  # not significant is not the same as equal
    with pytest.raises(SdlabError, match="margin=0 is not allowed"):
        found.equivalent(0)


def test_a_ratio_of_two_conditions_has_an_interval():
    rng = np.random.default_rng(10)
    a = np.exp(rng.normal(4, 0.1, (4, 1)) + rng.normal(0, 0.3, (1, 40)) + rng.normal(0, 0.1, (4, 40)))
    half = crossed_ratio(a, a / 2)
    assert (half.mean, *limits(half)) == pytest.approx((0.5, 0.5, 0.5))
    b = a * np.exp(rng.normal(-0.7, 0.05, (4, 1)) + rng.normal(0, 0.05, (4, 40)))
    found = crossed_ratio(a, b)
    assert found.mean == pytest.approx(b.sum() / a.sum()) and found.low < 0.5 < found.high
    back = crossed_ratio(b, a)
    assert (1 / back.mean, 1 / back.high, 1 / back.low) == pytest.approx((found.mean, *limits(found)))
    per_token = crossed_ratio(a, b, 2 * a, 2 * b)
    assert (per_token.mean, *limits(per_token)) == pytest.approx((1, 1, 1))
    with pytest.raises(SdlabError, match="both must be above 0"):
        crossed_ratio(a, 0 * a)


def test_an_interval_ends_at_the_bounds():
    rng = np.random.default_rng(11)
    found = crossed_interval(rng.random((2, 30)) < 0.98, bounds=(0, 1))
    assert found.low >= 0 and found.high == 1 and crossed_interval(np.ones((2, 3))).high == 1
    assert seeds_interval([0.9, 1.0], bounds=(0, 1)).high == 1


@pytest.mark.parametrize(
    "over, under", [(np.zeros(3), None), (np.zeros((0, 3)), None), (np.zeros((2, 3)), np.ones((2, 4)))]
)
def test_wrong_tables_are_named(over, under):
    with pytest.raises(SdlabError, match="shapes"):
        crossed_interval(over, under)
    with pytest.raises(SdlabError, match="same problems"):
        crossed_difference(np.zeros((3, 4)), np.zeros((3, 5)))


def test_what_cannot_be_compared_is_named():
    a = np.zeros((3, 4))
    with pytest.raises(SdlabError, match="1 of 12 cells are missing"):
        crossed_interval(np.where(np.arange(12).reshape(3, 4) == 5, np.nan, a))
    with pytest.raises(SdlabError, match="different problems"):
        crossed_difference(numbered(a, range(3), list("abcd")), numbered(a, range(3), list("abce")))
    with pytest.raises(SdlabError, match="other seeds or problems"):
        crossed_interval(numbered(a, [0, 1, 2]), numbered(a + 1, [0, 2, 1]))
    with pytest.raises(SdlabError, match="a seed's number of its own"):
        crossed_difference(a, a, seeds_a=[0, 1, 1], seeds_b=[0, 1, 2])
    with pytest.raises(SdlabError, match="one side only"):
        crossed_difference(numbered(a, range(3)), a)
    with pytest.raises(SdlabError, match="3 and 2 rows"):
        crossed_difference(a, a[:2])
    with pytest.raises(SdlabError, match="confidence=95"):
        crossed_interval(a, confidence=95)
    assert np.isnan(crossed_interval(a, a).mean)  # nothing to divide by


def test_seeds_alone_have_students_interval():
    values = np.array([0.1, 0.4, 0.35, 0.2, 0.3])
    found = seeds_interval(values)
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    )
    assert np.isnan(seeds_interval([0.3]).low) and seeds_interval([0.3]).mean == 0.3
    for values in ([], [0.1, np.nan]):
        with pytest.raises(SdlabError, match="one number per seed"):
            seeds_interval(values)


def test_seeds_are_compared_in_pairs():
    rng = np.random.default_rng(0)
    level = rng.normal(size=5)  # what a seed's questions are worth, the same on both sides
    a, b = level + rng.normal(size=5) * 0.01, level + 0.1 + rng.normal(size=5) * 0.01
    found = seeds_difference(a, b)
    paired = stats.ttest_rel(b, a).confidence_interval()
    assert limits(found) == pytest.approx((paired.low, paired.high)) and found.significant
    assert not seeds_difference([0.0, 0.0], [0.1, 0.1]).significant  # two equal numbers measure no spread
    with pytest.raises(SdlabError, match="same seeds on both sides"):
        seeds_difference(a, b[:3])


def test_a_denominator_without_names_follows_its_table():
    """The columns of b are in another order; its denominator is an array in that order."""
    rng = np.random.default_rng(0)
    names, order = list("pqrs"), [2, 0, 3, 1]
    over, under = rng.random((2, 3, 4)), rng.integers(1, 9, (2, 3, 4)).astype(float)
    a, b = (pandas.DataFrame(table, columns=names) for table in over)
    expected = crossed_difference(a, b, under[0], under[1])
    mixed = crossed_difference(a, b.iloc[:, order], under[0], under[1][:, order])
    assert vars(mixed.interval) == pytest.approx(vars(expected.interval))
    named = pandas.DataFrame(under[1], columns=names).iloc[:, order]
    assert vars(crossed_difference(a, b.iloc[:, order], under[0], named).interval) == pytest.approx(
        vars(expected.interval)
    )
