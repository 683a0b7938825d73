"""The teaching kit: its route exists, its numbers are right, and its slides build without a network."""

import math
import re
import runpy
from collections import Counter
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell, new_output
from notebook_maker import make, save

from sdlab.errors import SdlabError
from sdlab.measure.intervals import tidy
from sdlab.train.batch import draw
from sdlab.train.divergences import divergence
from sdlab.train.losses import group_advantages, grpo_token_loss
from sdlab.walkthrough import execute, render
from sdlab.walkthrough.slides import Stop, read_route, sections, slides, write_slides

ROOT = Path(__file__).parents[1]
KIT = ROOT / "docs" / "teaching"
PAGES = sorted(KIT.glob("*.md"))


def test_the_route_takes_90_minutes_and_names_sections_that_exist():
    route = read_route(KIT / "route.md")
    assert sum(stop.minutes for stop in route) == 90
    for stop in route:
        (path,) = execute.find((stop.notebook,))
        assert stop.section in sections(execute.read(path)), f"{stop.notebook} has no section {stop.section}"


def test_every_notebook_that_the_syllabus_names_exists():
    numbers = {path.name.split("_")[0] for path in execute.find()}
    named = set(re.findall(r"\b0\db?\b", (KIT / "syllabus.md").read_text()))
    assert named <= numbers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        in_repository = target.replace("../notebooks/", "../../notebooks/")  # as the site has them
        assert (KIT / in_repository).exists(), target


def quiz_value(name: str) -> str:
    text = (KIT / "quiz.md").read_text(encoding="utf-8")
    (value,) = re.findall(rf"<!-- value {name} -->(.*?)<!-- end -->", text)
    return value


def test_the_numbers_of_the_quiz():
    certain = math.log(2)  # two equally likely candidates, one of them named
    assert quiz_value("hint_certain") == f"{certain:.3f}"
    advantages = group_advantages(torch.tensor([1.0, 0, 0, 0]), num_generations=4)
    assert quiz_value("lone_success") == ", ".join(tidy(value) for value in advantages.tolist())
    ratio = torch.tensor(math.log(1.4), requires_grad=True)
    loss = grpo_token_loss(ratio, torch.tensor(0.0), torch.tensor(1.0), 0.2, 0.28)
    loss.backward()
    assert quiz_value("clipped") == f"{-loss.item():.2f}" and ratio.grad == 0
    sure, opposite = torch.tensor([1 - 1e-9, 1e-9]).double(), torch.tensor([1e-9, 1 - 1e-9]).double()
    assert quiz_value("jsd_cap") == f"{float(divergence(sure.log(), opposite.log(), 0.5)):.3f}"
    drawn = Counter(one for step in range(40) for one in draw(range(64), 8, seed=0, step=step))
    assert set(map(str, drawn.values())) == {quiz_value("exposures")}


def test_every_question_has_an_answer():
    text = (KIT / "quiz.md").read_text(encoding="utf-8")
    questions = re.findall(r"^\d+\. ", text, re.MULTILINE)
    assert len(questions) == text.count("<summary>Answer") == 14 and text.startswith("# Quiz\n\nFourteen")


def test_the_slides_of_the_route_have_figures_and_need_no_network(tmp_path):
    path = runpy.run_path(str(KIT / "slides.py"))["write"](tmp_path / "slides.html")
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    headings = [one.get_text() for one in page.find_all("h2")]
    assert all(stop.question in headings for stop in read_route(KIT / "route.md"))
    assert len(page.select(".content")) >= 6
    assert render.fetches(str(page)) == []


FOLDED = "<details class='a'><img src='data:image/png;base64,AA==' alt='{}'></details>"


def test_slides_hold_the_figures_of_their_section_only(tmp_path):
    notebook = make("1", new_markdown_cell("## Two"), "2")
    for cell, name in zip((notebook.cells[2], notebook.cells[-1]), ("one", "two"), strict=True):
        cell.outputs = [
            new_output("display_data", {"text/html": FOLDED.format(name)}),
            new_output("display_data", {"text/html": "<table></table>"}),
        ]
    notebook.cells[0].source += "\n\n## One"
    save(tmp_path, "00_a.ipynb")
    (tmp_path / "00_a.ipynb").write_text(__import__("nbformat").writes(notebook))
    made = slides([Stop(5, "00_a", "Two", "Which?")], tmp_path)
    assert [one.heading for one in made] == ["Which?", "Two"] and "alt='two'" in made[1].content
    assert made[1].content.startswith("<details open class='a'>")
    with pytest.raises(SdlabError, match="unknown section of 00_a 'Three'; choose one of: .*One, Two"):
        write_slides([Stop(5, "00_a", "Three", "Which?")], tmp_path / "slides.html", "T", tmp_path)


def test_a_page_without_a_route_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("# No table")
    with pytest.raises(SdlabError, match="has no row of a route"):
        read_route(tmp_path / "page.md")
