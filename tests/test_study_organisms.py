"""Statements and metrics on each organism: names, verdicts, and the spread between organisms."""

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.study.organism_conditions import REPEATED
from sdlab.study.organisms import (
    across_organisms,
    is_repeated,
    name_on,
    on_organism,
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
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.DataFrame(rows), {})


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
    assert table.empty and list(table) == ["claim", "organism", "organism-1", "organism-2", "all"]


def test_the_spread_between_organisms_is_that_of_their_means():
    runs = recorded({"sdpo": 0.3, "sdpo_1": 0.5, "sdpo_2": 0.2})
    result = across_organisms(runs, "sdpo", "reward", "unseen-types")
    assert result.spread == pytest.approx((0.2, 0.5), abs=0.02)
    assert str(result).endswith("organisms 0.20 to 0.50")


def test_several_statements_of_the_paper_can_be_repeated():
    repeated = [one for one in METHOD_STATEMENTS if is_repeated(one)]
    assert len(repeated) >= 3
    assert all(one.conditions() <= set(REPEATED) for one in repeated)
