"""What became of the doubt? Probe and change trained models over training seeds, and record the tables.

`sdlab reproduce mechanism` makes data/mechanism: for every organism the tables `probes`, `readouts` and
`interventions`, and their origin. The trained models are those of the recorded conditions; run folders in
`work` that are finished are used, the others are run first. A model that was measured is not measured again,
so an interrupted call resumes.
"""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError, first_line
from sdlab.files import sha256, to_json, write_atomic
from sdlab.runs.cell import Cell
from sdlab.runs.cells import run_cells
from sdlab.runs.loading import load_run
from sdlab.runs.plan import Plan
from sdlab.runs.processes import usable_cores
from sdlab.study.mechanism_pack import UNIT, pack
from sdlab.study.mechanism_unit import BASE, Sizes, measure_model
from sdlab.study.organism_conditions import ORGANISMS
from sdlab.study.organisms import SAME_RECIPE, name_on
from sdlab.study.reproduction import cell_of, check_seeds

GROUP = "mechanism"  # its name for `sdlab reproduce`
SEEDS = (0, 1, 2, 3, 4)
TRAINED = ("sdpo", "sdpo_no_think", "grpo")
SMALL = Sizes(probe_problems=60, ladder_problems=4, num_generations=2, doses=(0.5,), max_completion_length=64)


@dataclass(frozen=True)
class Unit:
    """One model to measure: a trained one with its seed, or the organism itself (seed None)."""

    organism: str
    condition: str
    seed: int | None
    folder: Path
    model: str

    @property
    def name(self) -> str:
        """Return the name for reports."""
        return f"{self.organism}, {self.condition}" + ("" if self.seed is None else f" seed {self.seed}")


def present_organisms() -> tuple[list[str], list[str]]:
    """Return the organisms of SAME_RECIPE that are in the data, and those that are not."""
    there = [name for name in SAME_RECIPE if (paths.data_dir() / name / "model.safetensors").is_file()]
    return there, [name for name in SAME_RECIPE if name not in there]


def reproduce_mechanism(
    seeds: Sequence[int] | None = None,
    *,
    organisms: Sequence[str] | None = None,
    work: Path = Path("runs/reproduce"),
    output: Path | None = None,
    jobs: int | None = None,
    quick: bool = False,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Measure the trained models of every organism, and write the tables to `output`.

    seeds: training seeds (None: SEEDS). organisms: None takes those of SAME_RECIPE that are present, and
    reports the others. work: the folder of the runs, as in `sdlab.study.reproduction.reproduce`. output:
    data/mechanism by default. jobs: processes at once, one thread each (default: one per core). quick: three
    training steps and few problems, to try the command; it needs its own `output`.

    Returns the paths of the origins, one per organism. An organism is packed as soon as its last model is
    measured; an organism whose runs fail does not stop the others.

    Raises SdlabError when no organism is present, for quick without an output, and with the reasons of all
    failures after everything else is done.
    """
    if quick and output is None:
        raise SdlabError(
            "a quick mechanism would take the place of the shipped tables; give it a folder with --output"
        )
    output = paths.record_dir() / GROUP if output is None else Path(output)
    chosen, absent = present_organisms() if organisms is None else (list(organisms), [])
    for name in absent:
        report(f"{name}: not in {paths.data_dir()}, left out; `sdlab pretrain` makes it")
    if not chosen:
        raise SdlabError(f"no organism is in {paths.data_dir()}; make one with `sdlab pretrain`")
    check_seeds(seeds)
    numbers, sizes = tuple(seeds or SEEDS), SMALL if quick else Sizes()
    work, written, reasons = Path(work) / GROUP if quick else Path(work), [], {}
    for organism in chosen:
        try:
            units = _units(organism, numbers, work, jobs, quick, report)
            _measure(units, sizes, jobs, report)
            written.append(pack(organism, units, sizes, output, f"sdlab reproduce {GROUP}"))
        except SdlabError as error:
            reasons[organism] = str(error)
            report(f"{organism}: failed ({first_line(error)})")
    if reasons:
        raise SdlabError("; ".join(f"{organism}: {reason}" for organism, reason in reasons.items()))
    return written


def training_cell(name: str, organism: str, seed: int, work: Path, quick: bool = False) -> Cell:
    """Return the run of a condition on an organism: the recorded one, or three small steps if `quick`."""
    known = organism in (paths.ORGANISM, *ORGANISMS)
    cell = cell_of(name_on(name, organism) if known else name, seed, work if known else work / organism)
    cell = cell if known else replace(cell, model=organism)
    if not quick:
        return cell
    sizes = {"steps": 3, "warmup_steps": 1, "num_problems": 2, "num_generations": 4}
    config = replace(cell.config, **sizes, max_completion_length=SMALL.max_completion_length)
    plan = Plan(eval_every=0, final_problems=2, num_eval_generations=1)
    return replace(cell, config=config, plan=plan)


def _units(organism, seeds, work: Path, jobs, quick: bool, report) -> list[Unit]:
    """Train what is not trained yet, and return what is to be measured, the organism itself first."""
    cells = {
        (name, seed): training_cell(name, organism, seed, work, quick) for seed in seeds for name in TRAINED
    }

    def on_done(cell: Cell, reason: str) -> None:
        report(f"{organism}, {cell.name}: {reason or 'trained'}")

    failed = run_cells(list(cells.values()), jobs=jobs, on_done=on_done)
    if failed:
        raise SdlabError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    place = work / UNIT / organism
    units = [Unit(organism, BASE, None, place / BASE, organism)]
    return units + [
        Unit(organism, name, seed, place / f"{name}-{seed}", load_run(cell.folder).model)
        for (name, seed), cell in cells.items()
    ]


def _identity(unit: Unit, sizes: Sizes) -> dict:
    """Return what a measured model must equal, so that it is not measured again."""
    weights = [Path(unit.model) if unit.seed is not None else paths.data_dir() / unit.organism]
    weights.append(paths.data_dir() / unit.organism)
    sums = [sha256(folder / "model.safetensors") for folder in weights]
    return json.loads(json.dumps({"sizes": asdict(sizes), "weights": sums}))


def _measure(units: Sequence[Unit], sizes: Sizes, jobs: int | None, report) -> None:
    waiting = []
    for unit in units:
        identity = _identity(unit, sizes)
        with suppress(OSError, ValueError):
            if json.loads((unit.folder / "unit.json").read_text()) == identity:
                continue
        waiting.append((unit, identity))
    if not waiting:
        return
    workers = min(jobs or usable_cores(), len(waiting))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        tasks = {
            pool.submit(partial(_measure_one, unit, sizes, identity)): unit for unit, identity in waiting
        }
        try:
            for task in as_completed(tasks):
                report(f"{tasks[task].name}: measured in {task.result():.0f} s")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _measure_one(unit: Unit, sizes: Sizes, identity: dict) -> float:
    """Measure a model and write its files; unit.json comes last. Return the seconds."""
    import time

    began = time.perf_counter()
    files = measure_model(unit.organism, unit.condition, unit.model, sizes, unit.seed)
    for name, content in files.items():
        write_atomic(unit.folder / name, content)
    write_atomic(unit.folder / "unit.json", to_json(identity) + "\n")
    return time.perf_counter() - began
