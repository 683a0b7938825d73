"""The arena's conditions: equal terms, tuning apart from all reports, no rate by default."""

import json
from dataclasses import asdict, replace

import pytest

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.runs.plan import evaluation_problems, plan_problems
from sdlab.study import arena_conditions, arena_rates, reproduction
from sdlab.study.arena_claims import CLAIMS, NOT_TESTED
from sdlab.study.arena_conditions import ELSEWHERE, REPEATED, ROUNDS, TUNING, UNTRAINED, arena_name
from sdlab.study.arena_families import FAMILIES, FAMILY
from sdlab.study.arena_rates import RATES, TUNING_SEEDS, rate_name
from sdlab.study.conditions import CONDITIONS, chosen, condition, groups
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.named import repair_named
from sdlab.world.splits import load_split

WEIGHTS = "a" * 64


@pytest.fixture
def rates(tmp_path, monkeypatch):
    """`rates(methods, weights)`: write the file of chosen rates of an organism with WEIGHTS."""
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path))
    (tmp_path / "organism").mkdir()
    (tmp_path / "organism" / "SHA256SUMS").write_text(
        f"{'b' * 64}  config.json\n{WEIGHTS}  model.safetensors\n"
    )

    def write(methods: dict[str, float], weights: str = WEIGHTS) -> None:
        content = {name: {"learning_rate": rate, "scores": {}} for name, rate in methods.items()}
        path = arena_rates.rates_path()
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"weights": weights, "methods": content}))

    return write


def test_every_method_has_a_condition_in_every_round_that_differs_in_method_and_rate_only(rates):
    rates({name: RATES[i % 3] for i, name in enumerate(CATALOGUE)})
    for round_name, plan in ROUNDS.items():
        shared = set()
        for i, method in enumerate(CATALOGUE):
            one = condition(arena_name(method, round_name))
            assert (one.method, one.config.repair, one.model) == ("repair", method, "organism")
            assert one.config.learning_rate == RATES[i % 3] and not one.blocked
            assert f"{RATES[i % 3]:.0e}" in one.label
            assert replace(one.plan, eval_every=10) == plan and one.plan.num_eval_generations == 8
            settings = asdict(one.config) | {"repair": "", "learning_rate": 0}
            shared.add(json.dumps(settings))
        assert len(shared) == 1
        sizes = json.loads(shared.pop())
        assert [sizes[name] for name in ("steps", "num_problems", "num_generations")] == [40, 16, 8]
        base = condition(arena_name(UNTRAINED, round_name))
        assert base.method == "base" and set(plan.final_splits) == set(base.plan.final_splits)
        assert (base.plan.final_problems, base.plan.num_eval_generations) == (128, 8)
    assert condition("arena_srpo_narrow").plan.num_questions == 8
    assert condition("arena_srpo_chemistry").plan.split == "chemistry-train"
    assert condition("arena_sdpo").plan.eval_every == 5  # it is also stopped early


def test_groups_and_single_names_both_work(rates):
    rates({})
    assert len(chosen(["arena-rates"])) == 3 * len(CATALOGUE)
    assert len(chosen(["arena"])) == len(chosen(["arena-chemistry"])) == len(CATALOGUE) + 1
    assert len(chosen(["arena-narrow"])) == len(CATALOGUE)
    for organism in ELSEWHERE[1:]:
        names = chosen([f"arena-{organism}"])
        assert names == [arena_name(name, organism=organism) for name in (UNTRAINED, *REPEATED)]
        assert {condition(name).model for name in names} == {organism}
    assert chosen(["arena_srpo", "arena-rates"])[0] == "arena_srpo"
    assert condition("arena_mix_0.5_chemistry").config.repair == "mix_0.5"
    everything = [name for group in groups().values() for name in group]
    assert len(everything) == len(set(everything))


def content_of(problems) -> set[tuple]:
    """What a hunt asks, whatever the names and the order of its numbers."""
    return {tuple(sorted(part[2:] for part in one.prompt.split(". ")[1:-1])) for one in problems}


def test_tuning_problems_are_in_no_training_set_and_in_no_reported_evaluation():
    tuning = evaluation_problems(TUNING, "in-domain", TUNING.final_problems, TUNING_SEEDS[0])
    assert len(content_of(tuning)) == TUNING.final_problems == 128
    assert len(next(iter(content_of(tuning)))) == 2
    assert {problem.split for problem in tuning} == {"in-domain"}
    reported = []
    for group in groups().values():
        for one in group.values():
            if one.plan.eval_seed == 0:
                reported += [(split, one.plan.final_problems) for split in one.plan.final_splits]
    most = max(count for _, count in reported)
    for split in ("in-domain", "unseen-types", "deeper"):
        assert not content_of(tuning) & content_of(load_split(split, limit=max(most, 512)))
    assert not content_of(tuning) & content_of(load_split("train"))
    assert not content_of(tuning) & content_of(plan_problems(ROUNDS["narrow"], seed=0))


