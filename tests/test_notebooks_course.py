"""What every notebook of the course keeps to for its readers; checked in the sources."""

import re
from pathlib import Path

import pytest
from hygiene import raw

FOLDER = Path(__file__).parents[1] / "notebooks"
COURSE = sorted(FOLDER.glob("0[0-4]_*.ipynb"))
EVERY = sorted(FOLDER.glob("[0-9]*.ipynb"))
VISIBLE, LONGEST = 200, 15  # lines of code that a student reads in a notebook, and in one of its cells
WORDS_PER_MINUTE = 130  # of technical text; code lines count as 8 words
course = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
every = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)


def code_cells(path: Path) -> list:
    return [cell for cell in raw(path).cells if cell.cell_type == "code"]


def is_folded(cell) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


@course
def test_it_opens_with_goals_and_ends_with_an_answer(path):
    cells = raw(path).cells
    for part in ("**You learn", "**You need**", "**Time**: about"):
        assert part in cells[0].source, part
    question = " ".join(line for line in cells[0].source.splitlines() if line.startswith(">"))
    assert "?" in question
    text = "\n".join(cell.source for cell in cells)
    assert re.search(r"^## Summary: .*\?$", text, re.MULTILINE)
    assert "guesses_summary()" in text and "## Exercises" in text


@every
def test_code_is_short(path):
    cells = code_cells(path)
    visible = sum(lines(cell.source) for cell in cells if not is_folded(cell))
    long = [cell.source.splitlines()[0] for cell in cells if len(cell.source.strip().splitlines()) > LONGEST]
    assert visible <= VISIBLE and not long, (visible, long)


@course
def test_results_of_predictions_are_folded(path):
    """A "Predict first" in a text belongs to a question that the reader can answer."""
    for cell in raw(path).cells:
        assert "Predict first:**" not in cell.source
    asked = sum(len(re.findall(r"\b(?:reveal|predict)\(", cell.source)) for cell in code_cells(path))
    assert asked >= 4


@course
def test_the_stated_reading_time_is_that_of_its_words(path):
    cells = raw(path).cells
    stated = int(re.search(r"about (\d+) minutes to read", cells[0].source)[1])
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    words += 8 * sum(lines(cell.source) for cell in code_cells(path) if not is_folded(cell))
    assert 0.5 < words / WORDS_PER_MINUTE / stated < 2, words / WORDS_PER_MINUTE


def test_notebook_00_has_the_glossary_of_the_docs():
    docs = (FOLDER.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = [line for line in docs.splitlines() if line.startswith("| ") and not line.startswith("| term")]
    text = "\n".join(cell.source for cell in raw(FOLDER / "00_start_here.ipynb").cells)
    assert len(entries) > 20 and [line for line in entries if line not in text] == []
