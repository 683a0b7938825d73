"""`sdlab reproduce`: run the training of the recorded results again."""

from collections.abc import Iterable
from pathlib import Path

import tyro

from sdlab.commands.options import default
from sdlab.errors import SdlabError
from sdlab.study import arena_rates, arena_tuning, checkpoints, mechanism, reproduction
from sdlab.study.organisms import SAME_RECIPE


def reproduce(
    conditions: tyro.conf.Positional[tuple[str, ...]] = (),
    seeds: tuple[int, ...] | None = None,
    work: Path = default(reproduction.reproduce, "work"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
    quick: bool = False,
) -> int:
    """Run the training of the recorded results again; an interrupted reproduction resumes.

    Args:
        conditions: Names of conditions (sdlab/study/conditions.py) or of groups: main (the default), rates,
            long, coverage, exposures, small, organism-1, organism-2, organism-blind; of the arena of
            repairs: arena-rates (first: the learning rates), arena, arena-chemistry, arena-narrow,
            arena-organism-1, arena-organism-2. "checkpoints" stores models of some conditions and steps in
            data/checkpoints instead, for the explorer. "mechanism" probes and changes trained models of
            every organism that is present, with the seeds 0 to 4, for data/mechanism.
        seeds: Training seeds, one run each; by default those of each condition, mostly 0 to 4. Recorded
            seeds that are not named here stay.
        work: Folder for the runs themselves.
        output: Folder for the packed results; by default data/runs of a clone, else ./sdlab-data/runs.
        jobs: Number of simultaneous runs, each with one thread; by default one per core.
        model: A model other than the one of the conditions; needs its own --output.
        quick: Only for mechanism: three training steps and few problems, to try it; needs its own --output.
    """
    if conditions == (checkpoints.GROUP,):
        return _checkpoints(output)
    if conditions == (mechanism.GROUP,):
        return _mechanism(seeds, work, output, jobs, model, quick)
    if quick:
        raise SdlabError("--quick is for `sdlab reproduce mechanism` alone; leave it out")
    if conditions == (arena_rates.GROUP,) and seeds is None:
        return _written(arena_tuning.tune(work=work, output=output, jobs=jobs, model=model))
    runs = reproduction.reproduce(conditions, seeds, work=work, output=output, jobs=jobs, model=model)
    return _written(runs)


def _written(files: Iterable[Path]) -> int:
    for path in files:
        print(f"wrote {path}")
    return 0


def _checkpoints(output: Path | None) -> int:
    checkpoints.make_checkpoints(
        output, on_done=lambda one: print(f"{one.label}, step {one.step}: {one.file}", flush=True)
    )
    return 0


def _mechanism(
    seeds: tuple[int, ...] | None,
    work: Path,
    output: Path | None,
    jobs: int | None,
    model: str | None,
    quick: bool,
) -> int:
    if model is not None and model not in SAME_RECIPE and output is None:
        raise SdlabError(f"the tables of model {model!r} need a folder of their own; name it with --output")
    return _written(mechanism.reproduce_mechanism(
        seeds, organisms=(model,) if model else None, work=work, output=output, jobs=jobs, quick=quick,
        report=lambda line: print(line, flush=True),
    ))  # fmt: skip
