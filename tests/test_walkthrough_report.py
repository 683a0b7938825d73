import errno
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell, new_output
from notebook_maker import make, save
from rich.console import Console

from sdlab.errors import SdlabError
from sdlab.walkthrough import render, report
from sdlab.walkthrough.tour import tour

pytestmark = pytest.mark.slow

RECORD = "from sdlab.walkthrough.record import record\nrecord({})"


class Loads(HTMLParser):
    """Every address a page makes a browser load: any src, data, srcset or poster, and href outside links."""

    def __init__(self, page: str):
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster") or (name == "href" and tag != "a"):
                self.addresses.append(value or "")


def assert_offline(page: str):
    remote = [address[:80] for address in Loads(page).addresses if not address.startswith(("data:", "#"))]
    assert remote == []
    assert "@import" not in page


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """A tour of four notebooks, one broken and one without parameters; the index is kept as it grew."""
    folder, output = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("reports") / "new"
    save(
        folder,
        "00_first.ipynb",
        new_markdown_cell("## Part $x^2$"),
        "import os; print(os.path.exists('" + str(output / "index.html") + "'))",
        RECORD.format(
            "score={'mean': .5, 'low': .4, 'high': .6}, table={'none': {'score': 1.5}}, best='<b>', n=3, a=4"
        ),
        title="# The *first*\n\n> What is\n> it?\n\nMore.",
    )
    save(folder, "01_broken.ipynb", "1 / 0", "2")
    nbformat.write(make("1", parameters="SIZE: int = 1"), folder / "02_undeclared.ipynb")
    save(
        folder,
        "03_last.ipynb",
        f"print(open({str(output / 'index.html')!r}).read())",
        RECORD.format("score=1"),
    )
    worked = tour("smoke", output, folder=folder, console=quiet())
    return worked, output, folder


def article(output: Path, name: str):
    return BeautifulSoup((output / "index.html").read_text(), "html.parser").find(id=name)


def test_a_failing_notebook_does_not_stop_the_others(toured):
    worked, output, _ = toured
    assert worked is False
    assert sorted(path.name for path in output.iterdir()) == [
        "00_first.html", "01_broken.html", "02_undeclared.html", "03_last.html", "index.html"]  # fmt: skip
    pills = [
        article(output, name).find(class_="pill").get_text()
        for name in ("00_first", "01_broken", "02_undeclared", "03_last")
    ]
    assert pills == ["done", "failed", "failed", "done"]


def test_the_failure_is_named_and_linked(toured):
    _, output, _ = toured
    link = article(output, "01_broken").find(class_="failures").a
    assert link.get_text() == "cell 3 (`1 / 0`): ZeroDivisionError: division by zero"
    page, _, anchor = link["href"].partition("#")
    cell = BeautifulSoup((output / page).read_text(), "html.parser").find(id=anchor)
    assert "1 / 0" in cell.get_text()
    assert "unknown parameter of 02_undeclared.ipynb 'PRESET'" in article(output, "02_undeclared").get_text()


def test_the_index_shows_title_question_and_figures(toured):
    _, output, _ = toured
    first = article(output, "00_first")
    assert first.h2.get_text() == "The first" and first.find(class_="question").get_text() == "What is it?"
    assert first.h2.a["href"] == "00_first.html"
    figures = ["0.50 95% interval 0.40 to 0.60", "<b>", "3"]  # the first three plain values, no table
    assert [dd.get_text(" ") for dd in first.find_all("dd")] == figures and first.table is None
    assert "MB" in first.find(class_="when").get_text()


def test_the_index_says_where_its_numbers_come_from(toured):
    """Notebooks show recorded runs and the paper's numbers beside their own: not all were measured in this
    run.
    """
    _, output, _ = toured
    page = BeautifulSoup((output / "index.html").read_text(), "html.parser")
    words = page.find(class_="hero").p.get_text()
    assert "Every number" not in words
    assert all(source in words for source in ("this run", "training runs recorded earlier", "the paper"))


def test_the_index_grows(toured):
    _, output, _ = toured
    page = BeautifulSoup((output / "00_first.html").read_text(), "html.parser")
    assert (
        "False" in page.find(class_="output").get_text()
    )  # nothing to look at before the first notebook is done
    early = (
        BeautifulSoup((output / "03_last.html").read_text(), "html.parser").find(class_="output").get_text()
    )
    midway = BeautifulSoup(early, "html.parser")  # the index as the last notebook saw it
    assert midway.find("meta", attrs={"http-equiv": "refresh"})
    assert [pill.get_text() for pill in midway.select("article .pill")] == [
        "done",
        "failed",
        "failed",
        "running",
    ]
    final = (output / "index.html").read_text()
    assert 'http-equiv="refresh"' not in final


def test_every_page_is_offline(toured):
    _, output, _ = toured
    for path in output.iterdir():
        assert_offline(path.read_text())


