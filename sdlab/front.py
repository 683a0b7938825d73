"""Evaluate and train in one call with a progress display: `sdlab.evaluate` and `sdlab.fit`."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.measure import evaluation
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.runs.loading import LoadedRun
from sdlab.runs.training import METHODS, Plan, settings_of, train
from sdlab.show.live import LiveBoard
from sdlab.show.progress import in_notebook, progress
from sdlab.train.config import TrainConfig
from sdlab.world.problems import Problem

Settings = TypeVar("Settings", TrainConfig, Plan)


def evaluate(
    engine: Engine,
    problems: Sequence[Problem],
    params: SamplingParams | None = None,
    *,
    context: str = "none",
    demonstrations: Sequence[str | None] | None = None,
    thinking: bool = True,
    entropy: bool = False,
    **sampling: Any,
) -> pandas.DataFrame:
    """Sample and grade completions of `problems`: a table with one row per completion.

    params: how to sample; or give its settings by name, for example num_generations=8, temperature=0.6.
    The other arguments, the columns and the errors are those of `sdlab.measure.evaluation.evaluate`.
    Progress is shown.
    Raises SdlabError also for an unknown sampling setting, and when both `params` and settings are set.
    """
    allowed = [field.name for field in fields(SamplingParams)]
    for name in sampling:
        if name not in allowed:
            raise unknown("sampling setting", name, allowed)
    if params is not None and sampling:
        raise SdlabError(f"params and {', '.join(sampling)} both say how to sample; give one of them")
    with progress("Evaluating", "completions") as board:
        return evaluation.evaluate(
            engine,
            problems,
            params or SamplingParams(**sampling),
            context=context,
            demonstrations=demonstrations,
            thinking=thinking,
            entropy=entropy,
            progress=board,
        )


def fit(
    method: str,
    *,
    model: str = "organism",
    folder: str | Path | None = None,
    on_step: Callable[[dict], None] | None = None,
    **settings: Any,
) -> LoadedRun:
    """Train a model by "sft", "grpo" or "sdpo" and return the run.

    settings: those of the method's config (`sdlab.train`) and of `sdlab.runs.training.Plan`, by name:
    steps=20, num_problems=16, seed=1, eval_every=5, ...
    folder: the run folder; an unfinished run there resumes. None makes a new temporary folder.
    on_step(row) is called after every step; by default a board (in a notebook) or a bar shows progress.
    Ctrl-C and the board's stop button end the run with its finished steps.
    Raises SdlabError for an unknown method or setting, a bad value, and a folder with another or a finished
    run.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    known = settings_of(method)
    for name in settings:
        if name not in known or name == "method":
            raise unknown(f"setting of {method}", name, [key for key in known if key != "method"])
    config, plan = _with_settings(METHODS[method], settings), _with_settings(Plan, settings)
    folder = folder or Path(tempfile.mkdtemp(prefix=f"sdlab-{method}-")) / "run"
    if on_step is not None:
        return train(method, config, folder, plan, model=model, on_step=on_step)
    if in_notebook():
        with LiveBoard(title=f"Training: {method}") as board:
            return train(method, config, folder, plan, model=model, on_step=board.update)
    with progress("Training", "steps") as bar:
        return train(
            method, config, folder, plan, model=model, on_step=lambda row: bar(row["step"] + 1, config.steps)
        )


def _with_settings(kind: type[Settings], settings: dict[str, Any]) -> Settings:
    """Return the dataclass `kind` with those of the settings that are fields of it."""
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in settings.items() if name in names})
