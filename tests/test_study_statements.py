"""A statement is judged by its own test, on runs with a known truth and on the recorded runs."""

import math

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval
from sdlab.study.conditions import groups
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.recorded import Recorded, load_recorded
from sdlab.study.shapes import Course
from sdlab.study.statements import (
    MARGIN,
    NOT_STATED,
    asked,
    falls,
    rises,
    same,
    share,
    stated,
    statement_rows,
    tally,
)
from sdlab.study.verdicts import AGREES, DISAGREES, NOT_SETTLED, judge
from sdlab.world.splits import TRAINING

GENERATIONS = 40


def runs(evaluations: dict, training: dict | None = None, seeds: int = 5, noise: float = 0.0) -> Recorded:
    """Runs: (condition, step) -> score on unseen types; condition -> (start, end) of the training score."""
    rng, rows, steps = np.random.default_rng(0), [], []
    for (name, step), score in evaluations.items():
        for seed in range(seeds):
            shift = noise * rng.standard_normal()
            for problem in range(30):
                right = GENERATIONS * (score + shift) + rng.standard_normal()
                where = {"condition": name, "seed": seed, "step": step, "split": "unseen-types"}
                sums = {"reward": right, "length": 100 * right, "markers": 8 * right, "truncated": 0}
                rows.append(where | {"problem_id": f"p{problem}", "generations": GENERATIONS} | sums)
    for name, (start, end) in (training or {}).items():
        for seed in range(seeds):
            steps += [
                {
                    "condition": name,
                    "seed": seed,
                    "step": step,
                    "reward": value + 0.001 * rng.standard_normal(),
                }
                for step, value in enumerate(np.linspace(start, end, 20))
            ]
    columns = ["condition", "seed", "step", "reward"]
    return Recorded(pandas.DataFrame(steps, columns=columns), pandas.DataFrame(rows), {})


TWO = runs({("base", 0): 0.5, ("sdpo", 40): 0.3, ("grpo", 40): 0.5})
LOUD = runs({("base", 0): 0.5, ("sdpo", 40): 0.48, ("grpo", 40): 0.5}, noise=0.1)


@pytest.mark.parametrize(
    ("test", "recorded", "verdict"),
    [
        (falls("sdpo", "reward"), TWO, AGREES),
        (rises("sdpo", "reward"), TWO, DISAGREES),
        (falls("sdpo", "reward"), LOUD, NOT_SETTLED),
        (same("grpo", "reward", "base"), TWO, AGREES),
        (same("sdpo", "reward", "base"), TWO, DISAGREES),
        (same("grpo", "reward", "base"), LOUD, NOT_SETTLED),  # an interval that includes 0 is no equality
        (same("sdpo", "reward", "base", margin=0.25), TWO, AGREES),  # the margin is part of the statement
        (share("sdpo", "length", 0.5, 0.7), TWO, AGREES),
        (share("sdpo", "length", 0.4, 0.55), TWO, DISAGREES),  # 0.6 of the length is not "about half"
        (share("sdpo", "length", 0.9, 1.1), LOUD, NOT_SETTLED),
    ],
)
def test_a_verdict_is_that_of_the_test_of_what_is_stated(test, recorded, verdict):
    assert test.measure(recorded).verdict == verdict


def test_a_lower_score_is_not_the_same_end_and_below_base_is_not_the_same_end():
    """The fault that this module mends: "the same end" was taken for shown when a run ended below base."""
    ended = {("sdpo", 30): 0.1, ("sdpo", 40): 0.1, ("sdpo_slower", 30): 0.3, ("sdpo_slower", 40): 0.3}
    recorded = runs({("base", 0): 0.5} | ended)
    assert falls("sdpo_slower", "reward").measure(recorded).verdict == AGREES
    assert same("sdpo_slower", "reward", "sdpo", at_the_end=True).measure(recorded).verdict == DISAGREES


def test_the_end_of_a_run_that_still_moves_settles_nothing():
    moving = runs({("sdpo", 40): 0.1, ("sdpo_slower", 30): 0.4, ("sdpo_slower", 40): 0.3})
    measured = same("sdpo_slower", "reward", "sdpo", at_the_end=True).measure(moving)
    assert (measured.verdict, "not reached its end" in str(measured)) == (NOT_SETTLED, True)
    ended = {("sdpo", 30): 0.3, ("sdpo", 40): 0.3}
    settled = runs(ended | {("sdpo_slower", 30): 0.3, ("sdpo_slower", 40): 0.3})
    assert same("sdpo_slower", "reward", "sdpo", at_the_end=True).measure(settled).verdict == AGREES
    once = runs(ended | {("sdpo_slower", 40): 0.3})
    assert same("sdpo_slower", "reward", "sdpo", at_the_end=True).measure(once).verdict == NOT_SETTLED
    # the other run passes by on its way down, so its score there is not its end
    passing = {("sdpo", 30): 0.5, ("sdpo", 40): 0.3, ("sdpo_slower", 30): 0.3, ("sdpo_slower", 40): 0.3}
    measured = same("sdpo_slower", "reward", "sdpo", at_the_end=True).measure(runs(passing))
    assert (measured.verdict, "SDPO, c = s has not reached its end" in str(measured)) == (NOT_SETTLED, True)
    for build in (rises, falls):  # a claim without a margin has nothing to show the end by
        with pytest.raises(SdlabError, match="at_the_end is not possible for a range"):
            build("sdpo", "reward", at_the_end=True)
    with pytest.raises(SdlabError, match="use it with `same`"):
        share("sdpo", "length", 0.4, 0.6, at_the_end=True)


def test_one_seed_settles_nothing():
    recorded = runs({("base", 0): 0.5, ("sdpo", 40): 0.1}, seeds=1)
    for test in (falls("sdpo", "reward"), same("sdpo", "reward", "base"), share("sdpo", "length", 0.1, 0.3)):
        measured = test.measure(recorded)
        assert (measured.verdict, "one seed" in str(measured)) == (NOT_SETTLED, True)


def test_two_equal_seeds_settle_nothing():
    """They do not show how much seeds vary, so an interval without a width is no evidence."""
    recorded = runs({("base", 0): 0.5}, {"sdpo": (0.2, 0.9)}, seeds=2)
    steps = recorded.steps.assign(reward=np.linspace(0.2, 0.9, 20).round(3)[recorded.steps["step"]])
    equal = Recorded(steps, recorded.evaluations, {})
    course = Course("sdpo", "reward", (1, 2), (19, 20), 0, math.inf)
    for test in (rises("sdpo", "reward", split=TRAINING), course):
        assert test.measure(recorded).interval.low != test.measure(recorded).interval.high
        measured = test.measure(equal)
        assert (measured.verdict, "two equal seeds" in str(measured)) == (NOT_SETTLED, True)


def test_the_training_score_is_compared_with_its_own_start_or_with_another_run():
    recorded = runs({("base", 0): 0.5}, {"sdpo": (0.2, 0.9), "grpo": (0.2, 0.5)})
    verdicts = [
        test.measure(recorded).verdict
        for test in (
            rises("sdpo", "reward", split=TRAINING),
            falls("grpo", "reward", split=TRAINING),
            rises("sdpo", "reward", "grpo", split=TRAINING),
        )
    ]
    assert verdicts == [AGREES, DISAGREES, AGREES]


def test_the_difference_is_the_condition_minus_the_other():
    assert falls("sdpo", "reward").measure(TWO).interval.mean == pytest.approx(-0.2, abs=0.01)
    assert share("sdpo", "length", 0, 1).measure(TWO).interval.mean == pytest.approx(0.6, abs=0.02)
    assert str(rises("sdpo", "reward").measure(TWO)).startswith("-0.20 [")
    assert str(share("sdpo", "length", 0, 1).measure(TWO)).endswith("times")


def test_no_difference_is_the_equivalence_test():
    """The 90% interval inside the margin, as two one-sided tests at 5% have it."""
    for margin in (0.001, 0.004, 0.01, 0.05):
        difference = TWO.difference("base", "grpo", "reward", "unseen-types")
        agrees = same("grpo", "reward", "base", margin).measure(TWO).verdict == AGREES
        assert agrees == difference.equivalent(margin)


def test_an_interval_is_judged_by_the_claimed_range():
    """Against the definition, on a grid: all of the interval, none of it, or a part."""
    values = [-0.3, -0.1, -0.05, 0.0, 0.05, 0.1, 0.3]
    for low, high in [(0, math.inf), (-math.inf, 0), (-0.05, 0.05), (0.04, 0.2)]:
        for a in values:
            for b in [one for one in values if one > a]:
                inside = [low < a + (b - a) * k / 1000 < high for k in range(1, 1000)]
                verdict = judge(Interval((a + b) / 2, a, b), low, high)
                if verdict == AGREES:
                    assert all(inside)
                elif verdict == DISAGREES:
                    assert not any(inside)
                else:
                    assert not all(inside) or a <= low or b >= high


