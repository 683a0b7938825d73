"""Grade labs: points per cell of one submission, and a table and a csv file for a class."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sdlab.errors import SdlabError
from sdlab.files import files_below
from sdlab.labs.build import read_source
from sdlab.labs.cells import marking, read_notebook
from sdlab.labs.grades import Graded, write_csv
from sdlab.labs.matching import match, whole_notebook
from sdlab.labs.sandbox.launch import notes
from sdlab.labs.sandbox.session import Limits
from sdlab.labs.sandbox.steps import run_steps
from sdlab.labs.sandbox.switched_off import SwitchedOff
from sdlab.presets import preset as check_preset


def grade_submission(
    submission: Path,
    source: Path,
    *,
    timeout: float = Limits.timeout,
    cell_timeout: float = Limits.cell_timeout,
    memory_mb: int = Limits.memory_mb,
    output_mb: float = Limits.output_mb,
    preset: str | None = None,
) -> Graded:
    """Run what the student wrote in the notebook `submission` in a separate process and count its points.

    `source` is the solution notebook. With a `preset` the whole notebook is run at this preset as well, in a
    process of its own, and the errors of its cells are in `errors`; it earns no points. `timeout`
    and `cell_timeout` are seconds for all cells and for each
    cell. `memory_mb` limits each of its processes and all together; `output_mb` limits what it prints.
    All problems of the submission are in `problems` of the result.

    Raises SdlabError only for a bad source, bad limits or preset, or a process that does not start.
    """
    if preset is not None:
        check_preset(preset)
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
    outcome = run_steps(plan.steps, plan.imports, [submission.parent, source.parent], limits, plan.rules)
    earned, errors = dict(none), {identity: "deleted" for identity in plan.missing}
    for index, step in enumerate(plan.steps):
        if step.kind == "test" and index in outcome.passed:
            earned[step.name] = most[step.name]
        elif index in outcome.errors:
            errors[step.name] = outcome.errors[index]
    problems, peak_mb = list(outcome.problems), outcome.peak_mb
    if earned == most or preset:  # a cell that needs what is switched off says why points are missing
        tests = set(most)
        errors = {
            name: line
            for name, line in errors.items()
            if name in tests or not line.startswith(SwitchedOff.__name__)
        }
    if preset:
        steps = whole_notebook(notebook, original, preset)
        outcome = run_steps(steps, (), [submission.parent, source.parent], limits)
        errors |= {f"{steps[index].name}, at {preset}": line for index, line in outcome.errors.items()}
        problems += [f"at {preset}: {line}" for line in outcome.problems]
        peak_mb = max(peak_mb, outcome.peak_mb)
    return Graded(
        submission,
        source.stem,
        earned,
        most,
        manual,
        errors,
        tuple(dict.fromkeys((*plan.problems, *problems))),
        time.perf_counter() - started,
        peak_mb,
        outcome.closed_off,
    )


def grade_class(
    submissions: Path | Iterable[Path],
    source: Path | Callable[[Path], Path],
    output_csv: Path | None = None,
    *,
    progress: Callable[[Graded], None] | None = None,
    preset: str | None = None,
    **limits: Any,
) -> list[Graded]:
    """Grade every submission and write a row for each to `output_csv`.

    `submissions` are files, or folders of .ipynb files. `source` is the solution notebook, or a function that
    finds it. A submission that cannot be graded never stops the others. `preset` and
    `limits`: those of `grade_submission`.

    Raises SdlabError when there is no submission, a name is missing, the limits or the preset are bad, or
    `output_csv` cannot be written.
    """
    paths = files_in([submissions] if isinstance(submissions, (str, Path)) else list(submissions))
    Limits(**limits)
    if preset is not None:
        check_preset(preset)
    if output_csv is not None:
        try:
            Path(output_csv).parent.mkdir(parents=True, exist_ok=True)
            Path(output_csv).open("a").close()  # before an hour of grading, not after
        except OSError as error:
            raise SdlabError(f"could not write {output_csv}: {error.strerror}") from error
    results = []
    for path in paths:
        try:
            solution = source(path) if callable(source) else source
            graded = grade_submission(path, solution, preset=preset, **limits)
        except SdlabError as error:
            graded = Graded(path, problems=(str(error),))
        except Exception as error:  # a strange notebook must not stop the others
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
            write_csv(
                results, Path(output_csv)
            )  # after each, so an interrupted command keeps the rows so far
    return results


def sandbox_notes(results: list[Graded]) -> list[str]:
    """Return lines on the protections that the sandbox lacked on this machine."""
    return notes(graded.closed_off for graded in results if graded.peak_memory_mb)  # those that ran


def files_in(paths: list[Path]) -> list[Path]:
    """Return the files among `paths` and the notebooks in the folders among them, in order.

    Hidden files and folders are left out, such as JupyterLab's checkpoints.

    Raises SdlabError for a name that does not exist, for a folder that cannot be read, or when there is no
    file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += [file for file in files_below(path) if file.suffix == ".ipynb"]
        elif path.exists():
            files.append(path)
        else:
            raise SdlabError(f"no submission {path}; name .ipynb files or folders of them")
    if not files:
        raise SdlabError(
            f"no .ipynb files in {', '.join(map(str, paths))}; name .ipynb files or folders of them"
        )
    return list(dict.fromkeys(files))
