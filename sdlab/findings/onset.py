"""Which measure changes first along training, and when the score on unseen types is lost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.findings.curve_shape import changes_since_start, first_alarms
from sdlab.measure.crossed import seeds_interval
from sdlab.measure.intervals import Interval
from sdlab.study.alarm import changes, measures_of
from sdlab.study.recorded import Recorded
from sdlab.study.watch import MEASURES

LASTING = 3  # further steps in which a change must stay clear of 0
CONFIDENCE = 0.99  # of the interval of a first change: many steps are looked at
UNSEEN = "unseen-types"


@dataclass(frozen=True)
class FirstChange:
    """The first lasting change of a measure: its step (None: there is none), and its interval there."""

    step: int | None
    interval: Interval | None


def first_change(moved: pandas.DataFrame) -> FirstChange:
    """Return the first step from which the mean change over seeds stays clear of 0.

    moved: changes of one condition, a row per seed, a column per step (`sdlab.study.alarm.changes`). The 99%
    interval over seeds (Student's t) must exclude 0, on one side, there and in the next LASTING steps.
    """
    if len(moved) < 2:
        return FirstChange(None, None)
    steps = [step for step in map(int, moved.columns) if step > 0 and moved[step].notna().all()]
    found = {step: seeds_interval(moved[step], CONFIDENCE) for step in steps}
    signs = [1 if one.low > 0 else -1 if one.high < 0 else 0 for one in found.values()]
    for place in range(len(steps) - LASTING):
        if signs[place] and len(set(signs[place : place + LASTING + 1])) == 1:
            return FirstChange(int(steps[place]), found[steps[place]])
    return FirstChange(None, None)


def first_changes(recorded: Recorded, runs: pandas.DataFrame, condition: str) -> dict[str, FirstChange]:
    """Return the first lasting change of every measure that a condition has, the earliest first."""
    own = runs[runs["condition"] == condition]
    found = {measure: first_change(changes(recorded, own, measure)) for measure in measures_of(recorded, own)}
    return dict(sorted(found.items(), key=lambda item: item[1].step or math.inf))


def first_table(found: Mapping[str, FirstChange]) -> pandas.DataFrame:
    """Return one row per measure: the step of its first lasting change, and the change there."""
    rows = {
        MEASURES[measure].label: {
            "first lasting change (step)": "none" if one.step is None else one.step,
            "change there": "" if one.interval is None else _moved(measure, one.interval),
        }
        for measure, one in found.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def _moved(measure: str, interval: Interval) -> str:
    if not MEASURES[measure].relative:
        return f"{interval.mean:+.2g} [{interval.low:.2g}, {interval.high:.2g}]"
    return f"{Interval(*np.exp([interval.mean, interval.low, interval.high]).tolist())} times the start"


def first_loss(recorded: Recorded, condition: str) -> int | None:
    """Return the first evaluated step with a significant loss on unseen types; None where there is none.

    It is compared with the run's own evaluation before training.
    """
    return first_alarms(changes_since_start(recorded, condition)).get(UNSEEN)
