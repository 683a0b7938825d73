"""Statements about recorded runs, each with the test that could refute it.

A statement claims that a quantity lies in a range: a difference above 0, a difference within a margin of 0, a
ratio between 0.4 and 0.6. Its verdict compares the quantity's interval with that range. The runs agree when
the whole interval lies in the range, disagree when no part of it does, and otherwise the statement is not
settled. It is a 95% interval, or a 90% interval where no difference is claimed (two one-sided tests at 5%
each). An interval that includes 0 is no evidence of equality.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self, TypedDict, Unpack

from sdlab.errors import SdlabError
from sdlab.measure.crossed import Difference, crossed_difference
from sdlab.study.conditions import condition
from sdlab.study.coverage_table import training_difference, training_gain
from sdlab.study.recorded import Recorded
from sdlab.study.verdicts import AGREES, DISAGREES, MIN_SEEDS, NOT_SETTLED, Measured, Refutable, judge
from sdlab.world.splits import TRAINING

OWN_WORDS = {AGREES: "yes", DISAGREES: "no", NOT_SETTLED: NOT_SETTLED}  # the verdicts on our own questions
NOT_STATED = "not stated by the paper: our question"
MARGIN = 0.05  # of a score: fixed before the runs were made; smaller differences do not matter
MEASURES = {"reward": "score", "density": "markers per 1,000 tokens"}
UNTRAINED = {"chemistry": "base_domains", "kata": "base_domains", "small": "small_base"}


@dataclass(frozen=True)
class Test:
    """A quantity of recorded runs, and the range that a statement claims for it.

    The quantity is `metric` of `condition` minus that of `other` (`ratio`: divided by it) on `split` after
    `step` (None: the last). other None: the untrained model; on the training questions the beginning of the
    same run. `at_the_end`: a claim of no difference about the end of training. It is not settled unless the
    last two evaluations of `condition`, and those of `other`, are shown to differ by less than the margin.

    Raises SdlabError for `at_the_end` with a claim that has no margin.
    """

    condition: str
    other: str | None
    metric: str
    low: float
    high: float
    split: str = "unseen-types"
    ratio: bool = False
    step: int | None = None
    at_the_end: bool = False

    def __post_init__(self) -> None:
        if self.at_the_end and not self.no_difference:
            raise SdlabError(
                f"at_the_end is not possible for a range of {self.low:g} to {self.high:g}; the end of a run "
                "is shown by a margin; use it with `same`"
            )

    @property
    def against(self) -> str:
        """Return the recorded condition to compare with; `condition` itself for its own beginning."""
        if self.other or self.split == TRAINING:
            return self.other or self.condition
        own = "base_off" if self.condition.endswith("_off") else "base"
        return UNTRAINED.get(self.condition.partition("_")[0], own)

    @property
    def no_difference(self) -> bool:
        """Return whether the claim is that two conditions do not differ by more than a margin."""
        return not self.ratio and math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def refuting(self) -> str:
        """Return the result that would refute the claim, without the conditions."""
        quantity = MEASURES.get(self.metric, self.metric) + (f" after step {self.step}" if self.step else "")
        outcome = f"no {'increase' if self.low == 0 else 'decrease'}"
        if self.ratio:
            outcome = f"a ratio outside {self.low:g} to {self.high:g}"
        elif self.no_difference:
            outcome = f"a difference of more than {self.high:g}"
        return f"{quantity} on {self.split}: {outcome}"

    @property
    def pair(self) -> str:
        """Return the two conditions in words."""
        start = "its own start" if self.split == TRAINING else "the untrained model"
        other = condition(self.other).label if self.other else start
        return f"{condition(self.condition).label} against {other}"

    def measure(self, recorded: Recorded) -> Measured:
        """Compare the quantity's interval with the claimed range.

        Raises SdlabError when a run is not recorded.
        """
        difference = self.difference(recorded)
        interval = difference.at(0.9 if self.no_difference else 0.95)
        if self.ratio:
            interval = recorded.ratio(self.against, self.condition, self.metric, self.split, self.step)
        if not difference.seeds_show_spread:
            remark = "one seed" if difference.seeds < MIN_SEEDS else "two equal seeds"
            return Measured(interval, NOT_SETTLED, remark, self.ratio)
        for name in filter(None, (self.condition, self.other)) if self.at_the_end else ():
            if not self._at_its_end(recorded, name):
                which = "the run" if name == self.condition else condition(name).label
                return Measured(interval, NOT_SETTLED, f"90% interval; {which} has not reached its end")
        remark = "90% interval" if self.no_difference else ""
        return Measured(interval, judge(interval, self.low, self.high), remark, self.ratio)

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """Return the same test about other conditions; a run's own beginning stays its own."""
        other = None if self.against == self.condition else rename(self.against)
        return replace(self, condition=rename(self.condition), other=other)

    def difference(self, recorded: Recorded) -> Difference:
        """Return the quantity as a difference, over seeds and problems; for a ratio that of its two sides."""
        if self.split != TRAINING:
            return recorded.difference(self.against, self.condition, self.metric, self.split, self.step)
        if self.other is None:
            return training_gain(recorded, self.condition, self.metric)
        return training_difference(recorded, self.other, self.condition, self.metric)

    def _at_its_end(self, recorded: Recorded, name: str) -> bool:
        """Return whether the last two evaluations of a condition are shown to differ less than the margin."""
        frame = recorded.evaluations
        own = frame[(frame["condition"] == name) & (frame["split"] == self.split)]
        steps = sorted(own["step"].unique())[-2:]
        if len(steps) < 2:
            return False
        (x, m), (y, n) = (recorded.table(name, self.metric, self.split, step) for step in steps)
        common = x.columns.intersection(y.columns)
        return crossed_difference(x[common], y[common], m[common], n[common]).equivalent(self.high)


