"""A tiny lab without torch, and submissions of it, for the tests of sdlab.labs."""

import copy

import nbformat

RIGHT = {"double": "    return 2 * x", "mean": "    return sum(values) / len(values)"}


def marked(kind: str, grade_id: str, source: str, points: float = 0, cell_type: str = "code"):
    """A cell with nbgrader's metadata: `kind` is solution, test or reflection."""
    new = nbformat.v4.new_code_cell if cell_type == "code" else nbformat.v4.new_markdown_cell
    data = {
        "schema_version": 3,
        "grade": kind != "solution",
        "grade_id": grade_id,
        "locked": kind == "test",
        "solution": kind != "test",
        "task": False,
    }
    cell = new(
        source, id=grade_id, metadata={"nbgrader": data | ({"points": points} if kind != "solution" else {})}
    )
    return cell


def tiny_lab():
    """The solution notebook: `double` (3 points), `mean` (2 points), a reflection (5 by hand)."""
    plain = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell("# A tiny lab", id="title"),
        plain("YEAR: int = 2026", id="parameters", metadata={"tags": ["parameters"]}),
        plain("import math\nLOG = []", id="imports"),
        marked(
            "solution",
            "double",
            'def double(x):\n    """Twice x."""\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END '
            "SOLUTION",
        ),
        marked(
            "test",
            "double-test",
            "assert double(2) == 4, 'double(2) is 4'\n### BEGIN HIDDEN TESTS\nassert "
            "math.isclose(double(-1.5), -3.0) and abs(double(YEAR) - 4052) < 1e-9\n### END HIDDEN TESTS",
            3,
        ),
        marked(
            "solution",
            "mean",
            "def mean(values):\n    ### BEGIN SOLUTION\n    return sum(values) / len(values)\n    ### END "
            "SOLUTION",
        ),
        marked(
            "test",
            "mean-test",
            "assert mean([1, 3]) == 2\n### BEGIN HIDDEN TESTS\nassert math.isclose(mean([1, 2, 6]), 3)\n"
            "### END HIDDEN TESTS",
            2,
        ),
        marked("reflection", "reflection", "Because.", 5, "markdown"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def handed_in(path, **cells):
    """The solution with other sources: `handed_in(path, double="def double(x): ...", imports="...")`, by
    cell id.
    """
    notebook = copy.deepcopy(tiny_lab())
    for cell in notebook.cells:
        cell.source = cells.pop(cell.id.replace("-", "_"), cell.source)
    assert not cells, cells
    return write(notebook, path)
