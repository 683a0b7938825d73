"""Recorded conditions: a method with its settings, and a plan of training and evaluation."""

from dataclasses import dataclass

from sdlab.runs.training import Plan
from sdlab.train.config import TrainConfig

SEEDS = (0, 1, 2, 3, 4)
# The evaluation of recorded runs: 128 problems of each split, 4 completions each.
PLAN = Plan(num_eval_generations=4, final_problems=128)


@dataclass(frozen=True)
class Condition:
    """A method with its settings; the seed is set for each run.

    seeds: the seeds that `sdlab reproduce` runs by default. blocked: why the condition cannot be run yet, ""
    when it can.

    series: conditions with the same series are drawn as one curve. They differ only in the problems they are
    trained on.
    """

    name: str
    label: str
    method: str
    config: TrainConfig
    plan: Plan = PLAN
    model: str = "organism"
    series: str = ""
    seeds: tuple[int, ...] = SEEDS
    blocked: str = ""