@dataclass(frozen=True)
class Statement:
    """A statement, its source, and the tests that could refute it; all of them must agree.

    `paper`: the paper's sentence as in the literature notes, "" for our own question.
    """

    claim: str
    paper: str
    source: str
    tests: tuple[Refutable, ...]

    @property
    def refuted_by(self) -> str:
        """Return the results that would refute the statement, in words; one of them is enough."""
        parts = []
        for kind in dict.fromkeys(test.refuting for test in self.tests):
            pairs = "; ".join(test.pair for test in self.tests if test.refuting == kind)
            parts.append(f"{kind} ({pairs})")
        return "; or ".join(parts)

    def conditions(self) -> set[str]:
        """Return the recorded conditions that the tests need."""
        return {name for test in self.tests for name in (test.condition, test.against)}

    def measure(self, recorded: Recorded) -> list[Measured]:
        """Return the result of each test."""
        return [test.measure(recorded) for test in self.tests]

    def verdict(self, recorded: Recorded) -> str:
        """Return agrees, disagrees or not settled; yes, no or not settled for a question of our own."""
        return self._word([measured.verdict for measured in self.measure(recorded)])

    def _word(self, verdicts: list[str]) -> str:
        word = DISAGREES if DISAGREES in verdicts else AGREES if set(verdicts) == {AGREES} else NOT_SETTLED
        return word if self.paper else OWN_WORDS[word]

    def row(self, recorded: Recorded) -> dict[str, str]:
        """Return one row of the table that notebooks, report and README show, without the claim."""
        measured = self.measure(recorded)
        return {
            "paper": self.paper or NOT_STATED,
            "source": self.source,
            "refuted by": self.refuted_by,
            "measured": "; ".join(map(str, measured)),
            "verdict": self._word([result.verdict for result in measured]),
        }


class TestOptions(TypedDict, total=False):
    """Fields of `Test` that `rises`, `falls`, `same` and `share` pass on."""

    split: str
    step: int | None
    at_the_end: bool


def rises(condition: str, metric: str, other: str | None = None, **options: Unpack[TestOptions]) -> Test:
    """Return the test of: `metric` is higher than under `other` (None: than before training)."""
    return Test(condition, other, metric, 0, math.inf, **options)


def falls(condition: str, metric: str, other: str | None = None, **options: Unpack[TestOptions]) -> Test:
    """Return the test of: `metric` is lower than under `other` (None: than before training)."""
    return Test(condition, other, metric, -math.inf, 0, **options)


def same(
    condition: str, metric: str, other: str | None, margin: float = MARGIN, **options: Unpack[TestOptions]
) -> Test:
    """Return the test of: `metric` is within `margin` of that under `other` (None: before training)."""
    return Test(condition, other, metric, -margin, margin, **options)


def share(
    condition: str,
    metric: str,
    low: float,
    high: float,
    other: str | None = None,
    **options: Unpack[TestOptions],
) -> Test:
    """Return the test of: `metric` is `low` to `high` times that under `other` (None: before training)."""
    return Test(condition, other, metric, low, high, ratio=True, **options)


def stated(claim: str, paper: str, source: str, *tests: Refutable) -> Statement:
    """Return a statement of the paper, with the tests that could refute it."""
    return Statement(claim, paper, source, tests)


def asked(claim: str, *tests: Refutable) -> Statement:
    """Return a statement that the paper does not make, with the tests that could refute it."""
    return Statement(claim, "", "", tests)


def statement_rows(recorded: Recorded, statements: Iterable[Statement]) -> dict[str, dict[str, str]]:
    """Return claim -> row for the statements whose runs are all recorded."""
    names = set(recorded.evaluations["condition"]) | set(recorded.steps["condition"])
    return {
        statement.claim: statement.row(recorded)
        for statement in statements
        if statement.conditions() <= names
    }


def tally(rows: dict[str, dict[str, str]]) -> dict[str, int]:
    """Return how many of the paper's statements have each verdict; questions of our own are left out."""
    verdicts = [row["verdict"] for row in rows.values() if row["paper"] != NOT_STATED]
    return {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
