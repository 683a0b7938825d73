"""Student versions: what is taken out and what stays, against nbgrader's own preprocessors where they are
installed.
"""

from pathlib import Path

import nbformat
import pytest
from lab_maker import marked, tiny_lab, write

from sdlab.errors import SdlabError
from sdlab.labs.build import build_labs

SOURCES = sorted((Path(__file__).parents[1] / "notebooks" / "labs" / "source").glob("*.ipynb"))


def built(tmp_path, notebook):
    write(notebook, tmp_path / "source" / "lab9_tiny.ipynb")
    return nbformat.read(build_labs(tmp_path / "source", tmp_path / "out")[0], as_version=4)


def test_solutions_and_hidden_tests_are_out_and_the_rest_stays(tmp_path):
    source = tiny_lab()
    source.cells[2].outputs = [nbformat.v4.new_output("stream", text="seen")]
    source.cells[2].execution_count = 7
    student = built(tmp_path, source)
    by_id = {cell.id: cell for cell in student.cells}
    assert (
        by_id["double"].source
        == 'def double(x):\n    """Twice x."""\n    # YOUR CODE HERE\n    raise NotImplementedError()'
    )
    assert by_id["double-test"].source == "assert double(2) == 4, 'double(2) is 4'"
    assert by_id["reflection"].source == "YOUR ANSWER HERE"
    assert by_id["imports"].outputs == [] and by_id["imports"].execution_count is None
    assert [cell.metadata for cell in student.cells] == [cell.metadata for cell in source.cells]
    assert student.metadata["sdlab"] == {"lab": "lab9_tiny"} and student.metadata.kernelspec.name == "python3"
    nbformat.validate(student)


def test_two_builds_give_the_same_bytes(tmp_path):
    write(tiny_lab(), tmp_path / "source" / "lab9_tiny.ipynb")
    first, second = (build_labs(tmp_path / "source", tmp_path / name)[0].read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_solution_cell_without_markers_is_emptied_and_two_regions_are_both_replaced(tmp_path):
    source = tiny_lab()
    source.cells[3].source = "answer = 42"
    region = "{0}### BEGIN SOLUTION\n{0}x = 1\n{0}### END SOLUTION\n"
    source.cells[5].source = (
        "def mean(values):\n" + region.format("    ") + "    y = 2\n" + region.format("        ")
    )
    student = built(tmp_path, source)
    assert student.cells[3].source == "# YOUR CODE HERE\nraise NotImplementedError()"
    stub = "{0}# YOUR CODE HERE\n{0}raise NotImplementedError()\n"
    assert student.cells[5].source == "def mean(values):\n" + stub.format(
        "    "
    ) + "    y = 2\n" + stub.format("        ")


@pytest.mark.parametrize(
    "change, line",
    [
        (
            lambda cells: cells[3].update(source="### BEGIN SOLUTION\nx = 1"),
            "cell 4 (double): line 1: ### BEGIN SOLUTION is never ended",
        ),
        (
            lambda cells: cells[3].update(source="x = 1\n### END SOLUTION"),
            "cell 4 (double): line 2: ### END SOLUTION without",
        ),
        (
            lambda cells: cells[4].update(
                source="### BEGIN HIDDEN TESTS\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"
            ),
            "cell 5 (double-test): line 2",
        ),
        (
            lambda cells: cells[2].update(source="### BEGIN SOLUTION\n### END SOLUTION"),
            "cell 3: ### BEGIN SOLUTION in a cell that",
        ),
        (
            lambda cells: cells.append(marked("solution", "mean", "pass")),
            "cell 9 (mean): cell 6 has the grade_id 'mean' too",
        ),
        (
            lambda cells: cells[6].metadata.nbgrader.pop("points"),
            "cell 7 (mean-test): a graded cell with points None",
        ),
        (
            lambda cells: cells[6].metadata.nbgrader.update(points=0),
            "cell 7 (mean-test): a graded cell with points 0",
        ),
    ],
)
def test_a_bad_source_is_named_with_its_cell_and_nothing_is_written(tmp_path, change, line):
    source = tiny_lab()
    change(source.cells)
    with pytest.raises(SdlabError) as error:
        built(tmp_path, source)
    assert "lab9_tiny.ipynb, " + line in str(error.value) and not (tmp_path / "out").exists()


def test_the_solutions_are_not_overwritten(tmp_path):
    write(tiny_lab(), tmp_path / "lab9_tiny.ipynb")
    with pytest.raises(SdlabError, match="overwrite"):
        build_labs(tmp_path, tmp_path)
    with pytest.raises(SdlabError, match="no notebooks"):
        build_labs(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("path", SOURCES or [None], ids=lambda path: path.stem if path else "tiny")
def test_nbgraders_own_preprocessors_give_the_same_sources(tmp_path, path):
    preprocessors = pytest.importorskip("nbgrader.preprocessors", reason="nbgrader is not installed")
    source = nbformat.read(path, as_version=4) if path else tiny_lab()
    student = built(tmp_path, source)
    for name in ("ClearSolutions", "ClearHiddenTests", "ClearOutput"):
        source, _ = getattr(preprocessors, name)().preprocess(source, {"kernelspec": {"language": "python"}})
    assert [cell.source for cell in student.cells] == [cell.source for cell in source.cells]
