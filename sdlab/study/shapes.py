"""Tests of the shape of an effect: how the training score moves, and on which problems more is lost.

They have the interface of `sdlab.study.statements.Test`. Steps are counted from 1, and the windows are part
of the statement. They are not chosen by looking for the lowest point of a run, because noise alone would then
look like a recovery.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.crossed import seeds_difference
from sdlab.study.conditions import condition
from sdlab.study.dissociation import dissociation
from sdlab.study.recorded import Recorded
from sdlab.study.verdicts import MIN_SEEDS, NOT_SETTLED, Measured, judge

Window = tuple[int, int]  # the first and the last of some training steps, both included


def training_window(recorded: Recorded, name: str, metric: str, window: Window) -> pandas.Series:
    """Return a training column's mean over a window of steps, by seed.

    The completions of a step are sampled before its update, so step 1 is the untrained model.

    Raises SdlabError when some seed of the condition lacks steps of the window.
    """
    first, last = window
    steps = recorded.steps[recorded.steps["condition"] == name]
    inside = steps[steps["step"].between(first - 1, last - 1)].groupby("seed")[metric]
    complete = inside.count() == last - first + 1
    if steps.empty or not complete.reindex(steps["seed"].unique(), fill_value=False).all():
        raise SdlabError(
            f"condition {name!r} has not recorded the training steps {first} to {last} with every seed; "
            "name steps that all its runs have"
        )
    return inside.mean()


@dataclass(frozen=True)
class Course:
    """The claim that `metric`, on the rollouts of training, moves between two windows of a run's steps.

    The quantity is the mean over `then` minus that over `first`, paired by seed; `low` and `high` are the
    range that the claim allows.
    """

    condition: str
    metric: str
    first: Window
    then: Window
    low: float
    high: float

    @property
    def against(self) -> str:
        """Return the condition to compare with: the same runs."""
        return self.condition

    @property
    def refuting(self) -> str:
        """Return the result that would refute the claim, without the condition."""
        name = "training score" if self.metric == "reward" else f"{self.metric} in training"
        outcome = "no increase" if self.low == 0 else "no decrease"
        return f"{name}, steps {_words(self.then)} against steps {_words(self.first)}: {outcome}"

    @property
    def pair(self) -> str:
        """Return the condition in words."""
        return condition(self.condition).label

    def measure(self, recorded: Recorded) -> Measured:
        """Compare the change's interval over seeds with the claimed range.

        Raises SdlabError as `training_window`.
        """
        before, after = (
            training_window(recorded, self.condition, self.metric, window)
            for window in (self.first, self.then)
        )
        difference = seeds_difference(before, after)
        if not difference.seeds_show_spread:
            remark = "one seed" if difference.seeds < MIN_SEEDS else "two equal seeds"
            return Measured(difference.interval, NOT_SETTLED, remark)
        return Measured(difference.interval, judge(difference.interval, self.low, self.high))

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """Return the same test about another condition."""
        return replace(self, condition=rename(self.condition))


@dataclass(frozen=True)
class LosesMore:
    """The claim that training costs a larger share of the score on `far` than on `near`.

    The quantity is the relative loss on `far` divided by that on `near` (`sdlab.study.dissociation`); the
    claim is that it is above `factor`. It is judged by the loss on `far` minus `factor` times that on `near`,
    which has an interval even where there is no loss on `near`.
    """

    condition: str
    against: str = "base"
    far: str = "unseen-types"
    near: str = "in-domain"
    factor: float = 1.0

    @property
    def refuting(self) -> str:
        """Return the result that would refute the claim, without the conditions."""
        return f"relative loss of score on {self.far}: at most {self.factor:g} times that on {self.near}"

    @property
    def pair(self) -> str:
        """Return the two conditions in words."""
        return f"{condition(self.condition).label} against {condition(self.against).label}"

    def measure(self, recorded: Recorded) -> Measured:
        """Compare the two losses: as a ratio, or as a difference where no loss on `near` is shown.

        Raises SdlabError when a run is not recorded.
        """
        result = dissociation(recorded, self.against, self.condition, self.near, self.far)
        excess, bounded = result.excess(self.factor), math.isfinite(result.ratio.low)
        verdict = judge(excess, 0, math.inf) if result.seeds >= MIN_SEEDS else NOT_SETTLED
        times = "" if self.factor == 1 else f"{self.factor:g} times "
        remarks = [] if bounded else [f"share lost on {self.far} minus {times}that on {self.near}"]
        remarks += ["one seed"] * (result.seeds < MIN_SEEDS)
        return Measured(result.ratio if bounded else excess, verdict, "; ".join(remarks), ratio=bounded)

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """Return the same test about other conditions."""
        return replace(self, condition=rename(self.condition), against=rename(self.against))


def _words(window: Window) -> str:
    return f"{window[0]} to {window[1]}"
