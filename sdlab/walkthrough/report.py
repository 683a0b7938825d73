"""The pages of `sdlab tour`: one per notebook, and an index with the results of each.

They need no JavaScript and no network.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup
from pygments.formatters import HtmlFormatter

import sdlab
from sdlab.errors import SdlabError
from sdlab.files import write_atomic
from sdlab.measure.intervals import tidy
from sdlab.walkthrough import record, render, solutions
from sdlab.walkthrough.execute import Execution, read
from sdlab.walkthrough.failures import Failure

LABELS = {
    "waiting": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "earlier": "from an earlier run",
    "stopped": "stopped",
}
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]{2000,}")
EXPLORER = "explorer.html"  # linked when it is in the report's folder
SHORT = 40  # characters of a text that stands among the figures
CODE_STYLES = ("xcode", "github-dark")  # light and dark, readable on the page's background for code
FIGURES = 3  # plain values shown on the index for each notebook


@dataclass
class Entry:
    """One notebook's line in the index; its attributes change during the run."""

    source: Path
    title: str
    question: str
    status: str = "waiting"  # one of LABELS
    seconds: float | None = None
    failures: tuple[Failure, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    anchors: dict[int, str] = field(default_factory=dict)  # cell number -> anchor on the page
    has_page: bool = False
    sentence: str = ""  # the first sentence of its summary
    thumbnail: str = ""  # the address of a picture, as data

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.source.stem

    @property
    def number(self) -> str:
        """The number at the start of the name."""
        return self.name.split("_")[0]

    @property
    def page(self) -> str:
        """The name of the notebook's page in the report."""
        return f"{self.name}.html"

    @property
    def memory(self) -> int | None:
        """The largest memory of the kernel in MB, if it was recorded."""
        return self.provenance.get("peak_memory_mb")

    @property
    def figures(self) -> list[tuple[str, str, str, bool]]:
        """Return (label, value, interval, is it text?) of the first plain values."""
        plain = [(name, value) for name, value in self.values.items() if _is_short(value)]
        return [(record.label(name), *_figure(value)) for name, value in plain[:FIGURES]]


@dataclass(frozen=True)
class Lead:
    """What the index begins and ends with: the answer, its figure, and the verdicts on the statements."""

    answer: str
    figure: str  # HTML
    caption: str
    verdicts: tuple[tuple[str, str, str, str], ...] = ()  # statement, verdict, measured, source


@dataclass
class Run:
    """The data of the whole tour. `state` is running, done, failed or stopped."""

    preset: str
    model: str
    started: str
    problems: str = ""  # a file or data set of the reader's
    state: str = "running"
    lead: Lead | None = None
    own: bool = False  # another model or other problems than those of the shipped walkthrough
    left_out: tuple[str, ...] = ()  # notebooks that do not read them
    chat_template: str = ""  # "plain" or a file, where the reader named one
    title: str = "Why does self-distillation sometimes make a model reason worse?"


def entry(path: Path) -> Entry:
    """Return the index line of the notebook at `path`.

    The title is its first heading, and the question its first blockquote.
    """
    title, question = path.stem.replace("_", " "), ""
    lines = [
        line for cell in read(path).cells if cell.cell_type == "markdown" for line in cell.source.splitlines()
    ]
    title = next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), title)
    for line in lines:
        if line.startswith(">"):
            question += " " + line.lstrip("> ").strip()
        elif question:
            break
    return Entry(path, _plain(title), _plain(question.strip()))


