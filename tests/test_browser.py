"""JupyterLab in a real browser: every walkthrough notebook runs there, everything that can be moved or pressed is, by mouse and by keyboard.

What was pressed, and the seconds each notebook took, are printed at the end. One notebook: pytest tests/test_browser.py -k 02_.
"""

import re
from pathlib import Path

import nbformat
import pytest
from browser import Lab, jupyter_server, launch, smoke_copy
from controls import charts_without_words, play

from sdlab.study.runs import load_run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))
# What a call in a notebook's source puts on the page.
SHOWS = {"flip book": r"\b(flipbook|slider_view)\(", "dropdown": r"\btrace_explorer\(", "fold": r"\btoken_heatmap\("}


@pytest.fixture(scope="session")
def told(request):
    """Lines to print when all browser tests are over."""
    lines: list[str] = []
    yield lines
    reporter, capture = (request.config.pluginmanager.getplugin(name) for name in ("terminalreporter", "capturemanager"))
    if lines:
        with capture.global_and_fixture_disabled():
            reporter.write_line("")
            reporter.write_sep("-", "pressed and moved in the browser")
            for line in lines:
                reporter.write_line(line)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install "sdlab[browser]"')
    with api.sync_playwright() as playwright:
        try:
            browser = launch(playwright)
        except api.Error as error:
            pytest.skip(f"no Chromium to start (install it, or run `playwright install chromium`): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jupyter")
    with jupyter_server(folder) as address:
        yield address, folder / "tree"


@pytest.fixture
def open_lab(browser, server):
    """`open_lab(path)`: that notebook at preset smoke in JupyterLab."""
    address, tree = server
    labs = []

    def opened(notebook: Path) -> Lab:
        labs.append(Lab(browser, address, smoke_copy(notebook, tree).name))
        return labs[-1]

    yield opened
    for lab in labs:
        lab.close()


def made(path: Path, *sources: str) -> Path:
    """A notebook of these cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # without it JupyterLab asks for one
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip()) for source in sources], metadata=kernel), path)
    return path


@pytest.mark.browser
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_answers_to_mouse_and_keyboard(notebook, open_lab, told):
    lab = open_lab(notebook)
    lab.run_all()
    assert not lab.errors() and not lab.complaints
    done = play(lab)
    told.append(f"{notebook.stem}: all cells in {lab.seconds:.0f} s; " + ("; ".join(done) or "nothing to press"))
    assert not lab.errors() and not lab.complaints
    assert not charts_without_words(lab)
    source = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code")
    for control, call in SHOWS.items():
        if re.search(call, source):
            assert any(line.startswith(control) for line in done), f"a {control} is in the source but not on the page"


WIDGETS = """
import altair, pandas
from sdlab.show import setup, slider_view, trace_explorer
setup()
def picture(value):
    chart = altair.Chart(pandas.DataFrame({"a": [value]}), title=f"value {value}").mark_point().encode(x="a")
    return chart.properties(description=str(1 / (value - 4)))
slider_view(picture, [1, 2, 3, 4, 5], "level", start=2, live=True)
""", """
trace_explorer(pandas.DataFrame([{"problem_id": p, "context": "none", "generation": g, "completion": f"wait, {p} {g}"} for p in "abc" for g in (0, 1)]))
"""


@pytest.mark.browser
def test_a_live_slider_redraws_and_shows_what_went_wrong(open_lab, tmp_path, told):
    lab = open_lab(made(tmp_path / "widgets.ipynb", *WIDGETS))
    lab.run_all()
    assert not lab.errors() and not lab.complaints
    told.append("a live slider and a trace explorer: " + "; ".join(play(lab)))
    assert not lab.errors() and not lab.complaints and not charts_without_words(lab)
    handle = lab.page.locator(".noUi-handle")
    handle.focus()
    lab.page.keyboard.press("End")
    lab.page.wait_for_selector("object[aria-label*='value 5']")
    lab.page.keyboard.press("ArrowLeft")
    lab.page.wait_for_selector("text=ZeroDivisionError: division by zero")  # in the picture's place
    assert not lab.page.locator("object[aria-label*='value']").count()
    lab.page.keyboard.press("ArrowLeft")  # and it goes on working
    lab.page.wait_for_selector("object[aria-label*='value 3']")
    assert not lab.page.get_by_text("ZeroDivisionError").count()


TRAINING = """
from sdlab.rollout.loading import load_engine
from sdlab.show import LiveBoard
from sdlab.study.runs import open_run
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.world.splits import load_split
problems, config = load_split("train", limit=64), GRPOConfig(steps=1000, num_problems=8, num_generations=4, max_completion_length=96)
""", """
board = LiveBoard(("reward", "length"), title="stopped by hand", interval=0)
with open_run("stopped", config, method="grpo", model="organism") as run:
    rows = run_grpo(load_engine("organism"), problems, config, run=run, on_step=board.update)
