"""What a recorded condition is: a method with its settings, and a plan of what it is trained and judged on."""

from dataclasses import dataclass

from sdlab.runs.training import Plan
from sdlab.train.config import TrainConfig

PLAN = Plan(
    num_eval_generations=4, final_problems=128
)  # how recorded runs are judged: 128 problems a split, 4 completions each


@dataclass(frozen=True)
class Condition:
    """A method with its settings; the seed is set when it is run."""

    name: str
    label: str
    method: str
    config: TrainConfig
    plan: Plan = PLAN
    model: str = "organism"
    series: str = ""  # drawn as one curve: conditions that differ only in what they are trained on
