"""How many training seeds would settle a statement that the recorded runs leave open: a rough plan."""

import math
from collections.abc import Iterable

from sdlab.study.recorded import Recorded
from sdlab.study.statements import Statement, Test
from sdlab.study.verdicts import MIN_SEEDS, NOT_SETTLED


def seeds_needed(half_width: float, distance: float, seeds: int) -> int | None:
    """Return how many seeds bring an interval's half-width below `distance`, the way to the nearest limit.

    The width shrinks with the root of the number of seeds, as long as the seeds' part dominates. None where
    the estimate lies on the limit, which no number of seeds settles.
    """
    if not distance > 0:
        return None
    return max(seeds, math.ceil(seeds * (half_width / distance) ** 2))


def open_tests(recorded: Recorded, statements: Iterable[Statement]) -> list[dict]:
    """Return one row for each test that is not settled for want of precision: what more seeds would do.

    Columns: statement, measured, seeds (now), share of the squared error that is of seeds, seeds needed.
    """
    known = set(recorded.evaluations["condition"]) | set(recorded.steps["condition"])
    rows = []
    for statement in statements:
        for test in statement.tests if statement.conditions() <= known else ():
            if not isinstance(test, Test) or test.ratio or test.at_the_end:
                continue
            measured, difference = test.measure(recorded), test.difference(recorded)
            if measured.verdict != NOT_SETTLED or difference.seeds < MIN_SEEDS:
                continue
            interval = measured.interval
            distance = min(abs(interval.mean - end) for end in (test.low, test.high) if math.isfinite(end))
            errors = [float(error) for error, _ in difference.spread.parts]
            rows.append(
                {
                    "statement": statement.claim,
                    "measured": str(measured),
                    "seeds": difference.seeds,
                    "share of seeds in the squared error": errors[0] / max(sum(errors), 1e-12),
                    "seeds needed": seeds_needed(
                        (interval.high - interval.low) / 2, distance, difference.seeds
                    ),
                }
            )
    return rows