def test_every_test_of_a_statement_must_agree():
    both = stated("", "a sentence", "Figure 1", falls("sdpo", "reward"), same("grpo", "reward", "base"))
    assert both.verdict(TWO) == AGREES
    one = stated("", "a sentence", "Figure 1", falls("sdpo", "reward"), rises("sdpo", "length"))
    assert one.verdict(TWO) == DISAGREES
    loud = stated(
        "", "a sentence", "Figure 1", same("grpo", "reward", "base"), share("grpo", "length", 0.1, 5)
    )
    assert loud.verdict(LOUD) == NOT_SETTLED


def test_questions_of_our_own_are_answered_in_other_words_and_not_counted():
    rows = statement_rows(
        TWO,
        [
            asked("ours", falls("sdpo", "reward")),
            asked("ours too", rises("sdpo", "reward")),
            stated("the paper's", "a sentence", "Figure 1", falls("sdpo", "reward")),
        ],
    )
    assert [row["verdict"] for row in rows.values()] == ["yes", "no", AGREES]
    assert [row["paper"] for row in rows.values()] == [NOT_STATED, NOT_STATED, "a sentence"]
    assert tally(rows) == {AGREES: 1}


def test_a_statement_about_runs_that_are_not_recorded_is_left_out():
    statements = [
        stated("there", "s", "f", falls("sdpo", "reward")),
        asked("not there", falls("sdpo_ema", "reward")),
    ]
    assert list(statement_rows(TWO, statements)) == ["there"]
    with pytest.raises(SdlabError, match="sdpo_ema"):
        falls("sdpo_ema", "reward").measure(TWO)


@pytest.mark.parametrize(
    ("test", "against"),
    [
        (falls("sdpo", "reward"), "base"),
        (falls("sdpo_off", "reward"), "base_off"),
        (rises("chemistry_sdpo", "reward", split="chemistry-test"), "base_domains"),
        (falls("small_sdpo_8", "reward"), "small_base"),
        (falls("small_sdpo_8", "reward", split=TRAINING), "small_sdpo_8"),
        (falls("sdpo_off", "reward", "sdpo"), "sdpo"),
    ],
)
def test_what_a_condition_is_compared_with(test, against):
    assert test.against == against


@pytest.mark.parametrize("one", [*METHOD_STATEMENTS, *COVERAGE_STATEMENTS], ids=lambda one: one.claim)
def test_every_statement_says_who_makes_it_and_what_would_refute_it(one):
    known = {name for group in groups().values() for name in group}
    assert one.conditions() <= known and one.tests
    assert bool(one.paper) == bool(one.source)  # the paper's sentences have a figure, ours have none
    assert one.refuted_by.count("(") >= 1 and " against " in one.refuted_by
    for test in one.tests:
        margin = getattr(test, "no_difference", False)
        assert not margin or str(test.high) in one.refuted_by, "the margin is stated"


def test_the_claims_differ():
    claims = [one.claim for one in (*METHOD_STATEMENTS, *COVERAGE_STATEMENTS)]
    assert len(set(claims)) == len(claims)


def test_the_verdicts_on_the_recorded_runs():
    """What the recorded runs say; a change here is a change of what the project reports."""
    every = [*METHOD_STATEMENTS, *COVERAGE_STATEMENTS]
    rows = statement_rows(load_recorded(), every)
    assert set(rows) == {one.claim for one in every}
    other = {claim: row["verdict"] for claim, row in rows.items() if row["verdict"] not in (AGREES, "yes")}
    assert other == {
        "GRPO and SDPO both shorten": DISAGREES,
        "thinking off: SDPO leaves half the length (0.4 to 0.6)": DISAGREES,
        "thinking off: SDPO lowers the score on the harder problems": NOT_SETTLED,
        "a moving teacher: the test score ends lower": NOT_SETTLED,
        "a tenth of the learning rate ends at the same score": NOT_SETTLED,
        "training score: SDPO ends above GRPO at 1, 8, 64 and 128 problems": DISAGREES,
        "kata (training = test): SDPO ends above GRPO": DISAGREES,
        "unseen types fall as far with 8 problems as with all": NOT_SETTLED,
        "unseen types: GRPO gains more from all problems than from 8": NOT_SETTLED,
        "without think: the training score falls with 8 problems": NOT_SETTLED,
        "without think: the training score ends higher than with c = s (all problems)": NOT_SETTLED,
        "more problems of one type lower SDPO's training score": NOT_SETTLED,
        "kata: SDPO with feedback alone leaves the score where it was": NOT_SETTLED,
    }


def test_a_margin_is_less_than_a_third_of_what_is_lost():
    lost = -load_recorded("base", "sdpo").difference("base", "sdpo", "reward", "unseen-types").interval.mean
    assert MARGIN < lost / 3
