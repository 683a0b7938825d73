"""Coverage against brute force, simulation, closed forms, scipy and scikit-learn."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sdlab.benchmarks import table_three
from sdlab.benchmarks.coverage import (
    PAPER_PLAN,
    SamplingPlan,
    accumulation,
    copies_of,
    draw_plan,
    expected_met,
    exposures,
    hill_number,
    measure_coverage,
    types_of,
)
from sdlab.errors import SdlabError
from sdlab.world.problems import Problem
from sdlab.world.splits import load_split


def problem(number: int, prompt: str, kind: str = "") -> Problem:
    return Problem(f"p/{number}", "test", "test", kind, prompt, "1")


def problems(*prompts: str, kinds=()) -> list[Problem]:
    return [problem(i, prompt, kinds[i] if kinds else "") for i, prompt in enumerate(prompts)]


# Effective numbers


def test_effective_numbers_by_hand():
    assert [round(hill_number([90, 10], order), 4) for order in (0, 1, 2)] == [2.0, 1.3841, 1.2195]
    assert hill_number([1 / 3, 1 / 3, 1 / 3, 0]) == pytest.approx(3)
    assert hill_number([7], 2) == 1


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12))
def test_effective_numbers_fall_with_the_order_and_agree_with_scipy(weights):
    numbers = [hill_number(weights, order) for order in (0, 0.5, 1, 1.5, 2, 4)]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(numbers)) and numbers[0] == len(weights)
    assert numbers[2] == pytest.approx(math.exp(stats.entropy(weights)))
    assert hill_number(weights * 3) == pytest.approx(
        3 * numbers[2]
    )  # three copies of a community with types of their own: three times as many


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, math.nan]])
def test_no_effective_number_of_nothing(weights):
    with pytest.raises(SdlabError, match="non-negative weights"):
        hill_number(weights)


def test_types_share_a_problem():
    some = problems("a", "b", kinds=["x; y", "x"])
    assert types_of(some) == {"x": 1.5, "y": 0.5}
    assert sum(types_of(load_split("deeper", limit=50)).values()) == pytest.approx(50)
    assert types_of(problems("a", kinds=["x; x"])) == {"x": 1.0}  # a hunt may use a type twice


# Distinct things met


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_met_is_the_mean_over_all_ways_to_draw(copies, data):
    rows = [thing for thing, count in enumerate(copies) for _ in range(count)]
    draws = data.draw(st.integers(0, len(rows)))
    ways = [len(set(way)) for way in itertools.combinations(rows, draws)]
    assert expected_met(copies, draws) == pytest.approx(np.mean(ways), abs=1e-9)
    if draws <= 4:
        ways = [len(set(way)) for way in itertools.product(rows, repeat=draws)]
        assert expected_met(copies, draws, replacement=True) == pytest.approx(np.mean(ways), abs=1e-9)


def test_closed_forms():
    assert expected_met([1] * 50, [0, 1, 20, 50, 80]).tolist() == pytest.approx([0, 1, 20, 50, 50])
    assert expected_met([1] * 17_900, 25_600, replacement=True) == pytest.approx(
        17_900 * (1 - (1 - 1 / 17_900) ** 25_600)
    )
    assert expected_met([64], 1) == 1


def test_simulated_plans_agree_with_the_formula():
    rows = [f"q{i}" for i in range(40) for _ in range(1 + i % 3)]
    copies = list(Counter(rows).values())
    for replacement, draws in ((False, 30), (False, len(rows) + 10), (True, 30)):
        plan = SamplingPlan(draws, 1, replacement=replacement)
        runs = [draw_plan(rows, plan, seed) for seed in range(200)]
        met = [len(set(run)) for run in runs]
        assert np.mean(met) == pytest.approx(
            expected_met(copies, draws, replacement), abs=4 * np.std(met) / 200**0.5 + 1e-9
        )
        asked = Counter(count for run in runs for count in [Counter(run).get(f"q{i}", 0) for i in range(40)])
        chances = exposures(copies, plan)
        for times, chance in enumerate(chances):
            assert asked[times] / 8_000 == pytest.approx(chance, abs=0.02)
        assert max(asked) < len(chances)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_exposures_add_up(copies, draws, replacement):
    chances = exposures(copies, SamplingPlan(draws, 1, replacement=replacement))
    assert chances.sum() == pytest.approx(1)
    assert chances @ np.arange(len(chances)) == pytest.approx(draws / len(copies))
    assert (1 - chances[0]) * len(copies) == pytest.approx(expected_met(copies, draws, replacement))


def test_accumulation_of_problems_with_several_types():
    kinds = [("a", "b"), ("a",), ("c", "c"), ("b", "c"), ("d",)]
    by_hand = [
        np.mean([len(set().union(*way)) for way in itertools.combinations(kinds, n)]) for n in range(1, 6)
    ]
    assert accumulation(kinds, range(1, 6)) == pytest.approx(by_hand)


@pytest.mark.parametrize("sizes", [[1, 6], [0, 2]])
def test_more_problems_than_there_are(sizes):
    with pytest.raises(SdlabError, match=r"problems asked of a set of 5; choose 1 to 5"):
        accumulation([("a",)] * 5, sizes)


@pytest.mark.parametrize(
    "ask",
    [
        copies_of,
        types_of,
        measure_coverage,
        lambda none: accumulation(none, [1]),
        lambda none: exposures(none, PAPER_PLAN),
        lambda none: draw_plan(none, PAPER_PLAN),
    ],
)
def test_an_empty_set_is_told(ask):
    with pytest.raises(SdlabError, match="the set of problems is empty"):
        ask([])


def test_bad_input_is_told():
    with pytest.raises(SdlabError, match="nothing to draw from"):
        expected_met([], 3)
    with pytest.raises(SdlabError, match="-1 draws"):
        expected_met([1], -1)
    with pytest.raises(SdlabError, match="steps=0 is not allowed"):
        SamplingPlan(0, 8)
    with pytest.raises(SdlabError, match="p/0 has no kind"):
        types_of(problems("a"))


# Whole sets


def test_measures_of_a_small_set_by_hand():
    some = problems("one apple", "one pear", "one  apple", "one fig", kinds=["x", "y", "x", "y"])
    row = measure_coverage(some, SamplingPlan(steps=2, num_problems=3, num_generations=4))
    assert (row["questions"], row["distinct"], row["draws"], row["types"]) == (4, 3, 6, 2)
    assert (row["exposures"], row["answers"], row["touched"], row["touched_share"]) == (2, 8, 3, 1)
    assert row["effective_types"] == pytest.approx(2) and row["combinations"] == 2
    assert measure_coverage(problems("a b", "b c"))["types"] is None


def test_the_organism():
    chemistry, kata = measure_coverage(load_split("chemistry-train")), measure_coverage(load_split("kata"))
    assert (chemistry["types"], chemistry["distinct"], kata["distinct"]) == (6, 2160, 131)
    assert 5.9 < chemistry["effective_types"] <= 6
    deeper, seen, unseen = (
        measure_coverage(load_split(name)) for name in ("deeper", "in-domain", "unseen-types")
    )
    assert (deeper["types"], seen["types"], unseen["types"]) == (20, 20, 12)
    assert deeper["effective_combinations"] > 2 * seen["effective_combinations"]


def test_the_paper_s_plan():
    assert PAPER_PLAN.draws == 25_600
    table = table_three.touched_under({"17,000": 17_000}).set_index("drawn")
    assert table.loc["every question once", "touched"] == 17_000
    assert table.loc["with replacement", "share"] == pytest.approx(0.778, abs=5e-4)
    simulated = len(set(draw_plan(range(17_000), SamplingPlan(100, 256, replacement=True))))
    assert simulated == pytest.approx(table.loc["with replacement", "touched"], abs=150)
    shuffled = np.random.default_rng(0).choice(17_000 * 100, 25_600, replace=False) % 17_000
    assert len(set(shuffled.tolist())) == pytest.approx(
        table.loc["a file with 100 copies", "touched"], abs=150
    )
