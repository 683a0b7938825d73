"""`sdlab reproduce`: run the training of the recorded results again."""

from pathlib import Path

import tyro

from sdlab.commands.options import default
from sdlab.study import reproduction
from sdlab.study.checkpoints import GROUP, make_checkpoints


def reproduce(
    conditions: tyro.conf.Positional[tuple[str, ...]] = (),
    seeds: tuple[int, ...] | None = None,
    work: Path = default(reproduction.reproduce, "work"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
) -> int:
    """Run the training of the recorded results again; an interrupted reproduction resumes.

    Args:
        conditions: Names of conditions (sdlab/study/conditions.py) or of groups: main (the default), rates,
            long, bf16, coverage, exposures, small, organism-1, organism-2, organism-blind; of the arena of
            repairs: arena-rates (first: the learning rates), arena, arena-chemistry, arena-narrow,
            arena-organism-1, arena-organism-2. "checkpoints" stores models of some conditions and steps in
            data/checkpoints instead, for the explorer.
        seeds: Training seeds, one run each; by default those of each condition, mostly 0 to 4. Recorded
            seeds that are not named here stay.
        work: Folder for the runs themselves.
        output: Folder for the packed results; by default data/runs of a clone, else ./sdlab-data/runs.
        jobs: Number of simultaneous runs, each with one thread; by default one per core.
        model: A model other than the one of the conditions; needs its own --output.
    """
    if conditions == (GROUP,):
        return _checkpoints(output)
    paths = reproduction.reproduce(conditions, seeds, work=work, output=output, jobs=jobs, model=model)
    for path in paths:
        print(f"wrote {path}")
    return 0


def _checkpoints(output: Path | None) -> int:
    make_checkpoints(
        output, on_done=lambda one: print(f"{one.label}, step {one.step}: {one.file}", flush=True)
    )
    return 0
