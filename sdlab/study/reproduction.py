"""Run the recorded conditions again, and write their results to data/runs (`sdlab reproduce`)."""

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pandas

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256, to_json, write_atomic
from sdlab.runs.cell import Cell, is_done
from sdlab.runs.cells import run_cells
from sdlab.runs.identity import defaults
from sdlab.runs.loading import LoadedRun, load_run
from sdlab.study import arena_rates
from sdlab.study.condition import Condition
from sdlab.study.conditions import chosen, condition, groups
from sdlab.study.recorded import TABLES, load_recorded, refuse_mixed_organisms


def check_seeds(seeds: Sequence[int] | None) -> None:
    """Raise SdlabError for an empty list of seeds, which would otherwise mean the seeds of the conditions."""
    if seeds is not None and not len(seeds):
        raise SdlabError(
            "seeds is empty; give at least one seed, or leave it out for those of the conditions"
        )


def reproduce(
    names: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    *,
    work: Path = Path("runs/reproduce"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
) -> list[Path]:
    """Run conditions again and pack their runs into `output`.

    Every seed has its own run folder under `work`. names: conditions or groups of them
    (`sdlab.study.conditions.groups`; an organism's name is the group of its conditions). seeds: None for each
    condition's own. output: data/runs by default; only then do tuning runs of the arena also renew the file
    of its learning rates (`sdlab.study.arena_rates`). jobs: processes at once, each with one thread (default:
    one per core). Finished folders are not run again, so an interrupted reproduction resumes. A condition is
    packed as soon as its last run is finished. model: another model than the conditions' own, with its own
    `output`.

    Raises SdlabError when a condition cannot be run yet, before anything is run; and with the names of the
    runs that failed, after the others are done.
    """
    if model is not None and output is None:
        raise SdlabError(
            f"results of model {model!r} would take the place of the shipped ones; give another folder for "
            "them with --output, or reproduce the conditions of an organism by its name, such as organism-1"
        )
    check_seeds(seeds)
    conditions = {name: condition(name) for name in chosen(names or ["main"])}
    refuse_blocked(conditions.values())
    own = {name: tuple(seeds or setup.seeds) for name, setup in conditions.items()}
    pairs = [(name, seed) for name, some in own.items() for seed in some]
    pairs.sort(key=lambda pair: own[pair[0]].index(pair[1]))  # the first seed of every condition first
    cells = {pair: cell_of(*pair, work, model) for pair in pairs}
    left = {name: set(some) for name, some in own.items()}
    place = {cell.name: pair for pair, cell in cells.items()}
    written: dict[str, Path] = {}
    refused: dict[str, str] = {}

    def finish(name: str, seed: int) -> None:
        left[name].discard(seed)
        if not left[name]:  # pack it now, so that a later interruption loses nothing
            try:
                written[name] = pack(name, own[name], work, output)
            except SdlabError as error:
                refused[name] = str(error)

    def on_done(cell: Cell, reason: str) -> None:
        print(f"{cell.name}: {'failed' if reason else 'done'}", flush=True)
        if not reason:
            finish(*place[cell.name])

    for pair, cell in cells.items():
        with suppress(SdlabError):  # reported when the cell is run
            if is_done(cell):
                finish(*pair)
    failed = run_cells(list(cells.values()), jobs=jobs, on_done=on_done) | refused
    paths_written = [written[name] for name in own if name in written]
    if output is None and written.keys() & groups()[arena_rates.GROUP].keys():
        paths_written.append(arena_rates.write_rates(paths.record_dir() / "runs"))
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise SdlabError(f"{len(failed)} of {len(cells)} runs failed: {reasons}")
    return paths_written


def refuse_blocked(conditions: Iterable[Condition]) -> None:
    """Raise SdlabError when some of the conditions cannot be run yet, with the reasons."""
    reasons = [f"{one.name}: {one.blocked}" for one in conditions if one.blocked]
    if reasons:
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise SdlabError(f"{len(reasons)} conditions cannot be run yet: {'; '.join(reasons[:3])}{more}")


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