def finish(line: Entry, execution: Execution) -> None:
    """Copy the results of an execution into its entry."""
    line.status = "failed" if execution.failures else "done"
    line.seconds, line.failures = execution.seconds, execution.failures
    own = [
        cell
        for cell in execution.notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    line.anchors = {number: f"cell-id={cell.get('id', '')}" for number, cell in enumerate(own, 1)}
    line.sentence, line.thumbnail = first_sentence(execution.notebook), thumbnail(execution.notebook)
    try:
        recorded = record.read_record(execution.notebook)
        order, values = recorded.get("order", list(recorded["values"])), recorded["values"]
        line.values, line.provenance = {name: values[name] for name in order}, recorded["provenance"]
    except SdlabError:  # no record: a notebook that failed early, or one that records nothing
        line.values, line.provenance = {}, {}


def first_sentence(notebook: nbformat.NotebookNode) -> str:
    """Return the first line of the list under the heading "Summary", in Markdown or in an output; else ""."""
    in_summary = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = cell.source
            if "## Summary" in text:
                in_summary, text = True, text.partition("## Summary")[2]
            texts = [text.partition("\n## ")[0]]
        else:
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
        found = re.search(r"^- (.+(?:\n  .+)*)", "\n".join(texts), re.MULTILINE) if in_summary else None
        if found:
            return _plain(re.sub(r"\s+", " ", found[1]))
    return ""


def thumbnail(notebook: nbformat.NotebookNode) -> str:
    """Return the address of the notebook's picture: of the cell tagged `thumbnail`, else the first; or ""."""
    tagged = [cell for cell in notebook.cells if "thumbnail" in cell.metadata.get("tags", [])]
    for cell in [*tagged, *notebook.cells]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                return f"data:image/png;base64,{data['image/png'].strip()}"
            found = PICTURE.search(data.get("text/html", ""))
            if found:
                return found[0]
    return ""


def write_page(
    folder: Path, line: Entry, notebook: nbformat.NotebookNode, entries: list[Entry], run: Run
) -> Path:
    """Write one notebook's page, and a page with the stored outputs of its solutions, into `folder`.

    Raises SdlabError when one cannot be written; an earlier page then stays unchanged.
    """
    place = entries.index(line)
    around = {
        "before": entries[place - 1] if place else None,
        "after": entries[place + 1] if place + 1 < len(entries) else None,
    }
    solved = solutions.path_of(line.source)
    if solved is not None:
        own = Entry(solved, f"{line.title}: solutions", "", status="")
        page = _page(own, read(solved), entries, solutions.about(solved), before=line)
        write_atomic(folder / own.page, page)
    about = f"preset {run.preset} · model {run.model} · {clock(line.seconds)}"
    path = write_atomic(folder / line.page, _page(line, notebook, entries, about, **around))
    line.has_page = True
    return path


def _page(
    line: Entry, notebook: nbformat.NotebookNode, entries: list[Entry], about: str, **around: Entry | None
) -> str:
    """Return the HTML of one page; `around`: the entries before and after it."""
    body = Markup(solutions.linked(render.body(notebook), [entry.source for entry in entries]))
    template = record.templates().get_template("page.html")
    return template.render(
        entry=line, about=about, body=body, style=_style(), code_style=_code_style(), **around
    )


def write_index(folder: Path, entries: list[Entry], run: Run) -> Path:
    """Write `folder`/index.html for the current state of the run."""
    now = [line for line in entries if line.status != "earlier"]
    done = sum(line.status == "done" for line in now)
    failed = sum(line.status == "failed" for line in now)
    text = (
        record.templates()
        .get_template("index.html")
        .render(
            entries=entries,
            run=run,
            style=_style(),
            clock=clock,
            labels=LABELS,
            version=sdlab.__version__,
            summary=f"{done} of {len(now)} done"
            + (f", {failed} failed" if failed else "")
            + (", stopped" if run.state == "stopped" else ""),
            total_seconds=sum(line.seconds or 0 for line in now),
            started=run.started,
            explorer=EXPLORER if (folder / EXPLORER).exists() else None,
            provenance=_shared(entries),
        )
    )
    return write_atomic(folder / "index.html", text)


def clock(seconds: float | None) -> str:
    """Return a duration as text: "4.2 s", "48 s", "3 min 07 s"."""
    if seconds is None or seconds < 10:
        return "" if seconds is None else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _shared(entries: list[Entry]) -> list[tuple[str, str]]:
    """Return the provenance for the footer, from the last notebook that recorded any."""
    last = next((line.provenance for line in reversed(entries) if line.provenance), {})
    rows = []
    for name, value in last.items():
        if isinstance(value, dict):
            rows += [(f"{record.label(name)}: {key}", str(item)) for key, item in value.items()]
        elif value is not None and name != "peak_memory_mb":
            rows.append((record.label(name), str(value)))
    return rows


def _is_short(value: Any) -> bool:
    """Return whether a recorded value is a number, an interval or a few words."""
    if record.is_interval(value):
        return True
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= SHORT)


def _figure(value: Any) -> tuple[str, str, bool]:
    if record.is_interval(value):
        mean, low, high = (
            "–" if value[part] is None else tidy(value[part]) for part in ("mean", "low", "high")
        )
        none = value["low"] in (None, value["high"])  # unknown, or without width
        return mean, "no interval" if none else f"95% interval {low} to {high}", False
    if isinstance(value, float):
        return tidy(value), "", False
    return record.show(value), "", not isinstance(value, int)


def _plain(markdown_line: str) -> str:
    """Return Markdown text without its marks for emphasis, code and links."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(render.markdown(markdown_line), "html.parser").get_text().strip()


@cache
def _style() -> Markup:
    loader = record.templates().loader
    assert loader is not None
    return Markup(loader.get_source(record.templates(), "style.css")[0])


@cache
def _code_style() -> Markup:
    """Return colours for code, light and dark, on the page's own background."""
    light = HtmlFormatter(style=CODE_STYLES[0], nobackground=True).get_style_defs(".highlight")
    dark = HtmlFormatter(style=CODE_STYLES[1], nobackground=True).get_style_defs(".highlight")
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")
