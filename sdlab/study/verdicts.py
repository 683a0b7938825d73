"""The verdict on a claim: a measured quantity's interval compared with the range that the claim allows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from sdlab.measure.intervals import Interval
from sdlab.study.recorded import Recorded

AGREES, DISAGREES, NOT_SETTLED = "agrees", "disagrees", "not settled"
MIN_SEEDS = 2  # least number of seeds that both conditions have; with fewer no statement is settled


@dataclass(frozen=True)
class Measured:
    """The result of a test: the quantity with its interval, the verdict, and a remark where one is needed."""

    interval: Interval
    verdict: str
    remark: str = ""
    ratio: bool = False

    def __str__(self) -> str:
        number = (
            f"{self.interval} times" if self.ratio else f"{'+' * (self.interval.mean >= 0)}{self.interval}"
        )
        return number + (f" ({self.remark})" if self.remark else "")


class Refutable(Protocol):
    """A test that recorded runs can refute; a statement has one or more of them."""

    @property
    def condition(self) -> str:
        """Return the recorded condition that the claim is about."""
        ...

    @property
    def against(self) -> str:
        """Return the recorded condition to compare with; `condition` itself for its own beginning."""
        ...

    @property
    def refuting(self) -> str:
        """Return the result that would refute the claim, without the conditions."""
        ...

    @property
    def pair(self) -> str:
        """Return the two conditions in words."""
        ...

    def measure(self, recorded: Recorded) -> Measured:
        """Compare the quantity's interval with the claimed range."""
        ...

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """Return the same test about other conditions: `rename` maps a condition's name to another."""
        ...


def judge(interval: Interval, low: float, high: float) -> str:
    """Return the verdict on the claim that a quantity with this interval lies between `low` and `high`."""
    if low < interval.low and interval.high < high:
        return AGREES
    return DISAGREES if interval.high <= low or interval.low >= high else NOT_SETTLED
