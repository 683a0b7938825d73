"""Grades labs: points per cell of one submission, and a table and a csv for a class."""

import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.labs.build import read_source
from sdlab.labs.cells import marking, read_notebook
from sdlab.labs.matching import match
from sdlab.labs.process import Limits, run_steps


@dataclass(frozen=True)
class Graded:
    """What a submission earned. A test cell earns all of its points or none; cells graded by hand wait in `manual`."""

    submission: Path
    lab: str = ""
    points: dict[str, float] = field(default_factory=dict)  # by grade_id of the test cell
    max_points: dict[str, float] = field(default_factory=dict)
    manual: dict[str, float] = field(default_factory=dict)  # grade_id: points that a person gives
    errors: dict[str, str] = field(
        default_factory=dict
    )  # grade_id or "cell 7": what went wrong there, in one line
    problems: tuple[str, ...] = ()  # what the person who grades should know, a line each
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    walls: tuple[str, ...] = ()  # what this machine let us close off: files, network, processes, signals, tcp

    @property
    def total(self) -> float:
        return sum(self.points.values())

    @property
    def max_total(self) -> float:
        return sum(self.max_points.values())


def grade_submission(
    submission: Path,
    source: Path,
    *,
    timeout: float = 600.0,
    cell_timeout: float = 180.0,
    memory_mb: int = 3000,
    output_mb: float = 20.0,
) -> Graded:
    """Run the notebook `submission` in a separate process and count its points against the solution notebook `source`.

    `timeout` and `cell_timeout` are seconds for all and for each cell, `memory_mb` holds for each of its processes and for all
    together, `output_mb` for what it prints. Whatever is wrong with the submission is told in `problems`; SdlabError is raised
    only for a bad source, bad limits, or a process that does not start.
    """
    limits = Limits(timeout, cell_timeout, memory_mb, output_mb)
    submission, source, started = Path(submission), Path(source), time.perf_counter()
    original = read_source(source)
    marks = [mark for cell in original.cells if (mark := marking(cell))]
    most = {mark.grade_id: mark.points for mark in marks if mark.test}
    manual = {mark.grade_id: mark.points for mark in marks if mark.by_hand}
    none = dict.fromkeys(most, 0.0)
    try:
        notebook = read_notebook(submission)
    except SdlabError as error:
        return Graded(
            submission,
            source.stem,
            none,
            most,
            manual,
            problems=(str(error),),
            seconds=time.perf_counter() - started,
        )
    plan = match(notebook, original)
    if not plan.runnable:
        return Graded(
            submission,
            source.stem,
            none,
            most,
            manual,
            problems=plan.problems,
            seconds=time.perf_counter() - started,
        )
    outcome = run_steps(plan.steps, plan.imports, [submission.parent, source.parent], limits)
    earned, errors = dict(none), {identity: "deleted" for identity in plan.missing}
    for index, step in enumerate(plan.steps):
        if step.kind == "test" and index in outcome.passed:
            earned[step.name] = most[step.name]
        elif index in outcome.errors:
            errors[step.name] = outcome.errors[index]
    problems = tuple(dict.fromkeys((*plan.problems, *outcome.problems)))
    return Graded(
        submission,
        source.stem,
        earned,
        most,
        manual,
        errors,
        problems,
        time.perf_counter() - started,
        outcome.peak_mb,
        outcome.walls,
    )


def grade_class(
    submissions: Path | Iterable[Path],
    source: Path | Callable[[Path], Path],
    output_csv: Path | None = None,
    *,
    progress: Callable[[Graded], None] | None = None,
    **limits,
) -> list[Graded]:
    """Grade every submission (files, or folders whose .ipynb files are meant) and write a row for each to `output_csv`.

    `source` is the solution notebook, or a function that finds it. A submission that cannot be graded never stops the others.
    Raises SdlabError when there is no submission, a name is missing, the limits are bad or `output_csv` cannot be written.
    """
    paths = found([submissions] if isinstance(submissions, (str, Path)) else list(submissions))
    Limits(**limits)
    if output_csv is not None:
        try:
            Path(output_csv).parent.mkdir(parents=True, exist_ok=True)
            Path(output_csv).open("a").close()  # before an hour of grading, not after
        except OSError as error:
            raise SdlabError(f"could not write {output_csv}: {error.strerror}") from error
    results = []
    for path in paths:
        try:
            graded = grade_submission(path, source(path) if callable(source) else source, **limits)
        except SdlabError as error:
            graded = Graded(path, problems=(str(error),))
        except (
            Exception
        ) as error:  # whatever a notebook can do to a reader of notebooks: the others still get their turn
            graded = Graded(
                path,
                problems=(
                    f"could not be graded: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
                ),
            )
        results.append(graded)
        if progress:
            progress(graded)
        if output_csv is not None:
            write_csv(results, Path(output_csv))  # as far as it goes: a stopped class keeps its rows
    return results


def found(paths: list[Path]) -> list[Path]:
    """The files among `paths`, and the notebooks in the folders among them, in order; no autosaved copies.

    Raises SdlabError for a name that is not there or when there is nothing.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(file for file in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts)
        elif path.exists():
            files.append(path)
        else:
            raise SdlabError(f"no submission {path}; name .ipynb files or folders of them")
    if not files:
        raise SdlabError(
            f"no .ipynb files in {', '.join(map(str, paths))}; name .ipynb files or folders of them"
        )
    return list(dict.fromkeys(files))


def write_csv(results: list[Graded], path: Path) -> None:
    """One row a submission: its points in all and per cell (empty where the cell is another lab's), and what was noticed."""
    cells = list(
        dict.fromkeys((graded.lab, identity) for graded in results for identity in graded.max_points)
    )
    several = len({lab for lab, _ in cells}) > 1
    titles = [f"{lab}: {identity}" if several else identity for lab, identity in cells]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "submission",
                "lab",
                "total",
                "of",
                "by_hand",
                *titles,
                "problems",
                "errors",
                "seconds",
                "peak_memory_mb",
            ]
        )
        for graded in results:
            points = [f"{graded.points[identity]:g}" if graded.lab == lab else "" for lab, identity in cells]
            errors = "; ".join(f"{name}: {line}" for name, line in graded.errors.items())
            row = [
                str(graded.submission),
                graded.lab,
                f"{graded.total:g}",
                f"{graded.max_total:g}",
                f"{sum(graded.manual.values()):g}",
                *points,
            ]
            writer.writerow(
                [
                    _safe(cell)
                    for cell in (
                        *row,
                        "; ".join(graded.problems),
                        errors,
                        f"{graded.seconds:.1f}",
                        f"{graded.peak_memory_mb:.0f}",
                    )
                ]
            )


def table(results: list[Graded]):
    """A rich table of the class."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table("submission", "lab", "points", "by hand", "not earned", "noticed", "seconds", "MB")
    for graded in results:
        lost = ", ".join(name for name, points in graded.points.items() if points == 0)
        points, by_hand = f"{graded.total:g} of {graded.max_total:g}", f"{sum(graded.manual.values()):g}"
        noticed = "\n".join(graded.problems)
        row = (
            graded.submission.name,
            graded.lab,
            points,
            by_hand,
            lost,
            noticed,
            f"{graded.seconds:.0f}",
            f"{graded.peak_memory_mb:.0f}",
        )
        shown.add_row(*(escape(_printable(cell)) for cell in row))
    return shown


def _safe(cell: str) -> str:
    """A spreadsheet runs what begins so; a submission's words must not be run there."""
    cell = _printable(cell)
    return "'" + cell if cell[:1] in "=+-@\t\r" and cell else cell


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
