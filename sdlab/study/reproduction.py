"""Run the recorded conditions again, and write their results to data/runs (`sdlab reproduce`)."""

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256, to_json, write_atomic
from sdlab.runs.cell import Cell
from sdlab.runs.cells import run_cells
from sdlab.runs.identity import defaults
from sdlab.runs.loading import LoadedRun, load_run
from sdlab.study.condition import Condition
from sdlab.study.conditions import chosen, condition
from sdlab.study.recorded import TABLES, load_recorded, refuse_mixed_organisms

SEEDS = (0, 1, 2, 3, 4)


def reproduce(
    names: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    *,
    work: Path = Path("runs/reproduce"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
) -> list[Path]:
    """Run conditions again and pack their runs into `output`.

    Every seed has its own run folder under `work`. names: conditions or groups of them
    (`sdlab.study.conditions.groups`; an organism's name is the group of its conditions). output: data/runs
    by default. jobs: processes at once, each with one thread (default: one per core). Finished folders
    are not run again, so an interrupted reproduction resumes. model: another model than the conditions' own,
    with its own `output`.

    Raises SdlabError with the names of the runs that failed, after the others are done.
    """
    if model is not None and output is None:
        raise SdlabError(
            f"results of model {model!r} would take the place of the shipped ones; give another folder for "
            "them with --output, or reproduce the conditions of an organism by its name, such as organism-1"
        )
    conditions = chosen(names or ["main"])
    cells = {(name, seed): cell_of(name, seed, work, model) for seed in seeds for name in conditions}
    failed = run_cells(
        list(cells.values()),
        jobs=jobs,
        on_done=lambda cell, reason: print(f"{cell.name}: {'failed' if reason else 'done'}", flush=True),
    )
    whole = [name for name in conditions if not {cells[name, seed].name for seed in seeds} & failed.keys()]
    written = [pack(name, seeds, work, output) for name in whole]
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise SdlabError(f"{len(failed)} of {len(cells)} runs failed: {reasons}")
    return written


def cell_of(name: str, seed: int, work: Path = Path("runs/reproduce"), model: str | None = None) -> Cell:
    """Return the run of one condition with one seed.

    Raises SdlabError on an unknown condition.
    """
    setup = condition(name)
    return Cell(
        f"{name} seed {seed}",
        Path(work) / name / str(seed),
        setup.method,
        replace(setup.config, seed=seed),
        setup.plan,
        model or setup.model,
    )


def pack(name: str, seeds: Sequence[int], work: Path, output: Path | None = None) -> Path:
    """Write the tables and the provenance of a condition's finished runs, and return the provenance's path.

    The files are <name>.{steps,evaluations}.csv.gz and <name>.json, in data/runs by default. Recorded seeds
    with the same settings and weights that are not among `seeds` stay as they are.

    Raises SdlabError when a run is not finished, and when the runs have different weights.
    """
    output, setup = Path(output) if output else paths.record_dir() / "runs", condition(name)
    settings = {"config": asdict(setup.config), "plan": asdict(setup.plan)}
    sums, runs = {}, {seed: load_run(work / name / str(seed)) for seed in seeds}
    if unfinished := [str(seed) for seed, run in runs.items() if not run.finished]:
        raise SdlabError(
            f"{name} is not finished with seed {', '.join(unfinished)} in {work}; "
            f"finish it with `sdlab reproduce {name}`"
        )
    refuse_mixed_organisms({(name, seed): run.provenance for seed, run in runs.items()})
    kept, origins = _recorded_before(name, setup, settings, runs, output)
    for table in TABLES:
        frame = pandas.concat(
            [*kept[table], *(getattr(run, table).assign(seed=seed).round(6) for seed, run in runs.items())],
            ignore_index=True,
        )
        text = io.StringIO()
        frame.sort_values("seed", kind="stable").to_csv(text, index=False)
        # no time in the header, so that equal tables give equal files
        path = write_atomic(
            output / f"{name}.{table}.csv.gz", gzip.compress(text.getvalue().encode(), mtime=0)
        )
        sums[path.name] = sha256(path)
    origins = {int(seed): origin for seed, origin in origins.items()} | {
        seed: run.provenance for seed, run in runs.items()
    }
    provenance = {
        "condition": name,
        "label": setup.label,
        "method": setup.method,
        "command": f"sdlab reproduce {name}",
        "config": settings["config"] | {"seed": sorted(origins)},
        "plan": settings["plan"],
        "sha256": sums,
        "runs": {str(seed): origins[seed] for seed in sorted(origins)},
    }
    return write_atomic(output / f"{name}.json", to_json(provenance, indent=1) + "\n")


def _recorded_before(
    name: str, setup: Condition, settings: dict, runs: dict[int, LoadedRun], output: Path
) -> tuple[dict[str, list], dict[str, dict]]:
    """Return the recorded tables and provenance of a condition's seeds without a new run.

    Returns nothing when they were made with other settings or weights.
    """
    nothing = {table: [] for table in TABLES}, {}
    try:
        record = json.loads((output / f"{name}.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return nothing
    keep = {seed: origin for seed, origin in record["runs"].items() if int(seed) not in runs}
    same = {
        "config": defaults(setup.config) | record["config"] | {"seed": settings["config"]["seed"]},
        "plan": defaults(setup.plan) | record["plan"],
    }
    weights = [
        origin["model_sha256"] for origin in (*keep.values(), *(run.provenance for run in runs.values()))
    ]
    if not keep or same != json.loads(json.dumps(settings)) or any(sums != weights[0] for sums in weights):
        return nothing
    before = load_recorded(name, folder=output)
    tables = {table: getattr(before, table).drop(columns="condition") for table in TABLES}
    return {table: [frame[frame["seed"].isin(map(int, keep))]] for table, frame in tables.items()}, keep
