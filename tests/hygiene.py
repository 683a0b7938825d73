"""What every notebook of this repository keeps to, checked without running it."""

import ast
import json
import re
from pathlib import Path

import nbformat
from nbformat.v4.rwbase import rejoin_lines

from sdlab.walkthrough.clean import clean
from sdlab.walkthrough.failures import failures_in

LONGEST_CELL = 20  # lines of code
LONGEST_LINE = 110  # characters: what JupyterLab shows of a line in a window of 1,200 pixels
PARAMETERS = {"PRESET": "quick", "MODEL": "organism"}
MACHINE_PATH = re.compile(
    r"(?<![\w.])(?:/(?:home|root|tmp|Users|private|mnt)/[\w.-]+|[A-Z]:\\\\Users\\\\\w+)"
)
ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")  # pictures: their base64 may spell anything


def raw(path: str | Path) -> nbformat.NotebookNode:
    """The notebook at `path` as it is stored, only its lists of lines joined."""
    return rejoin_lines(nbformat.from_dict(json.loads(Path(path).read_text(encoding="utf-8"))))


def reading_minutes(notebook: nbformat.NotebookNode) -> float:
    """The minutes to read `notebook`: 150 words of text and 20 lines of code a minute."""
    words = sum(
        len(re.findall(r"\w+", cell.source)) for cell in notebook.cells if cell.cell_type == "markdown"
    )
    lines = sum(len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code")
    return words / 150 + lines / 20


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with `notebook`, one line each; empty when it keeps all conventions.

    Read it with `raw`, because nbformat.read mends what should be told.
    """
    found = []
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):  # asked first: nbformat mends ids silently, with random ones
        return ["cells without an id of their own (nbformat 4.5 or newer, each id once)"]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernelspec is not python3")
    found += _opening(notebook) + _parameters(notebook) + _cells(notebook)
    found += [f"a saved error: {failure}" for failure in failures_in(notebook)]
    if notebook != clean(notebook):
        found.append("outputs or metadata of a run; store it with `sdlab tour --refresh`")
    path = MACHINE_PATH.search(ENCODED.sub("", json.dumps(notebook)))
    if path:
        found.append(f"a path of one machine: {path[0]}")
    return found


def _opening(notebook) -> list[str]:
    """A first cell with a title and the notebook's question as a blockquote."""
    first = notebook.cells[0] if notebook.cells else None
    lines = first.source.splitlines() if first and first.cell_type == "markdown" else []
    if not lines or not lines[0].startswith("# "):
        return ["the first cell is not a title (# ...)"]
    return (
        []
        if any(line.startswith(">") for line in lines)
        else ["the first cell has no question as a blockquote (> ...)"]
    )


def _parameters(notebook) -> list[str]:
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells tagged `parameters` instead of one"]
    try:
        statements = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        return [f"the parameters cell is not Python: {error.msg}"]
    literal = [
        one
        for one in statements
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(one.value, ast.Constant)
    ]
    if len(literal) != len(statements) or len({one.lineno for one in statements}) != len(statements):
        return ["the parameters cell holds more than lines of the form NAME: type = literal"]
    values = {one.target.id: one.value.value for one in literal}
    wrong = {name: values.get(name) for name, wanted in PARAMETERS.items() if values.get(name) != wanted}
    return [f"parameter {name} is {value!r} instead of {PARAMETERS[name]!r}" for name, value in wrong.items()]


def _cells(notebook) -> list[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    for cell in code:
        lines = len(cell.source.strip().splitlines())
        if lines > LONGEST_CELL:
            found.append(
                f"a cell of {lines} lines, more than {LONGEST_CELL}: {cell.source.strip().splitlines()[0]}"
            )
        for number, line in enumerate(cell.source.splitlines(), 1):
            if len(line) > LONGEST_LINE:
                found.append(
                    f"a line of {len(line)} characters, more than {LONGEST_LINE}, line {number} of cell "
                    f"{cell.id}: {line.strip()[:60]}"
                )
    if not code or not re.search(r"(?<![\w.])record\(", code[-1].source):
        found.append("the last code cell does not record what was found")
    return found
