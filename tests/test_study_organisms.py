"""Statements and metrics on each organism: names, verdicts, and the spread between organisms."""

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.study.organism_conditions import REPEATED
from sdlab.study.organisms import (
    SAME_RECIPE,
    across_organisms,
    is_repeated,
    name_on,
    on_organism,
    over_organisms,
    statements_by_organism,
)
from sdlab.study.paper_statements import METHOD_STATEMENTS
from sdlab.study.recorded import Recorded
from sdlab.study.statements import asked, falls, rises


def recorded(scores: dict[str, float], seeds: int = 4) -> Recorded:
    """Runs with these scores on unseen types, with a little noise."""
    rng = np.random.default_rng(0)
    rows = [
        {"condition": name, "seed": seed, "step": 40, "split": "unseen-types", "problem_id": f"p{problem}"}
        | {"generations": 40, "reward": 40 * score + rng.standard_normal(), "length": 1, "markers": 0}
        | {"truncated": 0}
        for name, score in scores.items()
        for seed in range(seeds)
        for problem in range(20)
    ]
    return Recorded(pandas.DataFrame(columns=["condition", "seed", "step"]), pandas.DataFrame(rows), {})


SDPO_FALLS = asked("SDPO lowers the score", falls("sdpo", "reward"))


def test_a_statement_on_another_organism_compares_that_organisms_runs():
    there = on_organism(SDPO_FALLS, "organism-1")
    assert there.conditions() == {"sdpo_1", "base_1"}
    assert on_organism(SDPO_FALLS, "organism").conditions() == {"sdpo", "base"}
    with pytest.raises(SdlabError, match="organism-9"):
        on_organism(SDPO_FALLS, "organism-9")


def test_a_result_that_turns_around_on_one_organism_does_not_hold_on_all():
    same = {
        name_on(name, f"organism{end}"): score
        for end in ("", "-1", "-2")
        for name, score in (("base", 0.6), ("sdpo", 0.3))
    }
    table = statements_by_organism(recorded(same), [SDPO_FALLS])
    assert table["all"].tolist() == ["yes"]
    turned = statements_by_organism(recorded(same | {"sdpo_2": 0.8}), [SDPO_FALLS])
    assert turned["all"].tolist() == ["no"]
    assert turned["organism-2"].item().endswith(": no")
    wrong_everywhere = [asked("SDPO raises the score", rises("sdpo", "reward"))]
    assert statements_by_organism(recorded(same), wrong_everywhere)["all"].tolist() == ["no"]


def test_statements_without_runs_on_every_organism_are_left_out():
    table = statements_by_organism(recorded({"base": 0.6, "sdpo": 0.3}), [SDPO_FALLS])
    assert table.empty and list(table)[-2:] == ["over organisms", "all"]


def test_the_spread_between_organisms_is_that_of_their_means():
    runs = recorded({"sdpo": 0.3, "sdpo_1": 0.5, "sdpo_2": 0.2})
    result = across_organisms(runs, "sdpo", "reward", "unseen-types")
    assert result.spread == pytest.approx((0.2, 0.5), abs=0.02)
    assert str(result).endswith("organisms 0.20 to 0.50")


def test_several_statements_of_the_paper_can_be_repeated():
    repeated = [one for one in METHOD_STATEMENTS if is_repeated(one)]
    assert len(repeated) >= 3
    assert all(one.conditions() <= set(REPEATED) for one in repeated)


def units(effects: list[float], seeds: dict[int, int]) -> Recorded:
    """Runs without noise between seeds and problems: base scores 0.6, sdpo 0.6 plus the organism's effect."""
    rows = [
        {"condition": name_on(name, organism), "seed": seed, "step": 40, "split": "unseen-types"}
        | {"problem_id": f"p{problem}", "generations": 40, "reward": 40 * score, "length": 1}
        for i, organism in enumerate(SAME_RECIPE)
        for name, score in (("base", 0.6), ("sdpo", 0.6 + effects[i]))
        for seed in range(seeds[i])
        for problem in range(12)
    ]
    return Recorded(pandas.DataFrame(columns=["condition", "seed", "step"]), pandas.DataFrame(rows), {})


def test_with_the_organism_as_the_unit_the_interval_is_students_over_the_organisms():
    effects = [-0.1, -0.2, -0.36]
    found = over_organisms(units(effects, {0: 5, 1: 3, 2: 2})).difference(
        "base", "sdpo", "reward", "unseen-types"
    )
    half = stats.t.ppf(0.975, 2) * np.std(effects, ddof=1) / np.sqrt(3)
    assert found.interval.mean == pytest.approx(np.mean(effects))
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (np.mean(effects) - half, np.mean(effects) + half)
    )


def test_many_seeds_of_one_organism_do_not_outweigh_the_others():
    few, many = (
        over_organisms(units([0.0, -0.3, -0.3], {0: n, 1: 2, 2: 2})).interval(
            "sdpo", "reward", "unseen-types"
        )
        for n in (2, 40)
    )
    assert few == many


def test_what_one_organism_lacks_is_left_out():
    runs = units([-0.1, -0.2, -0.3], {0: 2, 1: 2, 2: 2})
    lacking = runs.evaluations.query("not (condition == 'sdpo_2' and problem_id == 'p3')")
    table = over_organisms(Recorded(runs.steps, lacking, {})).table("sdpo", "reward", "unseen-types")[0]
    assert table.shape == (3, 11) and "p3" not in table
    without = runs.evaluations.query("condition != 'sdpo_2'")
    assert set(over_organisms(Recorded(runs.steps, without, {})).evaluations["condition"]) == {"base"}


def test_a_statement_is_also_judged_with_the_organism_as_the_unit():
    table = statements_by_organism(units([-0.1, -0.2, -0.36], {0: 5, 1: 3, 2: 2}), [SDPO_FALLS])
    assert table["over organisms"].item().endswith(": not settled")
    table = statements_by_organism(units([-0.2, -0.21, -0.22], {0: 5, 1: 3, 2: 2}), [SDPO_FALLS])
    assert table["over organisms"].item().endswith(": yes")
