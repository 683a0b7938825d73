"""The shape of a recorded curve: where its score has its peak, what follows, and when a score warns.

All curves use the problems that were evaluated along the whole training. The peak of a noisy curve is too
high and its lowest point too low. So both are chosen on one half of the problems and measured on the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas

from sdlab.findings.before_after import direction
from sdlab.measure.crossed import Difference, crossed_difference
from sdlab.study.recorded import Recorded

CHOOSE, MEASURE, ALL = slice(0, None, 2), slice(1, None, 2), slice(None)
SPLITS = ("in-domain", "unseen-types")
NOTHING = "–"
PLACES = {"in-domain": "in-domain", "unseen-types": "on unseen types", "deeper": "on deeper problems"}


def split_name(split: str) -> str:
    """Return the name of a split for a table or a label, for example "unseen types"."""
    return PLACES.get(split, split).removeprefix("on ")


@dataclass(frozen=True)
class Shape:
    """The peak of a condition's in-domain score, and the changes before and after it."""

    peak: int  # the step of the largest score on the problems that choose it
    last: int
    gained: Difference  # in-domain, from step 0 to the peak, on the problems that measure it
    lost: Difference  # in-domain, from the peak to the last step, on the same problems
    lost_unseen: Difference  # unseen types, from the peak to the last step

    @property
    def words(self) -> str:
        """The shape in words, by what is significant: "rises, then falls"."""
        first = direction(self.gained, "rises", "falls", "does not clearly change")
        if self.peak == self.last:
            return f"{first} and ends at its peak"
        if self.peak == 0:
            first = "has its peak at the start"
        return f"{first}, then {direction(self.lost, 'rises', 'falls', 'does not clearly change')}"


def steps_of(recorded: Recorded, name: str, split: str = "in-domain") -> list[int]:
    """Return the steps at which a condition was evaluated, in order."""
    frame = recorded.evaluations
    own = frame[(frame["condition"] == name) & (frame["split"] == split)]
    return sorted(int(step) for step in own["step"].unique())


