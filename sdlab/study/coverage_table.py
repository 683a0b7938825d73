"""The recorded coverage study as one tidy table: end of training and evaluations, by number of questions."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.crossed import Difference, seeds_difference, seeds_interval
from sdlab.runs.questions import training_questions
from sdlab.runs.training import LAST_STEPS, Plan
from sdlab.study.conditions import condition
from sdlab.study.recorded import Recorded, bounds
from sdlab.world.splits import SIZES, TRAINING

METRICS = ("reward", "length", "markers", "density")


def training_ends(recorded: Recorded, name: str, metric: str, first: bool = False) -> pandas.Series:
    """Return a training column's mean over the last five steps (or the first two) of every seed's run.

    The series is indexed by seed. The rollouts of a step are sampled before its update, so the first step is
    the untrained model.

    Raises SdlabError when the condition has no steps.
    """
    steps = recorded.steps[recorded.steps["condition"] == name].sort_values("step")
    if steps.empty:
        raise SdlabError(f"condition {name!r} has no recorded training steps")
    return steps.groupby("seed")[metric].apply(
        lambda column: column.head(2).mean() if first else column.tail(LAST_STEPS).mean()
    )


def training_difference(recorded: Recorded, a: str, b: str, metric: str = "reward") -> Difference:
    """Return the end of training under b minus under a, paired by the seed's number.

    Runs with the same seed have the same questions.
    """
    return seeds_difference(training_ends(recorded, a, metric), training_ends(recorded, b, metric))


def training_gain(recorded: Recorded, name: str, metric: str = "reward") -> Difference:
    """Return the end of training minus its beginning, paired by seed."""
    return seeds_difference(
        training_ends(recorded, name, metric, first=True), training_ends(recorded, name, metric)
    )


def stops_paying(recorded: Recorded, names: Sequence[str]) -> pandas.Series:
    """Return at which number of questions, in log2, training begins to lower its own score, by seed.

    names: conditions that differ in the number of questions only. Between two numbers the gain (last five
    steps minus the first two) is interpolated linearly in log2. The value is NaN for a seed whose gain never
    changes from positive to negative. Only seeds that all conditions have are returned.
    """
    gains = pandas.DataFrame(
        {
            math.log2(_count(condition(name).plan)): training_ends(recorded, name, "reward")
            - training_ends(recorded, name, "reward", first=True)
            for name in names
        }
    )
    gains = gains.dropna().sort_index(axis=1)
    return gains.apply(_turn, axis=1)


def _turn(gains: pandas.Series) -> float:
    """Return where the gains change from positive to negative, NaN when they never do."""
    points = zip(gains.index.astype(float), gains, strict=True)
    for (x, before), (y, after) in pairwise(points):
        if before > 0 >= after:
            return x + (y - x) * before / (before - after)
    return math.nan


def _count(plan: Plan) -> int:
    """Return the number of training questions."""
    if plan.num_questions:
        return plan.num_questions
    return (
        SIZES[plan.split]
        if plan.candidates == "any"
        else len(training_questions(plan.split, None, plan.num_types, 0, plan.candidates))
    )


def coverage_table(recorded: Recorded, names: Sequence[str]) -> pandas.DataFrame:
    """Return one row per condition, place and metric.

    Columns: condition, method, num_questions, questions, num_types, split, metric, mean, low, high. split is
    "training questions" (the last five steps' rollouts, Student's t interval over seeds) or a split of the
    last evaluation (interval over seeds and problems). num_questions of "all" is their number. method is the
    condition's series: grpo, sdpo, sdpo_no_think, grpo_small, ...

    Raises SdlabError when one of `names` is not in `recorded`.
    """
    rows = []
    for name in names:
        setup = condition(name)
        plan = setup.plan
        steps = recorded.steps[recorded.steps["condition"] == name]
        about = {
            "condition": name,
            "method": setup.series,
            "questions": str(plan.num_questions or "all"),
            "num_questions": _count(plan),
            "num_types": plan.num_types,
            "seeds": steps["seed"].nunique(),
        }
        for metric in METRICS:
            rows.append(
                about
                | {"split": TRAINING, "metric": metric}
                | vars(seeds_interval(training_ends(recorded, name, metric), bounds=bounds(metric)))
            )
            rows += [
                about | {"split": split, "metric": metric} | vars(recorded.interval(name, metric, split))
                for split in plan.final_splits
            ]
    return pandas.DataFrame(rows)
