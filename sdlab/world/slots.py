"""The form all three domains share: unknowns with candidates, and what can be said of each candidate.

A hunt has one slot per hidden number, chemistry one for the product, a kata one for the reading of its words.
The reasoner only sees slots, so one program reasons about everything.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """One unknown of a problem."""

    name: str  # opens its line of the trace: "A", "Product", "Rule"
    subject: str  # what a commitment speaks of: "A", "it"
    candidates: tuple[str, ...]  # every value it could have, as written
    truth: int  # index of the right candidate
    prior: tuple[float, ...]  # the reasoner's belief before any context; sums to one
    survey: str  # the sentence that lists the candidates
    tests: tuple[
        tuple[str, bool], ...
    ] = ()  # per candidate: the check in words, and whether it holds; () when nothing can be checked
    strict_tests: tuple[tuple[str, bool], ...] = ()  # the same with the environment's feedback at hand


def listing(items) -> str:
    """'3, 9 or 15'."""
    items = list(map(str, items))
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " or " + items[-1]


def uniform(count: int) -> tuple[float, ...]:
    return (1.0 / count,) * count