def test_reported_seeds_and_tuning_seeds_are_apart():
    for name, group in groups().items():
        for one in group.values():
            assert bool(set(one.seeds) & set(TUNING_SEEDS)) == (name == "arena-rates"), one.name
            assert (one.plan.eval_seed != 0) == (name == "arena-rates"), one.name


def test_a_method_without_a_tuned_rate_is_refused_before_anything_runs(rates, tmp_path):
    rates({"sdpo": 1e-4})
    assert condition("arena_sdpo").config.learning_rate == 1e-4
    one = condition("arena_srpo")
    assert "rate not tuned" in one.label and "arena_rate_srpo_1e-04 arena_rate_srpo_3e-04" in one.blocked
    with pytest.raises(SdlabError, match="2 conditions cannot be run yet: arena_srpo: the learning rate of"):
        reproduction.reproduce(["arena_sdpo", "arena_srpo", "arena_grpo_narrow"], work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_rates_of_another_organism_are_refused(rates):
    rates({"sdpo": 1e-4}, weights="c" * 64)
    assert "tuned on another organism (sha256 cccccccccccc, and this one is aaaaaaaaaaaa)" in (
        condition("arena_sdpo").blocked
    )


@pytest.mark.parametrize("text", ["{", "{}", '{"weights": 3, "methods": {}}',
    '{"weights": "", "methods": {"sdpo": {"learning_rate": 0.5}}}'])  # fmt: skip
def test_a_damaged_file_of_rates_is_named(rates, text):
    rates({})
    arena_rates.rates_path().write_text(text)
    with pytest.raises(SdlabError, match=r"rates.json cannot be used .* make it again with `sdlab reproduce"):
        condition("arena_sdpo")


def test_unknown_names_are_refused():
    for arguments, message in (
        (("spdo",), "unknown repair 'spdo'"),
        (("sdpo", "kata"), "unknown round of the arena 'kata'"),
        (("sdpo", "hunts", "organism-blind"), "unknown organism of the arena 'organism-blind'"),
    ):
        with pytest.raises(SdlabError, match=message):
            arena_name(*arguments)


def test_the_shipped_rates_are_those_of_the_recorded_tuning_runs():
    recorded = paths.data_dir() / "runs"
    if not list(recorded.glob("arena_rate_*.json")):
        assert not arena_rates.read_rates()["methods"], "rates without the runs that they were chosen by"
        pytest.skip("no tuning run is recorded in this checkout")
    assert arena_rates.read_rates() == arena_rates.chosen_rates()


def test_every_method_is_in_one_family_that_fits_its_hooks():
    assert set(FAMILY) == set(CATALOGUE) and set(FAMILY.values()) == set(FAMILIES)
    for method, family in FAMILY.items():
        repair = repair_named(method)
        assert (not repair.views) == (family in ("reward", "neither")), method
        if family in ("share", "weigh", "oppose", "reward", "neither"):
            assert repair.advantage is not None, method


def test_every_method_has_a_claim_or_a_reason_why_not():
    claimed = {claim.method for claim in CLAIMS}
    assert claimed | set(NOT_TESTED) == set(CATALOGUE) and not claimed & set(NOT_TESTED)
    assert {claim.than for claim in CLAIMS} <= {UNTRAINED, *CATALOGUE}
    assert len({str(claim) for claim in CLAIMS}) == len(CLAIMS)
    for name, entry in CATALOGUE.items():  # a claim in the catalogue with a comparison is tested
        if any(mark in entry.claim for mark in ("->", "(GRPO", "above", "(SRPO")):
            assert name in claimed, name


def test_the_main_conditions_are_as_before():
    """The arena adds settings to plans; other conditions keep their values."""
    for one in CONDITIONS.values():
        assert one.plan.eval_seed == 0 and not one.plan.commitments and not one.blocked
    assert condition("sdpo").seeds == (0, 1, 2, 3, 4)
    assert rate_name("sdpo", 1e-4) == "arena_rate_sdpo_1e-04"
    assert arena_conditions.SIZES["steps"] == condition("sdpo").config.steps
