"""The solutions in the report: a page of stored outputs, linked from the notebook's page and back."""

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell
from notebook_maker import make, save
from rich.console import Console

from sdlab.walkthrough import execute, report, solutions
from sdlab.walkthrough.record import MIME
from sdlab.walkthrough.tour import tour

RECORD = "from sdlab.walkthrough.record import record\nrecord(solved=[1])"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two notebooks; the first has solutions, whose record says that they were made at preset quick."""
    place = tmp_path / "notebooks"
    (place / "solutions").mkdir(parents=True)
    link = new_markdown_cell("[its solution](solutions/00_a_solutions.ipynb), [next](01_b.ipynb)")
    save(place, "00_a.ipynb", link, RECORD)
    save(place, "01_b.ipynb", RECORD)
    solved = save(
        place / "solutions", "00_a_solutions.ipynb", new_markdown_cell("[page](../00_a.ipynb)"), RECORD
    )
    notebook = nbformat.read(solved, 4)
    stored = {"values": {"solved": [1]}, "provenance": {"preset": "quick", "model": "organism"}}
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", data={MIME: stored})]
    nbformat.write(notebook, solved)
    return place


def links(page: Path) -> dict[str, str]:
    found = BeautifulSoup(page.read_text("utf-8"), "html.parser").find_all("a")
    return {one.get_text(): one["href"] for one in found}


def test_links_lead_to_pages_and_those_without_a_page_become_text(folder):
    body = (
        '<a href="solutions/00_a_solutions.ipynb">s</a><a href="../01_b.ipynb">b</a>'
        '<a href="solutions/01_b_solutions.ipynb">none</a><a href="https://x.org/y.ipynb">far</a>'
    )
    assert solutions.linked(body, [folder / "00_a.ipynb", folder / "01_b.ipynb"]) == (
        '<a href="00_a_solutions.html">s</a><a href="01_b.html">b</a>none'
        '<a href="https://x.org/y.ipynb">far</a>'
    )


def test_the_page_of_solutions_is_written_beside_the_notebooks_page(folder, tmp_path):
    entries = [report.entry(path) for path in execute.find((), folder)]
    run = report.Run("smoke", "another", "today")
    own = make(new_markdown_cell("[s](solutions/00_a_solutions.ipynb)"))
    page = report.write_page(tmp_path, entries[0], own, entries, run)
    assert links(page)["s"] == "00_a_solutions.html"
    solved = tmp_path / "00_a_solutions.html"
    assert links(solved)["page"] == "00_a.html"
    text = solved.read_text("utf-8")
    assert "stored outputs · preset quick · model organism" in text and "preset smoke" not in text
    report.write_page(tmp_path, entries[1], make("1"), entries, run)
    assert not (tmp_path / "01_b_solutions.html").exists()


@pytest.mark.slow
def test_a_refresh_runs_the_solutions_too_and_a_broken_one_fails_its_notebook(folder, tmp_path):
    with open(tmp_path / "log", "w") as log:
        assert tour("smoke", tmp_path, ("00",), refresh=True, folder=folder, console=Console(file=log))
        solved = folder / "solutions" / "00_a_solutions.ipynb"
        assert '"preset": "smoke"' in solved.read_text("utf-8")
        notebook = nbformat.read(solved, 4)
        notebook.cells.insert(2, nbformat.v4.new_code_cell("1 / 0"))
        nbformat.write(notebook, solved)
        before = solved.read_text("utf-8")
        assert not tour("smoke", tmp_path, ("00",), refresh=True, folder=folder, console=Console(file=log))
        assert solved.read_text("utf-8") == before
    assert "solutions: cell 3" in (tmp_path / "log").read_text("utf-8")