def test_only_keeps_the_other_pages(toured):
    _, output, folder = toured
    assert tour("smoke", output, ("03",), folder=folder, console=quiet()) is True
    pills = [article(output, name).find(class_="pill").get_text() for name in ("00_first", "03_last")]
    assert pills == ["from an earlier run", "done"]


def test_refresh_stores_cleaned_outputs_of_what_worked(tmp_path):
    good = save(tmp_path, "00_good.ipynb", "print(6 * 7)", RECORD.format("answer=42"))
    bad = save(tmp_path, "01_bad.ipynb", "print(1)", "1 / 0")
    before = bad.read_bytes()
    assert tour("smoke", tmp_path / "reports", refresh=True, folder=tmp_path, console=quiet()) is False
    assert bad.read_bytes() == before
    stored = nbformat.read(good, 4)
    assert stored.cells[2].outputs[0].text == "42\n" and stored.cells[2].execution_count is None
    assert stored.cells[1].source.startswith("PRESET") and "papermill" not in good.read_text()


@pytest.mark.parametrize(
    "html",
    [
        "<script src='https://cdn.jsdelivr.net/npm/vega@6'></script><p>kept</p>",
        "<link rel='stylesheet' href='//example.org/a.css'><p>kept</p>",
        "<script>import('https://esm.sh/vega')</script><p>kept</p>",
        "<iframe src='http://example.org'></iframe><p>kept</p>",
        "<img src='https://example.org/a.png' alt='kept'>",
        "<style>@import url('https://example.org/a.css'); p {color: red}</style><p>kept</p>",
        "<object data='https://example.org/a.svg'></object><p>kept</p>",
    ],
)
def test_remote_parts_of_an_output_are_dropped(html):
    notebook = make("1")
    notebook.cells[2].outputs = [new_output("display_data", {"text/html": html})]
    assert render.fetches(html)
    page = render.body(notebook)
    assert_offline(page)
    assert render.fetches(page) == [] and "kept" in page


def test_a_remote_chart_is_replaced_by_its_picture():
    notebook = make("1")
    remote = "<div id='vis'></div><script src='https://cdn.jsdelivr.net/npm/vega@6'></script>"
    notebook.cells[2].outputs = [new_output("display_data", {"text/html": remote, "image/png": "aGVsbG8="})]
    page = render.body(notebook)
    assert_offline(page)
    assert "data:image/png;base64,aGVsbG8=" in page and "id='vis'" not in page


def test_links_and_local_html_stay_as_they_are():
    html = (
        "<a href='https://arxiv.org/abs/2603.24472'>paper</a><img "
        "src='data:image/png;base64,AA=='><script>let x = 1;</script>"
    )
    assert render.offline(html) == html


def test_a_widget_becomes_a_note():
    notebook = make("1")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc"}, "text/plain": "IntSlider()"}
    notebook.cells[2].outputs = [new_output("display_data", view)]
    page = render.body(notebook)
    assert "IntSlider" not in page and "Interactive in JupyterLab" in page


def test_formulas_become_mathml():
    page = render.markdown(
        "Let $a_1 < b$ and\n\n$$\\frac{1}{2}$$\n\n\\begin{align*} x &= 1 \\\\ y &= 2 \\end{align*}\n\nfor $5."
    )
    soup = BeautifulSoup(page, "html.parser")
    inline, display, table = soup.find_all("math")
    assert (inline["display"], display["display"]) == ("inline", "block")
    assert [tag.get_text() for tag in inline.find_all(["mi", "mn", "mo"])] == ["a", "1", "<", "b"]
    assert [tag.get_text() for tag in display.mfrac.find_all("mn")] == ["1", "2"]
    assert len(table.find_all("mtr")) == 2 and "for $5." in soup.get_text()
    aligned = BeautifulSoup(render.mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}"), "html.parser")
    assert len(aligned.find_all("mtr")) == 2 and "&" not in aligned.get_text()


def test_a_formula_that_cannot_be_converted_shows_its_source():
    assert render.mathml(r"a < \frac") == "<code class='latex'>a &lt; \\frac</code>"


