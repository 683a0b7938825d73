"""`sdlab labs build` and `sdlab labs grade`: student versions of the labs, and points of submissions."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.labs.grading import Limits

if TYPE_CHECKING:
    from sdlab.labs.grades import Graded

SOURCE = paths.notebooks_dir() / "labs" / "source"
OUTPUT = SOURCE.parent if paths.checkout() else Path("labs")  # never inside an installed package


def build(output: Path = OUTPUT, source: Path = SOURCE) -> int:
    """Write the student versions of the labs: without solutions, without hidden tests.

    Args:
        output: Folder for the student versions.
        source: Folder of the solution notebooks.
    """
    from sdlab.labs.build import build_labs

    for path in build_labs(source, output):
        print(f"wrote {path}")
    return 0


def grade(
    submissions: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SUBMISSION...")],
    csv: Path | None = None,
    timeout: float = Limits.timeout,
    cell_timeout: float = Limits.cell_timeout,
    memory: int = Limits.memory_mb,
    preset: str | None = None,
    source: Path = SOURCE,
) -> int:
    """Run submissions in separate processes and print the points per cell; for several, a table.

    The exit status is 0 when all were graded, and 1 when a person should look at a submission.

    Args:
        submissions: Notebooks, or folders of them.
        csv: Also write one row per submission to this file.
        timeout: Seconds for a submission.
        cell_timeout: Seconds for each cell.
        memory: MB that a submission may use.
        preset: Also run the whole notebook at this preset (smoke, quick or full), and report the cells that
            fail. Without it only what the student wrote is run. The points do not depend on it.
        source: Folder of the solution notebooks, or one of them.
    """
    from rich.console import Console

    from sdlab.labs.grades import notes, table
    from sdlab.labs.grading import grade_class, sandbox_notes

    if not submissions:
        raise SdlabError("no submission given; name .ipynb files or folders of them")
    if not source.exists():
        raise SdlabError(f"no solutions in {source}; name their folder with --source")

    def find(path: Path) -> Path:
        return source if source.is_file() else find_source(path, source)

    def progress(graded: "Graded") -> None:
        print(
            f"{graded.submission.name}: {graded.total:g} of {graded.max_total:g} in {graded.seconds:.0f} s",
            file=sys.stderr,
        )

    results = grade_class(
        submissions,
        find,
        csv,
        progress=progress,
        timeout=timeout,
        cell_timeout=cell_timeout,
        memory_mb=memory,
        preset=preset,
    )
    if len(results) == 1:
        _print_one(results[0])
    else:
        console = Console()
        console.print(table(results))
        print("\n".join(notes(results, console.width)))
    if csv is not None:
        print(f"wrote {csv}")
    for line in sandbox_notes(results):
        print(line, file=sys.stderr)
    return 1 if any(graded.problems for graded in results) else 0


def find_source(submission: Path, folder: Path) -> Path:
    """Return the solution of the lab that `submission` belongs to.

    The lab is named by the notebook's metadata, else by the path of the submission.

    Raises SdlabError when there is none.
    """
    from sdlab.labs.cells import read_notebook

    names = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not names:
        raise SdlabError(f"no solutions in {folder}; name their folder with --source")
    problem = None
    try:
        about = read_notebook(submission).metadata.get("sdlab")
        if isinstance(about, dict) and about.get("lab") in names:
            return names[about["lab"]]
    except SdlabError as error:
        problem = error  # the name may still say which lab; its points count as 0 there
    for part in (submission.stem, submission.parent.name):
        for name, path in names.items():
            if name in part:
                return path
        for name, path in names.items():
            if part.startswith(name.split("_")[0] + "_") or part == name.split("_")[0]:
                return path
    raise problem or SdlabError(
        f"{submission.name}: of which lab? Its metadata does not say; put one of these into its name: "
        f"{', '.join(names)}"
    )


def _print_one(graded: "Graded") -> None:
    """Print the points of one submission, cell by cell."""
    for identity, most in graded.max_points.items():
        why = graded.errors.get(identity, "")
        print(f"{identity}: {graded.points[identity]:g} of {most:g}{'   ' + why if why else ''}")
    for identity, most in graded.manual.items():
        print(f"{identity}: up to {most:g}, graded by hand")
    for name, line in graded.errors.items():
        if name not in graded.max_points:
            print(f"{name}: {line}")
    for line in graded.problems:
        print(f"note: {line}")
    print(
        f"{graded.total:g} of {graded.max_total:g} points; {graded.seconds:.0f} s, "
        f"{graded.peak_memory_mb:.0f} MB"
    )


LABS = {"build": build, "grade": grade}
