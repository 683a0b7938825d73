"""`sdlab sweep`: training runs over a grid of settings."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from sdlab.commands.options import ProblemOptions
from sdlab.paths import ORGANISM


def sweep(
    folder: Annotated[Path, tyro.conf.Positional],
    axes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME=VALUE,...")] = (),
    model: str = ORGANISM,
    jobs: int | None = None,
    ray: str | None = None,
    timeout: float | None = None,
    own: tyro.conf.OmitArgPrefixes[ProblemOptions] = ProblemOptions(),
) -> int:
    """Train on every combination of settings and write one table of results; an interrupted sweep resumes.

    For example: sdlab sweep runs/questions method=grpo,sdpo num_questions=1,8,64,all seed=0,1,2 steps=40. A
    name is "method" or an option of `sdlab train METHOD`. A method ignores the settings that it does not
    have.

    Args:
        folder: Folder for the runs and table.csv.
        axes: The settings and their values.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        jobs: Number of simultaneous runs on this machine, each with one thread; by default one per core.
        ray: Run as tasks of a Ray cluster: HOST:PORT of its head, auto (one that runs on this machine) or
            local (start one).
        timeout: Seconds after which a run is stopped and counted as failed.
        own: Your own problems instead of a split of the world.
    """
    from sdlab.runs.grid import read_grid
    from sdlab.runs.sweep import sweep as run

    table = run(read_grid(axes, own.settings()), folder, model, jobs=jobs, ray=ray, timeout=timeout)
    failed = table[table["status"] == "failed"]
    for row in failed.to_dict("records"):
        print(f"failed: {row['cell']}: {row['error']}", file=sys.stderr)
    print(f"wrote {folder / 'table.csv'}")
    return 1 if len(failed) else 0