FULL_DISK = """
import resource, sys
from pathlib import Path
from sdlab.errors import SdlabError
from sdlab.walkthrough import report
line = report.Entry(Path("00_a.ipynb"), "A title", "", status="done", seconds=1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # no file may grow beyond 2,000 bytes
try:
    report.write_index(Path(sys.argv[1]), [line], report.Run("smoke", "organism", "today"))
except SdlabError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_leaves_the_old_page_and_says_one_line(tmp_path):
    (tmp_path / "index.html").write_text("the old index")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and done.stdout.startswith(
        f"could not write {tmp_path / 'index.html'}: "
    ), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "the old index"


def test_a_disk_that_fills_during_the_tour_stops_it(tmp_path, monkeypatch):
    save(tmp_path, "00_a.ipynb", "1")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        SdlabError, match="could not write .*00_a.html: No space left on device; free some space"
    ):
        tour("smoke", tmp_path / "reports", folder=tmp_path, console=quiet())
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_report_folder_that_is_a_file_is_told(tmp_path):
    save(tmp_path, "00_a.ipynb", "1")
    (tmp_path / "reports").write_text("")
    with pytest.raises(SdlabError, match="could not write .*reports"):
        tour("smoke", tmp_path / "reports", folder=tmp_path, console=quiet())


def test_clock():
    assert [report.clock(seconds) for seconds in (None, 4.21, 48.4, 187)] == [
        "",
        "4.2 s",
        "48 s",
        "3 min 07 s",
    ]


def test_links_between_notebooks_lead_to_pages(tmp_path):
    words = new_markdown_cell("[on](01_b.ipynb), [away](09_z.ipynb) and [out](https://example.org/a.ipynb)")
    entries = [report.entry(save(tmp_path, name, words)) for name in ("00_a.ipynb", "01_b.ipynb")]
    page = report.write_page(
        tmp_path,
        entries[0],
        nbformat.read(entries[0].source, 4),
        entries,
        report.Run("smoke", "organism", ""),
    )
    links = {
        link.get_text(): link["href"]
        for link in BeautifulSoup(page.read_text(), "html.parser").main.find_all("a")
    }
    assert links["on"] == "01_b.html" and links["out"] == "https://example.org/a.ipynb"
    assert "away" not in links and "away" in page.read_text()


def summarised(*cells) -> nbformat.NotebookNode:
    picture = new_output("display_data", {"image/png": "cGljdHVyZQ=="})
    notebook = make("1", new_markdown_cell("Text\n\n- not this\n\n## Summary\n\nFirst words."), *cells)
    notebook.cells[2].outputs = [picture]
    return notebook


def test_the_sentence_is_the_first_of_the_summary():
    told = summarised("2")
    told.cells[-1].outputs = [new_output("display_data", {"text/markdown": "- The *score* falls.\n- More."})]
    assert report.first_sentence(told) == "The score falls."
    typed = summarised()
    typed.cells[-1].source += "\n\n- In\n  two lines.\n- More."
    assert report.first_sentence(typed) == "In two lines."
    assert report.first_sentence(make("1", new_markdown_cell("- no summary"))) == ""


def test_the_thumbnail_is_the_tagged_figure_or_the_first():
    notebook = summarised("2")
    assert report.thumbnail(notebook) == "data:image/png;base64,cGljdHVyZQ=="
    inside = "data:image/png;base64," + "A" * 2000
    notebook.cells[-1].outputs = [new_output("display_data", {"text/html": f"<img src='{inside}'>"})]
    notebook.cells[-1].metadata["tags"] = ["thumbnail"]
    assert report.thumbnail(notebook) == inside
    assert report.thumbnail(make("1")) == ""


def test_folded_code_stays_on_the_page():
    notebook = make("hidden = 1", "shown = 2")
    notebook.cells[2].metadata["jupyter"] = {"source_hidden": True}
    soup = BeautifulSoup(render.body(notebook), "html.parser")
    (fold,) = soup.find_all("details")
    assert "hidden" in fold.get_text() and "shown" not in fold.get_text() and "shown" in soup.get_text()


def test_the_parameters_stand_once_on_a_page():
    notebook = make("1")
    injected = make('PRESET = "smoke"').cells[2]
    injected.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(2, injected)
    words = BeautifulSoup(render.body(notebook), "html.parser").get_text()
    assert words.count("PRESET") == 1 and "smoke" in words and "quick" not in words


def test_the_index_leads_with_the_answer_and_ends_with_the_verdicts(tmp_path):
    lead = report.Lead(
        "It <falls>.", "<svg></svg>", "Five seeds.", (("A claim", "not settled", "+0.1", "Fig 3"),)
    )
    run = report.Run("smoke", "organism", "today", state="done", lead=lead)
    page = BeautifulSoup(report.write_index(tmp_path, [], run).read_text(), "html.parser")
    assert page.find(class_="answer").get_text() == "It <falls>."
    assert page.find("figcaption").get_text() == "Five seeds."
    cells = [cell.get_text() for cell in page.find(class_="verdicts").tbody.tr.find_all(["th", "td"])]
    assert cells == ["A claim", "not settled", "+0.1", "Fig 3"]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (hex), as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_code_can_be_read_on_the_background_of_the_page(scheme):
    from pygments.styles import get_style_by_name

    css = (Path(render.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    background = re.findall(r"--code: #(\w{6})", css)[scheme]
    for token, style in get_style_by_name(report.CODE_STYLES[scheme]):
        written = not any(kind in str(token) for kind in ("Generic", "Error", "Whitespace"))
        if style["color"] and written:
            assert contrast(style["color"], background) >= 4.5, token


def test_a_header_of_a_table_without_a_word_is_no_header():
    notebook = make("")
    table = pandas.DataFrame({"a": [1]})
    notebook.cells[-1].outputs = [new_output("display_data", {"text/html": table.to_html()})]
    page = BeautifulSoup(render.body(notebook), "html.parser")
    assert [cell.text for cell in page.select("thead th")] == ["a"]
