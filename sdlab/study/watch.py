"""The alarm: a rule on one measure of a training run, and a watch that applies it step by step.

A measure is a column of the table of steps (`sdlab.train.log`). The rule compares its change since the first
row with a threshold. The first row is measured before the first update, so every run is its own reference.
`sdlab.study.alarm` estimates from recorded runs how early and how reliably a rule warns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike

from sdlab.errors import SdlabError, unknown
from sdlab.runs.loading import load_run
from sdlab.settings import OneOf, Range, check_settings

FLOOR = 0.01  # a relative measure that falls further counts as this share of its start
DIRECTIONS = ("fall", "rise", "either")


@dataclass(frozen=True)
class Measure:
    """A column of the table of steps.

    relative: its change is the logarithm of its ratio to the start; otherwise it is the difference.
    """

    column: str
    label: str
    relative: bool = False


MEASURES = {
    measure.column: measure
    for measure in (
        Measure("density", "markers per 1,000 tokens", relative=True),
        Measure("markers", "markers per completion", relative=True),
        Measure("length", "length in tokens", relative=True),
        Measure("reward", "training score"),
        Measure("pass_at_g", "share of problems with a right completion"),
        Measure("truncated", "share of cut completions"),
        Measure("entropy", "policy entropy (nats)"),
        Measure("kl_to_base", "KL to the untrained model (nats per token)"),
        Measure("fork_rate", "share of tokens with entropy above 0.5 nats"),
        Measure("teacher_entropy", "teacher entropy (nats)"),
        Measure("u_mean", "mean of u (nats)"),
        Measure("u_spread", "spread of u (nats)"),
        Measure("divergence", "divergence from the teacher (nats)"),
        Measure("clip_fraction", "share of clipped tokens"),
        Measure("ratio_mean", "mean importance ratio"),
        Measure("ratio_max", "largest importance ratio"),
        Measure("idle_groups", "share of groups without a row in the loss"),
        Measure("loss", "loss"),
        Measure("grad_norm", "gradient norm"),
    )
}


@dataclass(frozen=True)
class Rule:
    """Warn when the change of `measure` since the first row goes beyond `threshold` in `direction`.

    The unit of the threshold is that of `change`: log 2 means half or twice the start for a relative measure.
    The default warns when the markers per 1,000 tokens are less than two thirds or more than one and a half
    times their start. A rising count is a failure too: a model that repeats "Wait" without end has not kept
    its doubt. `sdlab.study.detection` judges this rule on recorded runs.
    Raises SdlabError for an unknown measure or direction and for a threshold that is not above 0.
    """

    measure: Annotated[str, OneOf("measure", tuple(MEASURES))] = "density"
    direction: Annotated[str, OneOf("direction", DIRECTIONS)] = "either"
    threshold: Annotated[float, Range(above=0)] = math.log(1.5)

    def __post_init__(self) -> None:
        check_settings(self)

    def __str__(self) -> str:
        what = MEASURES[self.measure]
        if not what.relative:
            signs = {"fall": "-", "rise": "+", "either": "±"}
            return f"{what.label} changes by {signs[self.direction]}{self.threshold:.3g} or more"
        low = f"below {math.exp(-self.threshold):.2f}"
        high = f"above {math.exp(self.threshold):.2f}"
        bounds = {"fall": low, "rise": high, "either": f"{low} or {high}"}[self.direction]
        return f"{what.label} {bounds} times the start"


def change(values: ArrayLike, measure: str) -> np.ndarray:
    """Return the change of `measure` since the first of its values: (..., K) to (..., K).

    It is log(value / first) for a relative measure, where a value below FLOOR times the first counts as that,
    and value - first otherwise. A relative measure that starts at 0 has no change (nan).

    Raises SdlabError for an unknown measure.
    """
    values = np.asarray(values, dtype=float)
    start = values[..., :1]
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if not MEASURES[measure].relative:
        return values - start
    start = np.where(start > 0, start, np.nan)
    return np.log(np.maximum(values / start, FLOOR))


def oriented(changes: ArrayLike, direction: str) -> np.ndarray:
    """Return the changes so that larger values are more alarming, in the same shape.

    direction: "fall", "rise" or "either" (the size of the change).
    """
    changes = np.asarray(changes, dtype=float)
    return {"fall": -changes, "rise": changes, "either": np.abs(changes)}[direction]


class Watch:
    """Apply a rule to the rows of one run, in the order of the steps: `watch(row)` for every row.

    `fired` is the step at which the rule was first broken, or None. A resumed run gives its earlier rows
    first.
    """

    def __init__(self, rule: Rule = Rule()) -> None:
        self.rule, self.start, self.fired = rule, None, None

    def __call__(self, row: Mapping) -> str | None:
        """Return a message at the first step that breaks the rule, and None at every other step.

        The first row gets a message when the rule cannot warn, because the measure starts at 0.

        Raises SdlabError when the row has no value of the measure.
        """
        what = MEASURES[self.rule.measure]
        value = row.get(what.column, math.nan)
        if value is None or math.isnan(value):
            raise SdlabError(
                f"step {row.get('step')} has no {what.column!r}; the alarm needs it at every step; choose "
                f"another measure, for example Rule('density')"
            )
        if self.start is None:
            self.start = float(value)
            if what.relative and self.start <= 0:
                return (
                    f"alarm: {what.label} start at 0, so the alarm cannot see them fall; "
                    "watch another measure, such as length"
                )
        moved = float(oriented(change([self.start, value], self.rule.measure), self.rule.direction)[1])
        if self.fired is not None or not moved > self.rule.threshold:  # nan: the measure starts at 0
            return None
        self.fired = int(row["step"])
        verb = "fell" if value < self.start else "rose"
        return (
            f"alarm at step {self.fired}: {what.label} {verb} from {self.start:.3g} to {value:.3g}; "
            f"the limit is {self.rule}; evaluate the model on problems of types that it is not trained on "
            "before you train further"
        )


class FolderWatch(Watch):
    """Apply a rule to the rows of a run in `folder`, which may have been resumed.

    The first row of a resumed run is read from the folder, so that the alarm compares with the same start.
    """

    def __init__(self, folder: str | Path, rule: Rule = Rule()) -> None:
        super().__init__(rule)
        self.folder = folder

    def __call__(self, row: Mapping) -> str | None:
        """Return a message at the first step that breaks the rule, as `Watch`; errors as `Watch`."""
        if self.start is None and row["step"] > 0:
            for earlier in load_run(self.folder).steps.to_dict("records")[: row["step"]]:
                super().__call__(earlier)
        return super().__call__(row)
