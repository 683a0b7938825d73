"""Slides in one HTML file: the figures that the notebooks saved, in the order of a route through sections.

A route is a list of stops. Each stop names a notebook and one of its sections, and has a question for the
class. It becomes a slide with the question, and one slide for each figure of that section.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from markupsafe import Markup

from sdlab.errors import SdlabError, unknown
from sdlab.files import write_atomic
from sdlab.walkthrough import execute, record, render

ROW = re.compile(r"^\| *(\d+) *\| *\[([\w-]+)\]\([^)]*\) *\| *(.+?) *\| *(.+?) *\|$", re.MULTILINE)
FIGURE = re.compile(r"<(?:object|svg|img|iframe)\b")


@dataclass(frozen=True)
class Stop:
    """One row of a route: how many minutes, which section of which notebook, and a question for the class."""

    minutes: int
    notebook: str
    section: str
    question: str


@dataclass(frozen=True)
class Slide:
    """One slide: its heading, the line below it, and its content in HTML ("": a slide with words only)."""

    heading: str
    line: str
    content: str = ""


def read_route(page: Path) -> list[Stop]:
    """Return the stops of the Markdown table of `page`: minutes, linked notebook, section, question.

    Raises SdlabError when the page cannot be read or has no such row.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise SdlabError(f"could not read the route {page}: {error.strerror}; check the name") from error
    stops = [Stop(int(row[0]), *row[1:]) for row in ROW.findall(text)]
    if not stops:
        raise SdlabError(
            f"{page} has no row of a route; write | minutes | [notebook](link) | section | question |"
        )
    return stops


def sections(notebook: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """Return the cells of each section: from its heading (## or ###) to the next heading."""
    found: dict[str, list[nbformat.NotebookNode]] = {}
    title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,3} (.+)$", cell.source, re.MULTILINE)
            title = headings[-1].strip() if headings else title
            for heading in headings:
                found.setdefault(heading.strip(), [])
        found.setdefault(title, []).append(cell)
    return found


def figures(cells: Sequence[nbformat.NotebookNode]) -> list[str]:
    """Return the HTML of every saved figure of `cells`; what a notebook folds is open on a slide."""
    pages = [
        output.data["text/html"]
        for cell in cells
        for output in cell.get("outputs", [])
        if FIGURE.search(output.get("data", {}).get("text/html", ""))
    ]
    return [re.sub(r"<details(?! open)", "<details open", render.offline(page)) for page in pages]


def slides(route: Sequence[Stop], folder: Path | None = None) -> list[Slide]:
    """Return the slides of a route through the notebooks in `folder` (None: the shipped ones).

    Raises SdlabError when a notebook or a section does not exist.
    """
    made = []
    for stop in route:
        (path, *_) = execute.find((stop.notebook,), folder)
        known = sections(execute.read(path))
        if stop.section not in known:
            raise unknown(f"section of {stop.notebook}", stop.section, [name for name in known if name])
        made.append(Slide(stop.question, f"{stop.notebook}, {stop.section} ({stop.minutes} minutes)"))
        made += [Slide(stop.section, stop.notebook, Markup(page)) for page in figures(known[stop.section])]
    return made


def write_slides(route: Sequence[Stop], output: Path, title: str, folder: Path | None = None) -> Path:
    """Write the slides of a route as one HTML file that needs no network.

    Raises SdlabError as `slides`, and when the file cannot be written.
    """
    made = slides(route, folder)
    page = record.templates().get_template("slides.html").render(title=title, slides=made, total=len(made))
    return write_atomic(output, page)
