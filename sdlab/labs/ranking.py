"""Rank submissions by their results on hidden problems."""

from dataclasses import dataclass

import numpy as np

from sdlab.measure.crossed import crossed_difference, crossed_interval
from sdlab.measure.intervals import Interval
from sdlab.measure.spread import POSITIVE, SHARE


@dataclass(frozen=True)
class Entry:
    """The result of one submission: sums over generations per seed and problem, (S, P), or a reason.

    The reason says why there is no result.
    """

    name: str
    score: np.ndarray | None = None  # right completions out of distribution
    tokens: np.ndarray | None = None  # of the same completions
    in_domain: np.ndarray | None = None
    generations: int = 1
    reason: str = ""
    closed_off: tuple[str, ...] | None = None  # closed to its code; None when none of its code ran now

    def interval(self, what: str) -> Interval:
        """Return the mean per completion of "score", "tokens" or "in_domain", with its 95% interval."""
        table = getattr(self, what)
        bounds = POSITIVE if what == "tokens" else SHARE
        return crossed_interval(table, np.full(table.shape, self.generations), bounds=bounds)


def rank(entries: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, int]:
    """Return {name: rank} of {name: (score (S, P), tokens (S, P))}; 1 is the best.

    Entries are ranked by score, and by fewer tokens where scores are tied. The best entry and those right
    after it that are not significantly worse are tied (crossed_difference: an interval over seeds and
    problems); the next best starts a new group. Entries tied in both share a rank, and the next rank counts
    them all: 1, 1, 3.
    """
    placed, names = {}, sorted(entries)
    for level in _tied({name: -entries[name][0] for name in names}):
        for group in _tied({name: entries[name][1] for name in level}):
            placed |= dict.fromkeys(group, len(placed) + 1)
    return placed


def _tied(tables: dict[str, np.ndarray]) -> list[list[str]]:
    """Return the names in groups, the smallest mean first.

    A group is its first entry and those right after it that do not differ significantly from it.
    """
    groups: list[list[str]] = []
    for name in sorted(tables, key=lambda name: tables[name].mean()):
        if groups and not crossed_difference(tables[groups[-1][0]], tables[name]).significant:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups
