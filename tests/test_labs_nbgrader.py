"""nbgrader itself on a lab's source as it is: release, autograde, feedback. About 10 s; the four labs' own
sources go the same way, slower.
"""

import os
import sys

import nbformat
import pytest
from lab_maker import tiny_lab, write

from sdlab.labs.build import build_labs

pytest.importorskip("nbgrader", reason="nbgrader is not installed")


def test_nbgrader_releases_grades_and_explains_a_lab_made_for_sdlab(tmp_path, monkeypatch):
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    monkeypatch.setenv(
        "PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    )  # it calls alembic
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    config = Config()
    config.CourseDirectory.root, config.CourseDirectory.course_id = str(tmp_path), "sdlab"
    source = write(tiny_lab(), tmp_path / "source" / "lab9" / "lab9_tiny.ipynb")
    api = NbGraderAPI(config=config)
    made = api.generate_assignment("lab9")
    assert made["success"], made["log"]
    released = nbformat.read(tmp_path / "release" / "lab9" / "lab9_tiny.ipynb", as_version=4)
    ours = nbformat.read(build_labs(source.parent, tmp_path / "ours")[0], as_version=4)
    assert [cell.source for cell in released.cells] == [cell.source for cell in ours.cells]
    answered = nbformat.from_dict(ours)  # the version of `sdlab labs build`, filled in; `mean` wrongly
    for cell, solved in zip(answered.cells, tiny_lab().cells, strict=True):
        cell.source = {
            "double-test": cell.source,
            "mean-test": cell.source,
            "mean": "def mean(values):\n    return 2",
        }.get(cell.id, solved.source)
    for student, notebook in {"ada": tiny_lab(), "bob": released, "eve": answered}.items():
        write(notebook, tmp_path / "submitted" / student / "lab9" / "lab9_tiny.ipynb")
        graded = api.autograde("lab9", student)
        assert graded["success"], graded["log"]
    with api.gradebook as book:
        found = {student: book.find_submission("lab9", student) for student in ("ada", "bob", "eve")}
        assert {
            student: (one.score, one.max_score, one.needs_manual_grade) for student, one in found.items()
        } == {"ada": (5, 10, True), "bob": (0, 10, False), "eve": (3, 10, True)}
    explained = api.generate_feedback("lab9", "eve")
    assert explained["success"], explained["log"]
    assert "double-test" in (tmp_path / "feedback" / "eve" / "lab9" / "lab9_tiny.html").read_text(
        encoding="utf-8"
    )
