"""Build the student versions of the labs: remove solutions and hidden tests, and keep everything else.

The rules are nbgrader's (its preprocessors ClearSolutions and ClearHiddenTests with their default settings),
so a course may use either. nbgrader itself is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.labs.cells import marking, read_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode

SOLUTION = ("BEGIN SOLUTION", "END SOLUTION")
HIDDEN = ("BEGIN HIDDEN TESTS", "END HIDDEN TESTS")
CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
TEXT_STUB = "YOUR ANSWER HERE"


def build_labs(source_dir: Path, output_dir: Path) -> list[Path]:
    """Write the student version of every notebook in `source_dir` to `output_dir`; return the files.

    Names stay the same. All sources are checked before the first file is written.

    Raises SdlabError with the notebook and the cell when a source is not correct, and when the folder is
    empty.
    """
    sources = sorted(Path(source_dir).glob("*.ipynb"))
    if not sources:
        raise SdlabError(f"no notebooks in {source_dir}; name the folder of the solutions")
    if Path(source_dir).resolve() == Path(output_dir).resolve():
        raise SdlabError(
            f"the student versions would overwrite the solutions in {source_dir}; name another output folder"
        )
    import nbformat

    versions = {path.name: nbformat.writes(student_version(read_source(path), path.stem)) for path in sources}
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    for name, text in versions.items():
        (Path(output_dir) / name).write_text(text + "\n", encoding="utf-8")
    return [Path(output_dir) / name for name in versions]


def read_source(path: Path) -> NotebookNode:
    """Read the solution notebook at `path` and check it.

    Raises SdlabError for unbalanced or misplaced markers, a grade_id used twice, a graded cell without
    points, and a cell without an id.
    """
    notebook = read_notebook(path)
    numbers: dict[str, int] = {}  # of the cell with this grade_id
    for number, cell in enumerate(notebook.cells, 1):
        mark = marking(cell)
        where = f"{path.name}, cell {number}" + (f" ({mark.grade_id})" if mark else "")
        for markers, is_marked, kind in (
            (SOLUTION, mark and mark.solution, "solution"),
            (HIDDEN, mark and mark.test, "test"),
        ):
            if regions(cell.source, markers, where) and not is_marked:
                raise SdlabError(
                    f"{where}: ### {markers[0]} in a cell that nbgrader's metadata does not mark as a {kind} "
                    f"cell; set it there"
                )
        if "id" not in cell:
            raise SdlabError(f"{where}: no cell id; save the notebook in nbformat 4.5")
        if mark is None:
            continue
        if mark.grade_id in numbers:
            raise SdlabError(
                f"{where}: cell {numbers[mark.grade_id]} has the grade_id {mark.grade_id!r} too; each cell "
                f"needs its own"
            )
        numbers[mark.grade_id] = number
        points = cell.metadata.nbgrader.get("points")
        if mark.grade and (
            isinstance(points, bool) or not isinstance(points, (int, float)) or not points > 0
        ):
            raise SdlabError(f"{where}: a graded cell with points {points!r}; give it a number above 0")
        if mark.test and cell.cell_type != "code":
            raise SdlabError(
                f"{where}: a {cell.cell_type} cell graded by running it; make it a code cell, or solution: "
                f"true to grade it by hand"
            )
    return notebook


def student_version(source: NotebookNode, name: str) -> NotebookNode:
    """Return the student version of the solution notebook `source`.

    Its metadata contain `name` (lab1_...) for grading.
    """
    import copy

    notebook = copy.deepcopy(source)
    notebook.metadata["sdlab"] = {"lab": name}
    for cell in notebook.cells:
        mark = marking(cell)
        if mark and mark.solution and not cell.metadata.nbgrader.get("task"):
            cell.source = without_solution(cell.source, CODE_STUB if cell.cell_type == "code" else TEXT_STUB)
        if mark and mark.test:
            cell.source = without_hidden(cell.source)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            for key in ("execution", "collapsed", "scrolled"):  # JupyterLab's notes about a run
                cell.metadata.pop(key, None)
    notebook.metadata.pop("widgets", None)
    return notebook


def without_solution(code: str, stub: str) -> str:
    """Return `code` with each solution region replaced by `stub` at the region's indentation.

    Where there is no region, `stub` replaces all of it.
    """
    lines, last = [], 0
    source = code.split("\n")
    solutions = regions(code, SOLUTION, "")
    for first, end in solutions:
        indent = source[first][: len(source[first]) - len(source[first].lstrip())]
        lines += source[last:first] + [indent + line for line in stub.split("\n")]
        last = end + 1
    return "\n".join(lines + source[last:]) if solutions else stub


def without_hidden(code: str) -> str:
    """Return `code` without its regions of hidden tests."""
    lines, last = [], 0
    source = code.split("\n")
    for first, end in regions(code, HIDDEN, ""):
        lines += source[last:first]
        last = end + 1
    return "\n".join(lines + source[last:])


def regions(code: str, markers: tuple[str, str], where: str) -> list[tuple[int, int]]:
    """Return (first, last) line of each region between the two `markers`.

    Raises SdlabError when the markers do not pair.
    """
    pairs: list[tuple[int, int]] = []
    opened: int | None = None
    for number, line in enumerate(code.split("\n")):
        begins, ends = markers[0] in line, markers[1] in line
        if (begins and opened is not None) or (ends and opened is None):
            raise SdlabError(
                f"{where}: line {number + 1}: ### {markers[0 if begins else 1]} without its other half; each "
                f"BEGIN needs one END"
            )
        if begins:
            opened = number
        elif ends and opened is not None:
            pairs.append((opened, number))
            opened = None
    if opened is not None:
        raise SdlabError(f"{where}: line {opened + 1}: ### {markers[0]} is never ended; add ### {markers[1]}")
    return pairs
