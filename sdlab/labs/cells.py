"""Read lab notebooks, and nbgrader's metadata of their cells."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from nbformat import NotebookNode

LARGEST = 50_000_000  # bytes of a notebook; with figures in it a lab has two or three million


def read_notebook(path: Path) -> NotebookNode:
    """Read the notebook at `path` in format 4.

    Raises SdlabError when it is missing, damaged, too large or not a notebook.
    """
    import nbformat

    try:
        if path.stat().st_size > LARGEST:
            raise SdlabError(
                f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} MB are "
                f"read; clear its outputs"
            )
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SdlabError(f"could not read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise SdlabError(f"{path.name} is not a notebook: its JSON is nested too deeply") from error
    except ValueError as error:  # not UTF-8, or not JSON
        if isinstance(error, SdlabError):
            raise
        what = "not a notebook" if path.suffix != ".ipynb" else "damaged: not valid JSON"
        raise SdlabError(
            f"{path.name} is {what} ({str(error).splitlines()[0][:80]}); save it again in JupyterLab"
        ) from error
    if not isinstance(raw, dict) or not ({"cells", "worksheets"} & set(raw)):
        raise SdlabError(
            f"{path.name} is not a notebook: it has no cells; hand in the .ipynb file that JupyterLab saves"
        )
    try:
        notebook = nbformat.from_dict(raw)
        if raw.get("nbformat", 4) < 4:
            notebook = nbformat.convert(notebook, 4)
        assert isinstance(notebook, nbformat.NotebookNode)  # as of every dict
        if not isinstance(notebook.setdefault("metadata", nbformat.NotebookNode()), dict):
            raise TypeError("metadata that are not a table")
        for cell in notebook.cells:
            cell.source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
            if not isinstance(cell.cell_type, str) or not isinstance(
                cell.setdefault("metadata", nbformat.NotebookNode()), dict
            ):
                raise TypeError("a cell without a type")
    except Exception as error:  # nbformat's converters raise errors of any kind
        raise SdlabError(
            f"{path.name} is a damaged notebook ({type(error).__name__}: {str(error)[:80]}); save it again "
            f"in JupyterLab"
        ) from error
    return notebook


@dataclass(frozen=True)
class Marking:
    """nbgrader's metadata of one cell (schema_version 3)."""

    grade_id: str
    grade: bool  # worth points
    solution: bool  # written by the student
    locked: bool
    points: float

    @property
    def by_hand(self) -> bool:
        """Whether a person grades the cell."""
        return self.grade and self.solution

    @property
    def test(self) -> bool:
        """Whether the cell is graded by running it."""
        return self.grade and not self.solution


def marking(cell: NotebookNode) -> Marking | None:
    """Return nbgrader's metadata of `cell`; None for a cell without it."""
    raw = cell.metadata.get("nbgrader")
    if not isinstance(raw, dict) or not isinstance(raw.get("grade_id"), str):
        return None
    points = raw.get("points", 0)
    points = float(points) if isinstance(points, (int, float)) else 0.0
    task = bool(raw.get("task"))
    return Marking(
        raw["grade_id"],
        bool(raw.get("grade")) or task,
        bool(raw.get("solution")) or task,
        bool(raw.get("locked")),
        points,
    )


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Return whether `cell` has the tag `tag`."""
    tags = cell.metadata.get("tags", [])
    return isinstance(tags, list) and tag in tags


def assigned(code: str) -> dict[str, ast.expr | None]:
    """Return the names that `code` binds at its top level, each with its assigned expression or None."""
    names: dict[str, ast.expr | None] = {}
    for node in parsed(code):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names.update({name.id: node.value for name in ast.walk(target) if isinstance(name, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node.value
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] = None
    return names


def imports(code: str) -> list[str]:
    """Return the import statements at the top level of `code`, as text."""
    return [ast.unparse(node) for node in parsed(code) if isinstance(node, (ast.Import, ast.ImportFrom))]


def definitions(code: str) -> list[ast.stmt]:
    """Return the imports, functions, classes and constants at the top level of `code`."""
    return [part for part in parsed(code) if _defines(part)]


def _defines(part: ast.stmt) -> bool:
    if isinstance(part, (ast.Assign, ast.AnnAssign)) and part.value is not None:
        try:
            ast.literal_eval(part.value)
            return True
        except ValueError:
            return False
    return isinstance(part, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def parsed(code: str) -> list[ast.stmt]:
    """Return the statements of a code cell, without magics; [] when it is not Python."""
    lines = [
        "pass" if line.lstrip()[:1] in ("%", "!") and not line[:1].isspace() else line
        for line in code.split("\n")
    ]
    try:
        return ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
