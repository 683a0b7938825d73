"""The race of the arena's tuning: which rates need a second seed, and which one is chosen."""

import pandas
import pytest

from sdlab.study import arena_rates, arena_tuning
from sdlab.study.arena_rates import LEFT_BEHIND, RATES, TUNING_SEEDS, left_behind, rate_name, rates_table
from sdlab.study.recorded import Recorded

FIRST, SECOND = TUNING_SEEDS
PROBLEMS = 40


@pytest.fixture
def tuned(monkeypatch):
    """`tuned({rate: {seed: score}})`: the recorded tuning runs of SDPO."""

    def records(scores: dict[float, dict[int, float]]) -> None:
        frames = {}
        for rate, by_seed in scores.items():
            name = rate_name("sdpo", rate)
            frames[name] = pandas.DataFrame(
                {"condition": name, "seed": seed, "step": 40, "split": "in-domain",
                 "problem_id": str(problem), "reward": score * 100, "generations": 100}
                for seed, score in by_seed.items() for problem in range(PROBLEMS)
            )  # fmt: skip

        def load(name, folder=None):
            return Recorded(pandas.DataFrame({"seed": []}), frames[name], {})

        monkeypatch.setattr(arena_rates, "is_recorded", lambda name, folder=None: name in frames)
        monkeypatch.setattr(arena_rates, "load_recorded", load)

    return records


def column(name: str) -> dict[float, bool]:
    table = rates_table()
    return {float(rate): bool(value) for rate, value in zip(table["learning_rate"], table[name], strict=True)}


def test_a_rate_far_below_the_best_one_needs_no_second_seed(tuned):
    low, middle, high = RATES
    tuned({low: {FIRST: 0.5}, middle: {FIRST: 0.76 - LEFT_BEHIND}, high: {FIRST: 0.75}})
    assert column("left_behind") == {low: True, middle: False, high: False}
    assert not any(column("chosen").values())  # two rates wait for their second seed
    assert left_behind([rate_name("sdpo", low), rate_name("sdpo", high), rate_name("grpo", low)]) == {
        rate_name("sdpo", low)
    }


def test_the_mean_of_both_seeds_decides_among_the_rates_that_are_left(tuned):
    low, middle, high = RATES
    tuned({low: {FIRST: 0.5}, middle: {FIRST: 0.72, SECOND: 0.80}, high: {FIRST: 0.75, SECOND: 0.74}})
    assert column("chosen") == {low: False, middle: True, high: False}


def test_a_second_seed_does_not_bring_a_rate_back(tuned):
    """Whoever runs all seeds of all rates gets the same choice as whoever runs the race."""
    low, middle, high = RATES
    tuned({low: {FIRST: 0.5, SECOND: 1.0}, middle: {FIRST: 0.72, SECOND: 0.72},
           high: {FIRST: 0.73, SECOND: 0.73}})  # fmt: skip
    assert column("chosen") == {low: False, middle: False, high: True}


def test_nothing_is_left_behind_before_every_rate_has_its_first_seed(tuned):
    low, middle, high = RATES
    tuned({low: {FIRST: 0.1}, high: {FIRST: 0.9, SECOND: 0.9}})
    assert not any(column("left_behind").values()) and not any(column("chosen").values())
    tuned({low: {SECOND: 0.1}, middle: {FIRST: 0.5}, high: {FIRST: 0.9}})  # the seeds came in another order
    assert not any(column("left_behind").values()) and not any(column("chosen").values())


def test_of_equal_scores_the_smaller_rate_is_chosen(tuned):
    low, middle, high = RATES
    tuned({rate: {FIRST: 0.7, SECOND: 0.7} for rate in RATES})
    assert column("chosen") == {low: True, middle: False, high: False}


def test_the_race_runs_the_second_seed_where_a_rate_may_still_win(tuned, monkeypatch, tmp_path):
    low, middle, high = RATES
    calls = []

    def reproduce(names, seeds, **rest):
        calls.append((list(names), tuple(seeds), rest["output"]))
        tuned({low: {FIRST: 0.5}, middle: {FIRST: 0.72}, high: {FIRST: 0.75}})
        return [tmp_path / "rates.json"]

    monkeypatch.setattr(arena_tuning, "reproduce", reproduce)
    monkeypatch.setattr(
        arena_tuning, "tuning_conditions", lambda: {rate_name("sdpo", rate): None for rate in RATES}
    )
    assert arena_tuning.tune(output=tmp_path) == [tmp_path / "rates.json"]
    everything = [rate_name("sdpo", rate) for rate in RATES]
    assert calls == [(everything, (FIRST,), tmp_path), (everything[1:], (SECOND,), tmp_path)]
