"""What every lab keeps to for its students: it fits 90 minutes, and every task has hints and a difficulty."""

import re
from pathlib import Path

import pytest
from hygiene import raw, reading_minutes

from sdlab.labs.build import student_version
from sdlab.labs.cells import marking

FOLDER = Path(__file__).parents[1] / "notebooks" / "labs"
SOURCES = sorted((FOLDER / "source").glob("*.ipynb"))
MINUTES = {"★": 5, "★★": 8, "★★★": 12}  # to write an answer; a repair of one's own takes 20
SESSION = 90  # minutes
lab = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def tasks(path: Path) -> list[tuple[str, str, int, int]]:
    """The rows of the table in the opening: task, stars, minutes, points."""
    rows = re.findall(r"^\|([^|\n]*)\|([^|]*)\|([^|]*)\| (\d+) \|([^|]*)\|$", raw(path).cells[0].source, re.M)
    return [
        (task.strip(), stars.strip(), int(most), int(points.strip() or 0))
        for _, task, stars, most, points in rows
    ]


def marks(path: Path) -> list:
    return [mark for cell in raw(path).cells if (mark := marking(cell))]


@lab
def test_the_stated_times_are_computed_and_fit_a_session(path):
    opening = raw(path).cells[0].source
    read, write = map(
        int, re.search(r"about (\d+) minutes to read, (\d+) minutes to write", opening).groups()
    )
    (total,) = map(int, re.findall(r"at preset `quick`: (\d+) minutes", opening))
    assert 0.9 < read / reading_minutes(student_version(raw(path), path.stem)) < 1.1
    assert write == sum(minutes for _, _, minutes, _ in tasks(path))
    assert total == read + write + 1 <= SESSION  # the cells run for a minute


@lab
def test_every_task_has_a_difficulty_its_minutes_and_its_points(path):
    rows = tasks(path)
    assert [points for *_, points in rows if points] == [
        mark.points for mark in marks(path) if mark.grade
    ]  # in order, the reflection last
    for task, stars, minutes, points in rows:
        if points and "reflection" not in task:
            assert minutes == MINUTES[stars], task
    assert sum(points for *_, points in rows) == 25 and rows[-1][2:] == (15, 5)


@lab
def test_every_task_has_folded_hints_above_its_cell(path):
    cells = raw(path).cells
    above = ""
    for cell in cells:
        mark = marking(cell)
        if mark and mark.solution and cell.cell_type == "code":
            assert re.search(r"<details><summary>Hints</summary>\n\n.+\n\n</details>", above, re.S), mark
            above = ""
        elif cell.cell_type == "markdown":
            above = cell.source


@lab
def test_the_student_version_is_built_from_the_source(path):
    student, stored = student_version(raw(path), path.stem), raw(FOLDER / path.name)
    assert [cell.source for cell in student.cells] == [cell.source for cell in stored.cells]
    assert stored.metadata["sdlab"] == {"lab": path.stem}


@lab
def test_sections_and_parts_are_numbered_alike(path):
    text = "\n".join(cell.source for cell in raw(path).cells if cell.cell_type == "markdown")
    sections = [int(number) for number in re.findall(r"^## (\d+)\.", text, re.M)]
    assert sections == list(range(1, len(sections) + 1))
    parts = [int(part) for part in re.findall(r"^\| (\d+) \|", raw(path).cells[0].source, re.M)]
    assert parts == sorted(parts) and set(parts) <= set(sections) and parts[-1] == sections[-1]
