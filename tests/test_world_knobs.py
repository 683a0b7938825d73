"""The knobs of the world: ranges, where they are stored, and whose belief they tilt."""

import json
import math
from types import SimpleNamespace

import pytest

from sdlab.errors import SdlabError
from sdlab.organism.corpus import draw_document
from sdlab.organism.pretrain import PretrainConfig, pretrain
from sdlab.seeds import stream
from sdlab.world import hunts
from sdlab.world.knobs import BLIND, Knobs, tilt, with_intuition
from sdlab.world.reasoner import sample
from sdlab.world.splits import HUNTS, SPLITS, load_split

INTUITIVE = Knobs(intuition=0.45)


@pytest.mark.parametrize(
    "name, value",
    [
        ("doubt", 0),
        ("doubt", math.inf),
        ("doubt", math.nan),
        ("survey", -1),
        ("intuition", 1),
        ("intuition", -0.1),
        ("intuition", True),
        ("recheck", 1.01),
        ("wide_clues", "0.1"),
        ("effort_off", None),
    ],
)
def test_a_knob_out_of_range_is_refused(name, value):
    with pytest.raises(SdlabError, match=rf"^{name}=.* is not allowed; it must be a number"):
        Knobs(**{name: value})


def test_knobs_are_read_from_a_models_configuration():
    stored = {"sdlab": {"version": 3, "knobs": INTUITIVE.as_dict()}}
    assert Knobs.of(stored) == Knobs.of(SimpleNamespace(**stored)) == INTUITIVE
    for blind in ({}, {"sdlab": {"version": 2}}, SimpleNamespace(), {"sdlab": None}):
        assert Knobs.of(blind) == BLIND
    with pytest.raises(
        SdlabError, match="unknown knobs charm in the model's configuration; this sdlab knows doubt"
    ):
        Knobs.of({"sdlab": {"knobs": {"charm": 1}}})
    with pytest.raises(SdlabError, match="intuition=2"):
        Knobs.of({"sdlab": {"knobs": {"intuition": 2}}})


@pytest.mark.slow
def test_an_organism_stores_its_knobs_and_a_run_on_it_names_them(tmp_path):
    from transformers import AutoConfig

    from sdlab.provenance import provenance

    config = PretrainConfig(
        steps=1, documents=2, hidden_size=64, num_layers=1, intermediate_size=64, knobs=INTUITIVE
    )
    folder = pretrain(tmp_path / "organism", config, device="cpu")
    assert Knobs.of(AutoConfig.from_pretrained(folder)) == INTUITIVE
    assert Knobs.of(json.loads((folder / "config.json").read_text())) == INTUITIVE
    assert provenance(model=str(folder))["knobs"] == INTUITIVE.as_dict()
    assert provenance(model="organism")["knobs"] == Knobs(intuition=0.4).as_dict()
    assert provenance(model="organism-blind")["knobs"] == BLIND.as_dict()
    assert provenance(model="Qwen/Qwen3-8B")["knobs"] is None


def test_the_settings_of_a_command_give_the_knobs_back():
    for knobs in (BLIND, INTUITIVE, Knobs(doubt=0.9, try_first=0.5, wide_clues=0.1)):
        moved = [a != b for a, b in zip(knobs.as_dict().values(), BLIND.as_dict().values(), strict=True)]
        assert len(knobs.settings()) == sum(moved) and Knobs.parse(knobs.settings()) == knobs
    with pytest.raises(SdlabError, match="unknown knob 'charm'; choose one of: derive"):
        Knobs.parse(["charm=1"])
    with pytest.raises(SdlabError, match="knob 'intuition' has no number; write it as name=value"):
        Knobs.parse(["intuition"])
    with pytest.raises(
        SdlabError, match=r"^intuition=7.0 is not allowed; it must be a number from 0 to 0.99"
    ):
        Knobs.parse(["intuition=7"])


def test_the_tilt_is_q_and_the_rest_shared_evenly():
    for n in (2, 3, 5):
        q = 0.45
        tilted = tilt((1 / n,) * n, 1, q)
        assert tilted == pytest.approx([(1 - q) / n + q * (i == 1) for i in range(n)])
        assert math.fsum(tilted) == pytest.approx(1)
    assert tilt((0.5, 0.3, 0.2), 2, 0.0) == (0.5, 0.3, 0.2)


def test_types_are_known_exactly_where_the_splits_say_that_pretraining_shows_them():
    for name, (types, *_) in HUNTS.items():
        known = {hunts.type_name(*one) in hunts.KNOWN_TYPES for one in types}
        assert known == {name != "unseen-types"}, name
    assert len(hunts.KNOWN_TYPES) == 20 and len(hunts.UNSEEN_TYPES) == 12


@pytest.mark.parametrize("split", SPLITS)
def test_intuition_tilts_hunts_of_known_types_and_nothing_else(split):
    for problem in load_split(split, limit=60):
        assert with_intuition(problem) is problem
        tilted = with_intuition(problem, INTUITIVE)
        if split in ("unseen-types", "kata") or split.startswith("chemistry"):
            assert tilted == problem
            continue
        for before, after in zip(problem.slots, tilted.slots, strict=True):
            n = len(before.candidates)
            assert before.prior == (1 / n,) * n
            assert after.prior[after.truth] == pytest.approx(0.45 + 0.55 / n)
            assert math.fsum(after.prior) == pytest.approx(1)


def test_no_pretraining_text_shows_an_unseen_type():
    rng = stream("test", "known types")
    kinds = set()
    for _ in range(1500):
        problem = draw_document(rng, INTUITIVE).problem
        if problem.domain == "hunt":
            kinds |= set(problem.types)
    assert kinds == hunts.KNOWN_TYPES


def test_first_proposals_are_right_as_often_as_the_belief_says():
    """An estimate from traces alone: the share of first proposals that name the right number."""
    rng = stream("test", "first proposals")
    for split, q in (("in-domain", 0.45), ("unseen-types", 0.0)):
        right = expected = variance = 0.0
        for problem in load_split(split):
            steps = sample(problem, rng, knobs=INTUITIVE).steps
            choice, taken = next(step for step in steps if step[0].role == "propose")
            slot, n = problem.slots[0], len(problem.slots[0].candidates)
            p = q + (1 - q) / n
            right += f" {slot.candidates[slot.truth]}." in choice.options[taken]
            expected, variance = expected + p, variance + p * (1 - p)
        assert abs(right - expected) < 4 * math.sqrt(variance)


def test_wide_clues_reach_the_pretraining_text():
    rng = stream("test", "wide")
    sizes = [
        len(slot.candidates)
        for problem in (draw_document(rng, Knobs(wide_clues=0.5)).problem for _ in range(300))
        if problem.domain == "hunt"
        for slot in problem.slots
    ]
    wide = sum(size > 5 for size in sizes) / len(sizes)
    assert abs(wide - 0.5) < 4 * math.sqrt(0.25 / len(sizes))
