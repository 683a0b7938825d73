"""The grid of problems and exposures: what each cell trains, and what each comparison keeps fixed."""

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.runs.questions import training_questions
from sdlab.study.conditions import condition, groups
from sdlab.study.exposure_conditions import GRID, exposures_name
from sdlab.study.exposures import exposures_table, separate_effects
from sdlab.study.recorded import Recorded


@pytest.mark.parametrize("name", groups()["exposures"])
def test_every_problem_is_drawn_as_often_as_the_name_says(name):
    one = condition(name)
    _, method, problems, exposures = name.split("_")
    assert one.method == method
    assert len(training_questions("train", one.plan.num_questions, None, seed=3)) == int(problems)
    draws = one.config.steps * one.config.num_problems
    assert draws == int(problems) * int(exposures)
    assert one.config.warmup_steps <= one.config.steps


def test_a_cell_outside_the_grid_is_refused():
    with pytest.raises(SdlabError, match="no run of 'sdpo' with 128 problems seen 32 times"):
        exposures_name("sdpo", 128, 32)


def made(score) -> Recorded:
    """Runs whose score on unseen types is score(problems, exposures)."""
    rng, rows = np.random.default_rng(0), []
    for n, e in GRID:
        for seed in range(3):
            for problem in range(20):
                reward = 40 * score(n, e) + rng.standard_normal()
                where = {"condition": exposures_name("sdpo", n, e), "seed": seed, "step": n * e // 8}
                sums = {"reward": reward, "length": 1, "markers": 0, "truncated": 0, "generations": 40}
                rows.append(where | {"split": "unseen-types", "problem_id": str(problem)} | sums)
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.DataFrame(rows), {})


def test_an_effect_of_exposures_only_shows_where_exposures_change():
    recorded = made(lambda n, e: 0.6 - 0.1 * np.log2(e) / 2)
    effects = separate_effects(recorded, "sdpo")
    assert all(one.significant and one.interval.mean < 0 for one in effects["same problems"].values())
    assert all(one.equivalent(0.05) for one in effects["same exposures"].values())
    # fewer exposures at the same number of steps: the score rises
    assert all(one.significant and one.interval.mean > 0 for one in effects["same steps"].values())
    table = exposures_table(recorded, "sdpo")
    assert (
        len(table) == len(GRID) and (table["steps"] == table["num_questions"] * table["exposures"] / 8).all()
    )


def test_an_effect_of_problems_only_shows_where_problems_change():
    effects = separate_effects(made(lambda n, e: 0.2 + 0.05 * np.log2(n)), "sdpo")
    assert all(one.equivalent(0.05) for one in effects["same problems"].values())
    assert all(one.significant for one in effects["same exposures"].values())
