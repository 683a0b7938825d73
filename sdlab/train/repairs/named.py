"""Repairs by their name in the catalogue: what the command line, sweeps and the leaderboard run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import pandas

from sdlab.errors import unknown
from sdlab.rollout.types import TrainableEngine
from sdlab.settings import OneOf
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loop import run_repair
from sdlab.train.session import RunFolder
from sdlab.world.problems import Problem


@dataclass(frozen=True)
class RepairConfig(TrainConfig):
    """Settings of a repair of the catalogue in addition to those of every method."""

    repair: Annotated[str, OneOf("repair", CATALOGUE)] = "sdpo"
    """A method of `sdlab repairs`."""


def repair_named(name: str) -> Repair:
    """Return the repair of the catalogue with this name. Raises SdlabError for an unknown name."""
    if name not in CATALOGUE:
        raise unknown("repair", name, CATALOGUE)
    return replace(CATALOGUE[name].build(), name=name)


def run_named(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    config: RepairConfig = RepairConfig(),
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train by the repair that `config` names and return one row per step; see `run_repair`."""
    return run_repair(engine, problems, repair_named(config.repair), config, run, on_step)
