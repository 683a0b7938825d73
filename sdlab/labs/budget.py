"""The resources of every submission to the leaderboard."""

from dataclasses import dataclass
from typing import Annotated

from sdlab.settings import Count, Range, check_settings
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.loop import BUDGET


@dataclass(frozen=True)
class Budget:
    """The resources of every submission. Raises SdlabError on a value below its minimum."""

    config: TrainConfig = BUDGET
    seeds: Count = 3  # training runs; with one no difference is significant
    problems: Annotated[int, Range(2)] = 64  # of each of three hidden splits
    generations: Count = 4
    timeout: Annotated[float, Range(1)] = 1800.0  # seconds, of one submission's training
    memory_gb: Annotated[float, Range(1)] = 4.0  # of its process; the recorded budget takes about 1 GB
    model: str = "organism"

    def __post_init__(self) -> None:
        check_settings(self)
