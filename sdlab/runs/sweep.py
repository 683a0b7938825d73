"""Sweeps: a grid of training runs over method, number of questions, seed or any setting.

    grid.json           the model and every setting's values: the identity of the sweep
    table.csv           one row per cell and split of its last evaluation
    grpo_num_questions=8_seed=0/ ...    one run folder per cell (sdlab.runs.folder)

An interrupted sweep resumes cell by cell, and inside a cell step by step. Values can be added later; finished
cells stay.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas
from filelock import FileLock

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.provenance import provenance
from sdlab.runs.cell import OUTCOME, Cell, is_done
from sdlab.runs.cells import run_cells
from sdlab.runs.files import lock_folder
from sdlab.runs.grid import Grid, Point, cell_name, settings_of, to_text
from sdlab.runs.loading import load_run
from sdlab.runs.plan import plan_problems
from sdlab.runs.questions import check_questions
from sdlab.runs.training import LAST_STEPS, SUMS
from sdlab.settings import Count, Positive, checked


@checked
def sweep(
    grid: Grid | Mapping,
    folder: str | Path,
    model: str = "organism",
    *,
    jobs: Count | None = None,
    ray: str | None = None,
    timeout: Positive | None = None,
) -> pandas.DataFrame:
    """Run the cells of `grid` that are not finished in `folder`, and return the table of all cells.

    The table is also written as table.csv. jobs, ray, timeout: see `sdlab.runs.cells.run_cells`. A line is
    printed as each cell ends. A failed cell does not stop the others; it has a row with status "failed" and
    the reason.

    The columns: cell, status (done, failed, unfinished), error, the grid's settings (empty where the method
    has no such setting, "all" for None; split is called train_split), split (evaluated on), generations, the
    means of reward, length (tokens), markers and truncated over the completions of the last evaluation,
    train_reward (mean of the last five steps), seconds and peak_memory_mb (of the process that finished the
    cell).

    Raises SdlabError, before anything runs, for bad values, a folder that is in use or belongs to another
    sweep, and a Ray cluster that does not answer.
    """
    grid = grid if isinstance(grid, Grid) else Grid(grid)
    folder, points = Path(folder).resolve(), grid.points()
    if not paths.shipped(model) and paths.given(model).is_dir():
        model = str(paths.given(model).resolve())  # tasks on a cluster have another working directory
    for point in points:
        plan = point.plan
        if plan.problems is not None:
            plan_problems(plan, point.config.seed)  # raises before anything runs
            continue
        check_questions(plan.split, plan.num_questions, plan.num_types, point.config.seed, plan.candidates)
    _refuse_foreign(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock_folder(folder, lock)
        fixed = _claim(folder, grid, model)
        named = {
            name: Cell(name, folder / name, point.method, point.config, point.plan, model)
            for point in points
            for name in [cell_name(point, fixed)]
        }
        board = _Board(folder, dict(zip(named, points, strict=True)), named)
        try:
            longest_first = sorted(named.values(), key=_work, reverse=True)
            run_cells(longest_first, jobs=jobs, ray=ray, timeout=timeout, on_done=board.tell)
        finally:
            table = board.write()
    finally:
        lock.release()
    return table


def _json(value):
    return json.loads(json.dumps(value))


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and not (folder / "grid.json").exists():
        foreign = sorted(
            path.name
            for path in folder.iterdir()
            if not path.name.startswith(".")
            and path.name != "table.csv"
            and not (path / "config.json").exists()
        )
        if foreign or (folder / "config.json").exists():
            raise SdlabError(
                f"{folder} holds files but no sweep "
                f"({', '.join(foreign[:3])}{' ...' if foreign[3:] else ''}); "
                "choose another folder"
            )


def _claim(folder: Path, grid: Grid, model: str) -> dict:
    """Write grid.json, or add this grid to the one in the folder, and return the fixed settings.

    They are returned with their values, and folder names leave them out. A setting that had one value when it
    was first used is fixed: more values may be added, but that one stays. Seeds and methods are never fixed.
    """
    path, axes = folder / "grid.json", _json({name: list(values) for name, values in grid.axes.items()})
    about: dict[str, Any] = {
        "model": model,
        "model_sha256": provenance(model=model)["model_sha256"],
        "fixed": {},
        "axes": {},
    }
    if path.exists():
        there = _read_json(path)
        differ = _differences(there, about, axes)
        if differ:
            raise SdlabError(f"{folder} holds another sweep: {'; '.join(differ[:4])}; choose another folder")
        about = there
    for name, values in axes.items():
        if name not in about["axes"] and len(values) == 1 and name not in ("method", "seed"):
            about["fixed"][name] = values[0]
        before = about["axes"].get(name, [])
        about["axes"][name] = before + [value for value in values if value not in before]
    write_atomic(path, to_json(about, indent=1) + "\n")
    return about["fixed"]


def _read_json(path: Path) -> dict:
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
        about["model"], about["model_sha256"], about["axes"]["method"], about["fixed"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SdlabError(
            f"{path} is damaged; delete it and run the same sweep again (finished cells stay), "
            "or choose another folder"
        ) from error
    return about


def _differences(there: dict, about: dict, axes: dict) -> list[str]:
    """Return why a grid with `axes` cannot be added to the sweep `there`, or [].

    It cannot when cells of the two would mean different runs under the same name.
    """
    if there["model"] != about["model"]:
        return [f"model is {there['model']!r} there and {about['model']!r} here"]
    differ = (
        ["the model's files have changed since"] if there["model_sha256"] != about["model_sha256"] else []
    )
    for name in {**there["axes"], **axes}:
        one, two = there["axes"].get(name), axes.get(name)
        others = (there["axes"] if one is None else axes)["method"]  # of the side without this setting
        if one is None or two is None:
            missing = any(name in settings_of(method) for method in others)
        else:
            missing = name in there["fixed"] and there["fixed"][name] not in two
        if missing:
            differ.append(f"{name} is {_listed(one)} there and {_listed(two)} here")
    return differ


def _listed(values: Sequence | None) -> str:
    return "not set" if values is None else ", ".join(map(to_text, values))


def _work(cell: Cell) -> float:
    """Return a cell's approximate work: completions sampled; those in the loss count three times."""
    config, plan = cell.config, cell.plan
    steps = 0 if cell.method == "base" else config.steps
    along = (
        (1 + steps // plan.eval_every) * plan.eval_problems * len(plan.evaluated(final=False))
        if plan.eval_every
        else 0
    )
    return 3 * steps * config.num_problems * config.num_generations + plan.num_eval_generations * (
        along + plan.final_problems * len(plan.evaluated(final=True))
    )


class _Board:
    """The progress lines of a sweep, and its table."""

    def __init__(self, folder: Path, points: dict[str, Point], cells: dict[str, Cell]) -> None:
        self.folder, self.points, self.cells, self.failed, self.rows = folder, points, cells, {}, {}
        self.began = time.monotonic()
        for name in cells:
            self._read(name)
        self.left = {name: _work(cells[name]) for name in cells if name not in self.rows}
        self.work = sum(self.left.values())
        print(
            f"{len(cells)} cells in {folder}, {len(cells) - len(self.left)} of them finished before",
            flush=True,
        )

    def tell(self, cell: Cell, reason: str) -> None:
        """Print the line of a cell that has ended, and put its rows in the table."""
        self.left.pop(cell.name)
        if reason:
            self.failed[cell.name] = reason
        else:
            self.failed.pop(cell.name, None)
            self._read(cell.name)
        spent, left = time.monotonic() - self.began, sum(self.left.values())
        more = f", about {_clock(spent * left / max(1, self.work - left))} left" if left else ""
        place = f"[{len(self.cells) - len(self.left)}/{len(self.cells)}]"
        outcome = f"failed: {reason}" if reason else "done"
        print(f"{place} {cell.name}: {outcome} ({_clock(spent)}{more})", flush=True)
        self.write()

    def write(self) -> pandas.DataFrame:
        """Write table.csv and return it as read from the file."""
        rows = []
        for name, point in self.points.items():
            status = "done" if name in self.rows else "failed" if name in self.failed else "unfinished"
            start = {"cell": name, "status": status, "error": self.failed.get(name)}
            start |= {
                _column(setting): to_text(value) if value is None or isinstance(value, tuple) else value
                for setting, value in point.settings.items()
            }
            rows += [start | row for row in self.rows.get(name, [{}])]
        settings = list(
            dict.fromkeys(_column(name) for point in self.points.values() for name in point.settings)
        )
        results = ["split", "generations", *SUMS, "train_reward", "seconds", "peak_memory_mb"]
        frame = pandas.DataFrame(rows, columns=["cell", "status", "error", *settings, *results], dtype=object)
        path = write_atomic(self.folder / "table.csv", frame.to_csv(index=False))
        return pandas.read_csv(path)  # the same as a reader of the file gets

    def _read(self, name: str) -> None:
        try:
            if is_done(self.cells[name]):
                self.rows[name] = _results(self.cells[name])
        except SdlabError as error:
            self.failed[name] = str(error)


def _column(setting: str) -> str:
    """Return the table's column of a setting; "split" is the split that a row was evaluated on."""
    return "train_split" if setting == "split" else setting


def _results(cell: Cell) -> list[dict]:
    """Return a finished cell's rows: one per split of its last evaluation."""
    run, outcome = load_run(cell.folder), {}
    with suppress(OSError, ValueError):  # missing after a kill between the run's end and this file
        outcome = json.loads((cell.folder / OUTCOME).read_text())
    if run.evaluations is None:
        raise SdlabError(f"{cell.folder} has no evaluation; delete the folder and run the same sweep again")
    last = run.evaluations[run.evaluations["step"] == run.evaluations["step"].max()]
    after = {
        "train_reward": None if run.steps.empty else run.steps["reward"].tail(LAST_STEPS).mean(),
        **outcome,
    }
    rows = []
    for split in cell.plan.evaluated(final=True):
        sums = last.loc[last["split"] == split, [*SUMS, "generations"]].sum()
        rows.append(
            {
                "split": split,
                "generations": int(sums["generations"]),
                **{name: sums[name] / sums["generations"] for name in SUMS},
                **after,
            }
        )
    return rows


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
    )