""", """
print("returned", len(rows), "rows")
""", """
def stop(row):
    raise KeyboardInterrupt
with open_run("stopped", config, method="grpo", model="organism") as run:
    more = run_grpo(load_engine("organism"), problems, config, run=run, on_step=stop)
print("went on to", len(more), "rows")
"""


def said(lab, cell: int) -> str:
    return "".join("".join(out.get("text", "")) for out in lab.cells()[cell]["outputs"])


@pytest.mark.browser
@pytest.mark.parametrize("way", ["the toolbar's button", "the keys I, I"])
def test_stopping_a_training_cell_keeps_what_there_is(way, open_lab, server, tmp_path, told):
    name = "stop_by_mouse" if "button" in way else "stop_by_keys"
    folder = server[1] / name
    cells = [source.replace('"stopped"', f'"{name}"') for source in TRAINING]
    lab = open_lab(made(tmp_path / f"{name}.ipynb", *cells))
    lab.start_all()
    board = lab.page.locator(".jp-OutputArea-output", has_text="stopped by hand, step")
    for step in (0, 1, 2):  # the board is drawn in place while the cell is running
        board.get_by_text(re.compile(rf"stopped by hand, step {step}\b")).wait_for(timeout=120_000)
    assert lab.page.evaluate("window.ran") is None
    if "button" in way:
        lab.page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name='interrupt'] :is(button, jp-button)").first.click()
    else:
        lab.page.evaluate("() => { const book = window.jupyterapp.shell.currentWidget.content; book.mode = 'command'; book.node.focus() }")
        lab.page.keyboard.press("i")
        lab.page.keyboard.press("i")
    lab.wait_until_run()
    assert not lab.errors() and not lab.complaints
    rows = int(re.search(r"returned (\d+) rows", said(lab, 2))[1])
    assert 3 <= rows < 1000 and board.get_by_text(f"stopped by hand, step {rows - 1}:").count() == 1  # the last step is on the board
    # The folder was whole: a later cell took the run up where it was and made one step more.
    assert int(re.search(r"went on to (\d+) rows", said(lab, 3))[1]) == rows + 1
    run = load_run(folder)
    assert list(run.steps["step"]) == list(range(rows + 1)) and not run.finished and set(run.samples()["step"]) == set(range(rows + 1))
    told.append(f"training stopped by {way}: {rows} steps returned, {rows + 1} in the folder after going on")


def test_saved_pictures_say_what_they_show():
    from bs4 import BeautifulSoup

    silent, pictures = [], 0
    for notebook in NOTEBOOKS:
        for i, cell in enumerate(nbformat.read(notebook, as_version=4).cells):
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                html = "".join(data.get("text/html", ""))
                if any(kind.startswith("image/") for kind in data) and not html:
                    silent.append(f"{notebook.stem} cell {i}: an image without HTML around it has no words")
                page = BeautifulSoup(html, "html.parser")
                for picture in page.select("img, svg, object, canvas, [role=img]"):
                    pictures += 1
                    if not (picture.get("alt") or picture.get("aria-label") or picture.get("title") or "").strip():
                        silent.append(f"{notebook.stem} cell {i}: {str(picture)[:80]}")
    assert not silent and pictures > len(NOTEBOOKS)