def sums_at(
    recorded: Recorded, name: str, split: str, step: int, part: slice = ALL, metric: str = "reward"
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return sums and counts (seeds, problems) of the problems evaluated along training, or of a part."""
    along = recorded.table(name, metric, split, 0)[0].columns
    over, under = recorded.table(name, metric, split, step)
    return over[along].iloc[:, part], under[along].iloc[:, part]


def change_between(
    recorded: Recorded, name: str, split: str, a: int, b: int, part: slice = ALL, metric: str = "reward"
) -> Difference:
    """Return the change of a metric from step a to step b."""
    (x, m), (y, n) = (sums_at(recorded, name, split, step, part, metric) for step in (a, b))
    return crossed_difference(x, y, m, n)


def shape(recorded: Recorded, name: str) -> Shape:
    """Return the shape of a condition's score along training."""
    curve = {step: _score(recorded, name, "in-domain", step, CHOOSE) for step in steps_of(recorded, name)}
    peak, last = max(curve, key=lambda step: curve[step]), max(curve)
    return Shape(
        peak,
        last,
        change_between(recorded, name, "in-domain", 0, peak, MEASURE),
        change_between(recorded, name, "in-domain", peak, last, MEASURE),
        change_between(recorded, name, "unseen-types", peak, last),
    )


def shape_table(shapes: Mapping[str, Shape], labels: Mapping[str, str]) -> pandas.DataFrame:
    """Return one row per condition: its peak, the changes around it, and its shape in words.

    A dash: there is no step before the peak, or none after it, so there is nothing to measure.
    """
    rows = {
        labels[name]: {
            "peak at step": f"{one.peak} of {one.last}",
            "gained until then": str(one.gained) if one.peak > 0 else NOTHING,
            "then, in-domain": str(one.lost) if one.peak < one.last else NOTHING,
            "then, unseen types": str(one.lost_unseen) if one.peak < one.last else NOTHING,
            "shape": one.words,
        }
        for name, one in shapes.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def shape_words(shapes: Mapping[str, Shape], labels: Mapping[str, str]) -> list[str]:
    """Return one sentence per condition about its peak and what follows."""
    lines = []
    for name, one in shapes.items():
        after = f" After it: {one.lost} in-domain, {one.lost_unseen} on unseen types."
        start = f"{labels[name]}: the in-domain score {one.words} (peak at step {one.peak} of {one.last})."
        lines.append(start + (after if one.peak < one.last else ""))
    return lines


def later_changes(
    recorded: Recorded, names: Iterable[str], a: int, b: int
) -> dict[str, dict[str, Difference]]:
    """Return, for each condition, the change of the score from step a to step b on both splits."""
    return {name: {split: change_between(recorded, name, split, a, b) for split in SPLITS} for name in names}


def later_table(
    changes: Mapping[str, Mapping[str, Difference]], labels: Mapping[str, str], when: str
) -> pandas.DataFrame:
    """Return one row per condition: its later changes, and whether the score on unseen types still moves."""
    rows = {
        labels[name]: {
            f"{when}, in-domain": str(row["in-domain"]),
            f"{when}, unseen types": str(row["unseen-types"]),
            "direction, unseen types": direction(
                row["unseen-types"], "still rises", "still falls", "no clear change"
            ),
        }
        for name, row in changes.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def changes_since_start(
    recorded: Recorded, name: str, splits: Sequence[str] = SPLITS
) -> dict[int, dict[str, Difference]]:
    """Return the change of the score against step 0, by step and split."""
    return {
        step: {split: change_between(recorded, name, split, 0, step) for split in splits}
        for step in steps_of(recorded, name)[1:]
    }


def since_start_table(changes: Mapping[int, Mapping[str, Difference]]) -> pandas.DataFrame:
    """Return `changes_since_start` as text: a row per step, a column per split."""
    rows = {
        step: {split_name(split): str(one) for split, one in row.items()} for step, row in changes.items()
    }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def first_alarms(changes: Mapping[int, Mapping[str, Difference]]) -> dict[str, int | None]:
    """Return, for each split, the first step with a significant loss against step 0; None: there is none."""
    splits = dict.fromkeys(split for row in changes.values() for split in row)
    return {
        split: next((s for s, row in changes.items() if direction(row[split]) == "smaller"), None)
        for split in splits
    }


def alarm_words(changes: Mapping[int, Mapping[str, Difference]], label: str) -> list[str]:
    """Return sentences: when would a validation score on each split have given an alarm?"""
    first = first_alarms(changes)
    lines = [
        f"{label}, {PLACES.get(split, split)}: "
        + (f"the first significant loss is at step {step}." if step else "no step has a significant loss.")
        for split, step in first.items()
    ]
    silent = [
        str(step)
        for step, row in changes.items()
        if direction(row["unseen-types"]) == "smaller" and direction(row["in-domain"]) != "smaller"
    ]
    if silent:
        lines.append(
            f"At steps {', '.join(silent)} unseen types are significantly worse, the in-domain score is not."
        )
    else:
        lines.append("At no step are unseen types significantly worse while the in-domain score is not.")
    return lines


def rebound_words(recorded: Recorded, name: str, label: str) -> list[str]:
    """Return a sentence per split: does the score recover after its lowest step?

    The lowest step is chosen on one half of the problems, and everything else is measured on the other half:
    after the lowest point of a noisy curve, the problems that chose it rise by chance alone.
    """
    lines = []
    for split in SPLITS:
        steps = steps_of(recorded, name, split)
        chosen = {step: _score(recorded, name, split, step, CHOOSE) for step in steps}
        lowest = min(steps, key=lambda step: chosen[step])
        score = _score(recorded, name, split, lowest, MEASURE)
        start = f"{label}, {PLACES[split]}: the score is lowest at step {lowest} ({score:.2f})"
        if lowest == steps[-1]:
            lines.append(f"{start}, the last one. It does not recover within the run.")
            continue
        back = change_between(recorded, name, split, lowest, steps[-1], MEASURE)
        verdict = direction(back, "It recovers a part", "It falls again", "A recovery is not shown")
        lines.append(f"{start}. From there to step {steps[-1]} it changes by {back}. {verdict}.")
    return lines


def _score(recorded: Recorded, name: str, split: str, step: int, part: slice) -> float:
    """Return the score over all seeds on a part of the problems evaluated along training."""
    over, under = sums_at(recorded, name, split, step, part)
    return float(over.to_numpy().sum() / under.to_numpy().sum())


def end_directions(
    recorded: Recorded, names: Iterable[str], metric: str = "reward", split: str = "unseen-types"
) -> dict[str, str]:
    """Return, for each condition, whether a metric rises or falls against the untrained model."""
    found = {}
    for name in names:
        base = "base_off" if name.endswith("_off") else "base"
        change = recorded.difference(base, name, metric, split)
        found[name] = direction(change, "rises", "falls", "does not clearly change")
    return found


def headline(
    recorded: Recorded,
    names: Iterable[str],
    labels: Mapping[str, str],
    metric: str = "reward",
    split: str = "unseen-types",
    what: str = "score",
) -> str:
    """Return the title of a chart as a finding: "Score on unseen types: GRPO rises; SDPO falls"."""
    ends = end_directions(recorded, names, metric, split)
    return f"{what.capitalize()} {PLACES.get(split, split)}: " + "; ".join(
        f"{labels[name]} {word}" for name, word in ends.items()
    )
