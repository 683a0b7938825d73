"""The grid of problems and exposures as tables and sentences."""

import numpy as np
import pandas
import pytest

from sdlab.findings import exposures
from sdlab.study.exposure_conditions import GRID, exposures_name
from sdlab.study.exposures import separate_effects
from sdlab.study.recorded import Recorded


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """The score depends on how often a problem is met, and on nothing else."""
    rng, rows = np.random.default_rng(0), []
    for n, e in GRID:
        for seed in range(3):
            for problem in range(20):
                reward = 400 * (0.7 - 0.1 * np.log2(e)) + rng.standard_normal()
                where = {"condition": exposures_name("sdpo", n, e), "seed": seed, "step": n * e // 8}
                sums = {"reward": reward, "length": 1, "markers": 0, "truncated": 0, "generations": 400}
                rows.append(where | {"split": "unseen-types", "problem_id": str(problem)} | sums)
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.DataFrame(rows), {})


def test_the_grid_has_a_cell_per_run_and_says_what_was_not_run(recorded):
    table = exposures.grid_table(recorded, "sdpo")
    assert list(table.index) == [8, 32, 128]
    assert list(table) == ["met 2 times each", "met 8 times each", "met 32 times each"]
    assert table.loc[128, "met 32 times each"] == "not run"
    assert table.loc[8, "met 32 times each"].startswith("0.20")


def test_each_kind_of_comparison_is_counted_by_its_direction(recorded):
    effects = separate_effects(recorded, "sdpo")
    more, wider, same = exposures.effect_words(effects)
    count = len(effects["same problems"])
    assert f"rises in 0 and falls in {count} of {count}" in more and "-0.20 to -0.20" in more
    assert "rises in 0 and falls in 0" in wider
    count = len(effects["same steps"])
    assert f"rises in {count} and falls in 0 of {count}" in same
    assert len(exposures.effects_table(effects)) == sum(map(len, effects.values()))
