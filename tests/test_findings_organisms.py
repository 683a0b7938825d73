"""Tables and sentences about several organisms: which are recorded, what they lose, and how they differ."""

import numpy as np
import pandas
import pytest

from sdlab.findings import organisms as across
from sdlab.study.organism_conditions import REPEATED
from sdlab.study.organisms import name_on
from sdlab.study.recorded import Recorded, is_recorded

ENDS = {  # organism -> SDPO's score in-domain and on unseen types; before, all have 0.8 and 0.5
    "organism": (0.7, 0.25), "organism-1": (0.64, 0.2), "organism-2": (0.72, 0.3),
    "organism-blind": (0.16, 0.1),
}  # fmt: skip
BEFORE = {"in-domain": 0.8, "unseen-types": 0.5, "deeper": 0.6}


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    rng, rows, provenance = np.random.default_rng(0), [], {}
    for one, (near, far) in ENDS.items():
        after = {"in-domain": near, "unseen-types": far, "deeper": far}
        for condition in REPEATED:
            name = name_on(condition, one)
            provenance[name] = {"runs": {"0": {"knobs": None if "blind" in one else {"intuition": 0.4}}}}
            for split, score in (after if condition == "sdpo" else BEFORE).items():
                rows += [
                    {"condition": name, "seed": seed, "step": 40, "split": split, "problem_id": problem}
                    | {"generations": 100, "reward": rng.binomial(100, score), "length": 1, "markers": 0}
                    for seed in range(3)
                    for problem in range(20)
                ]
    return Recorded(
        pandas.DataFrame(columns=["condition", "seed", "step"]), pandas.DataFrame(rows), provenance
    )


def test_an_organism_counts_as_recorded_when_all_wanted_conditions_are(tmp_path):
    for name in ("base", "sdpo", "base_1", "base_blind", "sdpo_blind"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert is_recorded("base_1", tmp_path)
    assert across.recorded_organisms(["base", "sdpo"], tmp_path) == ["organism", "organism-blind"]
    assert across.recorded_organisms(folder=tmp_path) == []


def test_the_losses_are_shares_of_the_score_before_by_organism(recorded):
    found = across.losses(recorded, ENDS)
    for one, (near, far) in ENDS.items():
        assert found[one].loss_near.mean == pytest.approx(1 - near / 0.8, abs=0.03)
        assert found[one].loss_far.mean == pytest.approx(1 - far / 0.5, abs=0.03)
    table = across.losses_table(recorded, found)
    assert table["intuition"].tolist() == ["0.4", "0.4", "0.4", "0"]
    assert table["more than 1.5 times"].tolist() == ["yes", "yes", "yes", "not shown"]
    points = across.losses_points(found)
    assert points["label"].tolist()[:2] == ["organism, in-domain", "organism, unseen types"]
    title = across.losses_title(found)
    assert title == "With intuition, SDPO loses a larger share on unseen types on 3 of 3 organisms"
    assert len(points) == 8 and set(points) == {"label", "mean", "low", "high"}


def test_the_sentences_count_organisms_with_and_without_intuition_apart(recorded):
    found = across.losses(recorded, ENDS)
    with_, without = across.losses_words(found)
    assert "larger on 3 of 3" in with_ and "as large on 3 of 3" in with_
    assert without.startswith("Organisms without intuition") and "as large on 0 of 1" in without
    assert len(across.losses_words({"organism": found["organism"]})) == 1


def test_the_ends_have_the_range_of_the_organisms_of_one_recipe_only(recorded):
    row = across.ends_table(recorded, ENDS).loc["SDPO, c = s"]
    low, high = map(float, row["organisms of one recipe"].split(" to "))
    assert low == pytest.approx(0.2, abs=0.02) and high == pytest.approx(
        0.3, abs=0.02
    )  # 0.1 is the blind one's
    assert "organisms of one recipe" not in across.ends_table(recorded, ["organism", "organism-blind"])


def test_intuition_changes_are_against_the_blind_organism_with_their_sign(recorded):
    changes = across.intuition_changes(recorded, ENDS)
    assert not any(one == "organism-blind" for one, _ in changes)
    mean = changes["organism", "in-domain"].interval.mean
    assert mean == pytest.approx((1 - 0.7 / 0.8) - (1 - 0.16 / 0.8), abs=0.03)
    words = across.intuition_words(changes)
    assert words[0].startswith("With intuition the share lost in-domain is smaller on 3 and larger on 0 of 3")
    assert words[1].startswith("With intuition the share lost on unseen types is ")


def test_the_kind_of_loss_needs_every_organism_with_intuition(recorded):
    found = across.losses(recorded, ENDS)
    assert across.kind_of_loss(found) == 1
    assert across.kind_of_loss({"organism": found["organism"], "organism-1": found["organism-blind"]}) == 0
    assert across.kind_of_loss({"organism-blind": found["organism-blind"]}) == 0


def test_every_condition_of_an_organism_is_named():
    assert across.names_on(["organism-2"]) == [f"{name}_2" for name in REPEATED]


def test_the_loss_over_organisms_needs_three_of_one_recipe_and_says_what_is_shown(recorded):
    assert across.loss_over_organisms(recorded, ["organism", "organism-1", "organism-blind"]) is None
    assert across.loss_over_organisms_words(None) == []
    loss = across.loss_over_organisms(recorded, ENDS)
    near, far = (np.mean([ENDS[f"organism{end}"][i] for end in ("", "-1", "-2")]) for i in (0, 1))
    assert loss.loss_near.mean == pytest.approx(1 - near / 0.8, abs=0.02)
    assert loss.loss_far.mean == pytest.approx(1 - far / 0.5, abs=0.02)
    (line,) = across.loss_over_organisms_words(loss)
    assert line.startswith("With the organism as the unit (3 organisms)") and "more than 1.5 times" in line
