"""Tests of the course of a run and of the dissociation, on runs with a known truth."""

import math
from dataclasses import replace

import numpy as np
import pandas
import pytest

from sdlab.errors import SdlabError
from sdlab.study.conditions import CONDITIONS, LONG
from sdlab.study.organisms import on_organism
from sdlab.study.paper_statements import METHOD_STATEMENTS
from sdlab.study.recorded import Recorded
from sdlab.study.shapes import Course, LosesMore, training_window
from sdlab.study.statements import asked
from sdlab.study.verdicts import AGREES, DISAGREES, NOT_SETTLED

DOWN = Course("sdpo_long", "reward", (1, 2), (6, 10), -math.inf, 0)
UP = Course("sdpo_long", "reward", (6, 10), (91, 100), 0, math.inf)


def course(score, seeds: int = 4, noise: float = 0.01, steps: int = 100) -> Recorded:
    """Runs of sdpo_long whose training score at step k (from 0) is score(k), plus noise."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "condition": "sdpo_long",
            "seed": seed,
            "step": k,
            "reward": score(k) + noise * rng.standard_normal(),
        }
        for seed in range(seeds)
        for k in range(steps)
    ]
    return Recorded(pandas.DataFrame(rows), pandas.DataFrame(), {})


@pytest.mark.parametrize(
    ("score", "down", "up"),
    [
        (lambda k: 0.3 + 0.4 * (k < 4) + 0.003 * k, AGREES, AGREES),  # a fall, then a recovery
        (lambda k: 0.3 + 0.4 * (k < 4), AGREES, NOT_SETTLED),  # a fall only
        (lambda k: 0.3 + 0.003 * k, DISAGREES, AGREES),  # a rise only
        (lambda k: 0.7 - 0.003 * k, AGREES, DISAGREES),  # a fall that goes on
    ],
)
def test_a_fall_and_a_recovery_are_two_claims(score, down, up):
    runs = course(score)
    assert (DOWN.measure(runs).verdict, UP.measure(runs).verdict) == (down, up)


def test_noise_alone_has_no_recovery():
    """The lowest window of a noisy flat run lies below its end; a window fixed before does not."""
    flat = [UP.measure(course(lambda k: 0.5, noise=0.1 + 0.001 * n)).verdict for n in range(40)]
    assert flat.count(AGREES) <= 4  # 2.5% on each side are expected


def test_a_window_is_the_mean_of_its_steps_counted_from_one():
    runs = course(float, seeds=2, noise=0.0, steps=20)
    assert training_window(runs, "sdpo_long", "reward", (6, 10)).tolist() == [7.0, 7.0]
    assert training_window(runs, "sdpo_long", "reward", (1, 1)).tolist() == [0.0, 0.0]


def test_runs_that_are_too_short_and_one_seed_are_told():
    with pytest.raises(SdlabError, match="91 to 100"):
        UP.measure(course(float, steps=95))
    uneven = course(float)
    uneven = replace(uneven, steps=uneven.steps.query("not (seed == 1 and step > 90)"))
    with pytest.raises(SdlabError, match="91 to 100"):
        UP.measure(uneven)
    with pytest.raises(SdlabError, match="sdpo_long"):
        UP.measure(Recorded(course(float).steps.iloc[:0], pandas.DataFrame(), {}))
    assert DOWN.measure(course(float, seeds=1)).verdict == NOT_SETTLED


def losses(near: float, far: float, seeds: int = 4) -> Recorded:
    """Runs in which SDPO loses these shares of a score of 0.6, in-domain and on unseen types."""
    rng = np.random.default_rng(0)
    rows = [
        {"condition": name, "seed": seed, "step": 40, "split": split, "problem_id": f"{split}{problem}"}
        | {"generations": 40, "reward": 40 * score + 0.5 * rng.standard_normal()}
        | {"length": 1, "markers": 0, "truncated": 0}
        for name, scores in (("base", (0.6, 0.6)), ("sdpo", (0.6 * (1 - near), 0.6 * (1 - far))))
        for split, score in zip(("in-domain", "unseen-types"), scores, strict=True)
        for seed in range(seeds)
        for problem in range(40)
    ]
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.DataFrame(rows), {})


def test_losing_more_elsewhere_is_a_ratio_above_the_factor():
    assert LosesMore("sdpo").measure(losses(0.2, 0.6)).verdict == AGREES
    assert LosesMore("sdpo", factor=1.5).measure(losses(0.2, 0.6)).verdict == AGREES
    assert LosesMore("sdpo", factor=3.5).measure(losses(0.2, 0.6)).verdict == DISAGREES
    assert LosesMore("sdpo").measure(losses(0.6, 0.2)).verdict == DISAGREES
    measured = LosesMore("sdpo").measure(losses(0.2, 0.6))
    assert measured.interval.mean == pytest.approx(3, rel=0.05) and str(measured).endswith(" times")
    assert LosesMore("sdpo").measure(losses(0.2, 0.6, seeds=1)).verdict == NOT_SETTLED


def test_without_a_loss_in_domain_the_excess_is_judged_and_no_loss_at_all_settles_nothing():
    measured = LosesMore("sdpo", factor=1.5).measure(losses(0.0, 0.6))
    assert measured.verdict == AGREES and measured.interval.mean == pytest.approx(0.6, abs=0.05)
    assert str(measured).endswith("(share lost on unseen-types minus 1.5 times that on in-domain)")
    assert LosesMore("sdpo").measure(losses(0.0, 0.0)).verdict == NOT_SETTLED


def test_they_are_repeated_on_other_organisms_like_every_other_test():
    there = on_organism(asked("SDPO loses more there", LosesMore("sdpo")), "organism-1")
    assert there.conditions() == {"sdpo_1", "base_1"}
    renamed = DOWN.renamed(lambda name: f"{name}_x")
    assert (renamed.condition, renamed.against, renamed.then) == ("sdpo_long_x", "sdpo_long_x", DOWN.then)


def test_the_windows_of_the_papers_statement_lie_in_the_runs():
    tests = [test for one in METHOD_STATEMENTS for test in one.tests if isinstance(test, Course)]
    assert tests
    for test in tests:
        steps = (CONDITIONS | LONG)[test.condition].config.steps
        assert 1 <= test.first[0] <= test.first[1] < test.then[0] <= test.then[1] <= steps
