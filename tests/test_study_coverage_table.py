"""The coverage study's table: training ends by hand, evaluations by hand, pairs by seed."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.study import coverage_table as ends
from sdlab.study.coverage_conditions import COVERAGE
from sdlab.study.recorded import Recorded

NAMES = ("cover_grpo_8", "cover_sdpo_8")
SEEDS = (0, 1, 2)


def reward(name, seed, step):
    return 0.7 + 0.02 * seed + (0.005 if "grpo" in name else -0.01) * step


@pytest.fixture
def recorded():
    steps = [
        {
            "condition": name,
            "seed": seed,
            "step": step,
            "reward": reward(name, seed, step),
            "length": 100 - step,
            "markers": 5,
            "density": 50,
        }
        for name in NAMES
        for seed in SEEDS
        for step in range(40)
    ]
    evaluations = [
        {
            "condition": name,
            "seed": seed,
            "step": 40,
            "split": split,
            "problem_id": f"p{p}",
            "generations": 4,
            "reward": (p + seed) % 5,
            "length": 400,
            "markers": 8,
            "truncated": 0,
        }
        for name in NAMES
        for seed in SEEDS
        for split in ("in-domain", "unseen-types")
        for p in range(10)
    ]
    return Recorded(pandas.DataFrame(steps).sample(frac=1, random_state=1), pandas.DataFrame(evaluations), {})


def test_where_training_ends_is_the_mean_of_the_last_five_steps(recorded):
    found = ends.training_ends(recorded, "cover_sdpo_8", "reward")
    assert found.to_dict() == pytest.approx({seed: 0.7 + 0.02 * seed - 0.01 * 37 for seed in SEEDS})
    began = ends.training_ends(recorded, "cover_sdpo_8", "reward", first=True)
    assert began[0] == pytest.approx(0.7 - 0.01 * 0.5)


def test_differences_are_paired_by_seed(recorded):
    apart = ends.training_difference(
        recorded, *NAMES
    )  # every seed's difference is the same, whatever its own level
    assert apart.significant and apart.interval.mean == pytest.approx(-0.015 * 37)
    assert apart.interval.high - apart.interval.low == pytest.approx(0, abs=1e-9)
    gain = ends.training_gain(recorded, "cover_grpo_8")
    assert gain.significant and gain.interval.mean == pytest.approx(0.005 * 36.5)
    fewer = Recorded(
        recorded.steps.query("not (condition == 'cover_sdpo_8' and seed == 2)"), recorded.evaluations, {}
    )
    assert not ends.training_difference(fewer, *NAMES).significant  # two shared seeds are too few to say so


def test_the_table_holds_students_t_and_the_evaluations(recorded):
    table = ends.coverage_table(recorded, NAMES)
    row = table.query("condition == 'cover_grpo_8' and split == @ends.TRAINING and metric == 'reward'").iloc[
        0
    ]
    values = ends.training_ends(recorded, "cover_grpo_8", "reward")
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["method"], row["questions"], row["num_questions"], row["seeds"]) == ("grpo", "8", 8, 3)
    away = table.query("condition == 'cover_sdpo_8' and split == 'unseen-types' and metric == 'reward'").iloc[
        0
    ]
    by_hand = sum((p + seed) % 5 for p in range(10) for seed in SEEDS) / (4 * 30)
    assert away["mean"] == pytest.approx(by_hand) and away["low"] < by_hand < away["high"]
    assert len(table) == 2 * 4 * 3


def test_a_condition_without_steps_is_named(recorded):
    with pytest.raises(SdlabError, match="'cover_grpo_64' has no recorded training steps"):
        ends.training_ends(recorded, "cover_grpo_64", "reward")


def test_where_training_stops_paying_is_found_between_the_counts():
    """Gains of +.4, +.2, -.2, -.4 at 1, 8, 64, 128 questions cross zero half way between 8 and 64 on a log
    scale; another seed's never do.
    """
    rows = []
    for count, gain in ((1, 0.4), (8, 0.2), (64, -0.2), (128, -0.4)):
        for seed, last in ((0, 0.5 + gain), (1, 0.9), (2, 0.5 + gain / 2)):
            rows += [
                {
                    "condition": f"cover_sdpo_{count}",
                    "seed": seed,
                    "step": step,
                    "reward": 0.5 if step < 2 else last,
                }
                for step in range(10)
            ]
    rows += [
        {"condition": "cover_sdpo_1", "seed": 3, "step": step, "reward": 0.5} for step in range(10)
    ]  # not in all conditions
    found = ends.stops_paying(
        Recorded(pandas.DataFrame(rows), pandas.DataFrame(), {}),
        [f"cover_sdpo_{count}" for count in (64, 1, 128, 8)],
    )
    assert list(found.index) == [0, 1, 2]
    assert found[0] == pytest.approx(4.5) and found[2] == pytest.approx(4.5) and np.isnan(found[1])


def test_all_questions_are_counted():
    few = replace(COVERAGE["cover_sdpo_all"].plan, candidates="few")
    plans = [COVERAGE["cover_sdpo_8"].plan, COVERAGE["cover_sdpo_all"].plan, few]
    assert [ends._count(plan) for plan in plans] == [8, 4096, 1417]
