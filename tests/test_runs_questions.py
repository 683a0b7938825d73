"""Which questions a run trains on: how many, of how many types, and never one that is tested on."""

from dataclasses import replace

import pytest

from sdlab.errors import SdlabError
from sdlab.runs.questions import check_questions, training_questions
from sdlab.world.hunts import identity, single_hunts
from sdlab.world.splits import dealt_to, load_split


def types_of(problems):
    return {kind for problem in problems for kind in problem.types}


def test_all_questions_are_the_split_itself():
    assert training_questions("chemistry-train", None, None, 3) == load_split("chemistry-train")


@pytest.mark.parametrize("num_types", [None, 2])
def test_fewer_questions_are_among_more_and_another_seed_has_others(num_types):
    few, many, other = (
        training_questions("train", n, num_types, seed) for n, seed in ((8, 0), (64, 0), (64, 1))
    )
    assert few == many[:8] and len({p.prompt for p in many}) == 64
    assert {p.prompt for p in many} != {p.prompt for p in other}


@pytest.mark.parametrize("seed", [0, 1])
def test_types_are_as_many_as_asked_and_nested(seed):
    found = {k: types_of(training_questions("train", 128, k, seed)) for k in (1, 4, 20)}
    assert {k: len(types) for k, types in found.items()} == {1: 1, 4: 4, 20: 20}
    assert found[1] < found[4] < found[20]


def test_candidates_are_few_or_many():
    sizes = {
        which: [
            sum(len(slot.candidates) for slot in p.slots)
            for p in training_questions("train", None, None, 0, which)
        ]
        for which in ("any", "few", "many")
    }
    assert (
        len(sizes["few"]) > 1000
        and max(sizes["few"]) == 7
        and sizes["few"] == [n for n in sizes["any"] if n <= 7]
    )
    assert (
        len(sizes["many"]) > 1000
        and min(sizes["many"]) == 9
        and sizes["many"] == [n for n in sizes["any"] if n >= 9]
    )


def test_no_question_of_a_type_is_ever_tested_on():
    tested = {
        p.prompt
        for name in ("in-domain", "unseen-types")
        for split_seed in range(4)
        for p in load_split(name, split_seed)
    }
    for num_types in (1, 20):
        assert not tested & {p.prompt for p in training_questions("train", None, num_types, 0)}


def test_every_question_of_one_type_can_be_asked_for():
    everything = training_questions("train", None, 1, 0)
    assert len({p.prompt for p in everything}) == len(everything) > 100
    assert {p.prompt for p in training_questions("train", len(everything), 1, 0)} == {
        p.prompt for p in everything
    }


def test_a_question_more_than_there_are_is_refused():
    types = sorted(types_of(training_questions("train", 128, 3, 0)))
    single = [
        identity(((*kind.split(" x "), hunt),)) for kind in types for hunt in single_hunts(*kind.split(" x "))
    ]
    there = sum(dealt_to(pair)[0] == "train" for pair in {a + b for a in single for b in single})
    check_questions("train", there, 3, 0)
    with pytest.raises(SdlabError, match=f"there are {there} questions of 3 types"):
        check_questions("train", there + 1, 3, 0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ("kata", 132, None, 0),
            "num_questions=132 is not allowed; there are 131 questions in split 'kata': choose 1 to 131",
        ),
        (("train", 0, None, 0), "num_questions=0"),
        (("train", 5000, 1, 0), "questions of 1 types"),
        (("train", 5, 21, 0), "num_types=21 is not allowed; there are 20 types"),
        (("train", 5, None, 0, "lots"), "choice of candidates 'lots'"),
        (("train", 5, 2, 0, "few"), "candidates='few' is not allowed with num_types=2"),
        (("kata", 5, None, 0, "few"), "candidates='few' is not allowed with split 'kata'"),
        (
            ("train", 2000, None, 0, "many"),
            "num_questions=2000 is not allowed; there are 1266 questions with many candidates",
        ),
        (("kata", 5, 1, 0), "num_types=1 is not allowed with split 'kata'"),
    ],
)
def test_what_does_not_exist_is_named(arguments, words):
    with pytest.raises(SdlabError, match=words):
        training_questions(*arguments)


def test_the_coverage_study_varies_one_thing_at_a_time():
    from sdlab.study.coverage_conditions import COUNTS, COVERAGE, METHODS, coverage_name

    for method in METHODS:
        plans = [COVERAGE[coverage_name(method, count)] for count in COUNTS]
        assert [p.plan.num_questions for p in plans] == list(COUNTS)
        assert len({(p.config, replace(p.plan, num_questions=None)) for p in plans}) == 1
    shared = (
        "steps",
        "num_problems",
        "num_generations",
        "learning_rate",
        "warmup_steps",
        "thinking",
        "num_minibatches",
    )
    for domain in ("", "chemistry_", "kata_"):
        settings = {
            tuple(getattr(c.config, name) for name in shared)
            for key, c in COVERAGE.items()
            if key.startswith(domain or "cover_") and c.method != "sft"
        }
        assert len(settings) == 1  # the same code and settings for every method
    assert len({c.label for c in COVERAGE.values()}) == len(COVERAGE)


def test_the_small_organism_changes_nothing_but_the_weights():
    from sdlab.study.coverage_conditions import COUNTS, COVERAGE, SMALL, coverage_name, small_name

    for method in ("grpo", "sdpo"):
        for count in COUNTS:
            small, large = SMALL[small_name(method, count)], COVERAGE[coverage_name(method, count)]
            assert (small.method, small.config, small.plan) == (large.method, large.config, large.plan)
            assert (small.model, large.model) == ("organism-small", "organism")
    series = {
        name: ({**COVERAGE, **SMALL})[name].series
        for name in (
            "cover_grpo_8_of_1",
            "cover_sdpo_all",
            "small_sdpo_8",
            "cover_sdpo_no_think_1",
        )
    }
    assert list(series.values()) == ["grpo", "sdpo", "sdpo_small", "sdpo_no_think"]


def test_a_group_stands_for_its_conditions():
    from sdlab.study.conditions import CONDITIONS, SWEEP, chosen
    from sdlab.study.coverage_conditions import COVERAGE

    assert chosen(["coverage", "sdpo", "sdpo"]) == [*COVERAGE, "sdpo"]
    assert chosen(["main"]) == list(CONDITIONS) and chosen(["rates"]) == list(SWEEP)
    with pytest.raises(SdlabError, match="cover_sdpo_9"):
        chosen(["cover_sdpo_9"])
