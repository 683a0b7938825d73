"""Slots, the form that all three domains share: unknowns with candidates, and the check of each candidate.

A hunt has one slot per hidden number. Chemistry has one slot for the product, and a kata has one for the
reading of its words. The reasoner works only on slots, so one program serves all domains.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """One unknown of a problem."""

    name: str  # begins the slot's line in the trace: "A", "Product", "Rule"
    subject: str  # subject of the sentence that commits to a value: "A", "it"
    candidates: tuple[str, ...]  # every possible value, as text
    truth: int  # index of the right candidate
    prior: tuple[float, ...]  # the reasoner's belief before any context; sums to one
    survey: str  # the sentence that lists the candidates
    # For each candidate the check in words, and whether it holds; () when the value cannot be checked.
    tests: tuple[tuple[str, bool], ...] = ()
    strict_tests: tuple[tuple[str, bool], ...] = ()  # the same when the environment's feedback is known


def listing(items: Iterable) -> str:
    """Join the items as in "3, 9 or 15"."""
    items = list(map(str, items))
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " or " + items[-1]


def uniform(count: int) -> tuple[float, ...]:
    """Return the uniform distribution over `count` candidates."""
    return (1.0 / count,) * count
