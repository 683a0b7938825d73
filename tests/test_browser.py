"""JupyterLab in a real browser: every walkthrough notebook runs there, everything that can be moved or
pressed is, by mouse and by keyboard.

What was pressed, and the seconds each notebook took, are printed at the end. One notebook: pytest
tests/test_browser.py -k 02_.
"""

import re
from pathlib import Path

import nbformat
import pytest
from browser import Lab, chromium, jupyter_server, smoke_copy
from controls import ACTIVE, charts_without_words, contrast, play, press, reach
from patience import PATIENCE

from sdlab.runs.loading import load_run

FOLDER = Path(__file__).parents[1] / "notebooks"
LABS = sorted(FOLDER.glob("labs/lab*.ipynb"))  # what students get; their solutions are in labs/source
NOTEBOOKS = [*sorted(FOLDER.glob("[0-9]*.ipynb")), *sorted(FOLDER.glob("labs/source/lab*.ipynb"))]
# What a call in a notebook's source puts on the page.
SHOWS = {
    "flip book": r"\b(flipbook|slider_view)\(",
    "dropdown": r"\btrace_explorer\(",
    "fold": r"\btoken_heatmap\(",
    "guess": r"\b(reveal|predict)\([^)]",
    "drawing": r"\bdraw_guess\(",
}


@pytest.fixture(scope="session")
def told(request):
    """Lines to print when all browser tests are over."""
    lines: list[str] = []
    yield lines
    reporter, capture = (
        request.config.pluginmanager.getplugin(name) for name in ("terminalreporter", "capturemanager")
    )
    if lines:
        with capture.global_and_fixture_disabled():
            reporter.write_line("")
            reporter.write_sep("-", "pressed and moved in the browser")
            for line in lines:
                reporter.write_line(line)


@pytest.fixture(scope="session")
def browser():
    with chromium() as browser:
        yield browser


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
    kernel = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }  # without it JupyterLab asks for one
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source.strip()) for source in sources], metadata=kernel
        ),
        path,
    )
    return path


@pytest.mark.browser
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_answers_to_mouse_and_keyboard(notebook, open_lab, told):
    lab = open_lab(notebook)
    lab.run_all()
    assert not lab.errors() and not lab.complaints
    done = play(lab)
    told.append(
        f"{notebook.stem}: all cells in {lab.seconds:.0f} s; " + ("; ".join(done) or "nothing to press")
    )
    assert not lab.errors() and not lab.complaints
    assert not charts_without_words(lab)
    source = "\n".join(
        cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"
    )
    for control, call in SHOWS.items():
        if re.search(call, source):
            assert any(line.startswith(control) for line in done), (
                f"a {control} is in the source but not on the page"
            )


@pytest.mark.browser
@pytest.mark.parametrize("notebook", LABS, ids=[path.stem for path in LABS])
def test_a_students_lab_runs_up_to_the_first_thing_to_write(notebook, open_lab, told):
    lab = open_lab(notebook)
    lab.run_all()
    cells = lab.cells()
    failed = [
        i
        for i, cell in enumerate(cells)
        if any(out["output_type"] == "error" for out in cell.get("outputs", []))
    ]
    graded = [
        i
        for i, cell in enumerate(cells)
        if cell["cell_type"] == "code" and cell["metadata"].get("nbgrader", {}).get("grade")
    ]
    assert failed == graded[:1] and not lab.complaints
    (error,) = (out for out in cells[failed[0]]["outputs"] if out["output_type"] == "error")
    traceback = lab.page.locator(".jp-OutputArea-output", has_text="NotImplementedError").text_content()
    assert (
        error["ename"] == "NotImplementedError"
        and "# YOUR CODE HERE" in traceback
        and len(traceback.splitlines()) < 40
    )
    told.append(
        f"{notebook.stem}, the student's: stops in {lab.seconds:.0f} s at "
        f"{cells[failed[0]]['metadata']['nbgrader']['grade_id']}, where the page says what is to be written"
    )


WIDGETS = (
    """
import altair, pandas
from sdlab.show import setup, slider_view, trace_explorer
setup()
def picture(value):
    chart = altair.Chart(pandas.DataFrame({"a": [value]}), title=f"value {value}").mark_point().encode(x="a")
    return chart.properties(description=str(1 / (value - 4)))
slider_view(picture, [1, 2, 3, 4, 5], "level", start=2, live=True)
""",
    """
trace_explorer(pandas.DataFrame([{"problem_id": p, "context": "none", "generation": g, "completion": f"wait, {p} {g}"} for p in "abc" for g in (0, 1)]))
""",
    """
import ipywidgets
from IPython.display import display
from sdlab.show.progress import show_in_place
from sdlab.show.view import View
from sdlab.show.widgets import leave_keys
button, pressed = ipywidgets.Button(description="once more"), [0]
display(button)
handle = show_in_place(View("pressed 0 times"))
def more(_):
    pressed[0] += 1
    handle.update(View(f"pressed {pressed[0]} times"))
button.on_click(more)
leave_keys();
""",
)


@pytest.mark.browser
def test_a_live_slider_redraws_and_shows_what_went_wrong(open_lab, tmp_path, told):
    lab = open_lab(made(tmp_path / "widgets.ipynb", *WIDGETS))
    lab.run_all()
    assert not lab.errors() and not lab.complaints
    told.append("a live slider, a trace explorer and a button: " + "; ".join(play(lab)))
    assert lab.page.get_by_text("pressed 3 times").count() == 1
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


PREDICTIONS = (
    """
import time
from sdlab.show import guesses_summary, predict, reveal, setup
setup()
early = predict("Early?", ["yes", "no"])
""",
    """
with reveal("Which?", ["a", "b", "c"]) as guess:
    time.sleep(3)
    print("the outcome")
    guess.answer, early.answer = "b", "no"
""",
    """
guesses_summary()
""",
)
OUTCOME = "pre:has-text('the outcome')"


def fieldset(page, question: str):
    return page.locator("fieldset", has_text=question)


@pytest.mark.browser
def test_a_guess_is_kept_while_the_cell_runs_and_compared_at_the_end(open_lab, tmp_path, told):
    lab = open_lab(made(tmp_path / "predictions.ipynb", *PREDICTIONS))
    page = lab.page
    lab.start_all()
    fieldset(page, "Which?").get_by_text("appears here when the cell has finished").wait_for()
    fieldset(page, "Which?").get_by_label("b").check()  # the result is not there yet
    lab.wait_until_run()
    assert not lab.errors() and not lab.complaints
    box = fieldset(page, "Which?")
    assert box.get_by_label("b").is_checked() and not page.locator(OUTCOME).is_visible()
    page.get_by_text("You guessed 1 of 1 right; 1 without a guess.").wait_for()
    fieldset(page, "Early?").get_by_label("yes").check()
    page.get_by_text("You guessed 1 of 2 right.").wait_for()
    box.locator("summary").click()
    assert page.locator(OUTCOME).is_visible()
    after = "e => getComputedStyle(e.querySelector('details span'), '::after').content"
    assert "guessed right" in box.evaluate(after)
    box.get_by_label("a").check()
    assert "something else" in box.evaluate(after)
    told.append("predictions: " + "; ".join(play(lab)))


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_a_page_without_a_kernel_folds_the_result_and_prints_it(scripts, browser, tmp_path):
    from sdlab.show import reveal

    with reveal("Which?", ["a", "b"], answer="a") as guess:
        print("the outcome")
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><body>{guess.view().html}</body>")
    page = browser.new_page(java_script_enabled=scripts)
    try:
        page.goto((tmp_path / "page.html").as_uri())
        assert not page.locator(OUTCOME).is_visible()
        page.emulate_media(media="print")
        assert page.locator(OUTCOME).bounding_box()["height"] > 10
        page.emulate_media(media="screen")
        page.get_by_label("a").check()
        page.locator("summary").press("Enter")
        assert page.locator(OUTCOME).is_visible()
        if scripts:
            page.reload()
            assert page.get_by_label("a").is_checked()
    finally:
        page.close()


DRAWING = (
    """
from sdlab.show import draw_guess, guesses_summary, setup
setup()
curve = draw_guess("The score?", [0, 10, 20], (0, 1), x_title="step", y_title="score")
""",
    """
curve.answer = [0.3, 0.6, 0.9]
""",
    """
guesses_summary()
""",
)
# From the first point on. A new point starts where its neighbour is, and a key moves it by 0.05.
KEYS = ["ArrowUp", "ArrowUp", "ArrowRight", "PageUp", "ArrowRight", "ArrowRight", "Home"]
CURVE = ["0.60", "0.85", "0.00"]
VALUES = "all => all.map(e => e.getAttribute('aria-valuetext'))"


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_curve_drawn_by_keyboard_is_kept_and_compared(theme, open_lab, tmp_path, told):
    lab = open_lab(made(tmp_path / f"drawing_{theme[-4:].strip()}.ipynb", *DRAWING))
    page = lab.page
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    try:
        lab.run_all()
        assert not lab.errors() and not lab.complaints
        box = fieldset(page, "The score?")
        points, result = box.get_by_role("slider"), box.locator(".result")
        assert points.evaluate_all(VALUES) == ["not drawn"] * 3
        reach(lab, points.first)
        for key in KEYS:
            press(lab, key)
        assert points.evaluate_all(VALUES) == CURVE
        assert points.nth(2).evaluate("e => document.activeElement === e")
        assert points.nth(2).get_attribute("aria-label") == "step 20, point 3 of 3"
        ring = points.nth(2).locator(".ring")
        assert ring.is_visible() and not points.first.locator(".ring").is_visible()
        colours = (
            "e => [getComputedStyle(e).stroke, getComputedStyle(e.closest('.jp-Notebook')).backgroundColor]"
        )
        assert contrast(*ring.evaluate(colours)) >= 3  # WCAG 2, of a control
        assert not result.is_visible() and not box.get_by_role("table").is_visible()
        box.locator("summary").press("Enter")
        assert result.is_visible() and box.get_by_role("table").is_visible()
        assert contrast(*result.locator("path").last.evaluate(colours)) >= 3
        points.first.press("ArrowUp")  # an open result ends the drawing
        assert points.evaluate_all(VALUES) == CURVE
        # |0.6 - 0.3|, |0.85 - 0.6| and |0 - 0.9|: 1.45 / 3
        line = "On average your curve is 0.48 away from the result. ✗ The direction is wrong: "
        line += "your curve falls, the result rises."
        assert line in box.inner_text()
        assert page.locator("tr[data-drawing] td:last-child").inner_text() == line
        page.get_by_text("You drew 1 of 1 curve.").wait_for()
        assert not charts_without_words(lab) and not lab.complaints
        told.append(f"a curve, {theme}: drawn by keyboard, revealed and compared")
    finally:
        page.evaluate(
            "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
        )


@pytest.mark.browser
def test_a_curve_drawn_by_mouse_or_touch_passes_through_the_points_it_crosses(browser, tmp_path):
    from sdlab.show import draw_guess

    curve = draw_guess("The score?", [0, 10, 20], (0, 1))
    curve.answer = [0.3, 0.6, 0.9]
    (tmp_path / "page.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body>{curve.view().html}</body>"
    )
    first, _, last = curve.spec()["x"]
    for touch in (False, True):
        context = browser.new_context(has_touch=touch)
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        box = page.locator("svg").bounding_box()  # as wide as its viewBox, so a pixel is a unit
        bottom, top = curve._height(0), curve._height(1)
        way = [(first - 10, bottom), (last + 10, top)]
        drag(context, page, [(box["x"] + x, box["y"] + y) for x, y in way], touch)
        slope = 10 / (last - first + 20)
        low, middle, high = (float(value) for value in page.get_by_role("slider").evaluate_all(VALUES))
        assert middle == 0.5 and abs(low - slope) < 0.011 and abs(high - 1 + slope) < 0.011
        page.reload()
        assert page.get_by_text("3 of 3 points drawn.").is_visible()
        page.get_by_role("button", name="Clear").click()
        assert page.get_by_text("0 of 3 points drawn.").is_visible()
        context.close()


def drag(context, page, way, touch: bool) -> None:
    """Press at the first place of `way`, go to the last and let go."""
    (x0, y0), (x1, y1) = way
    if not touch:
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1, steps=2)
        page.mouse.up()
        return
    protocol = context.new_cdp_session(page)
    places = [[{"x": x0, "y": y0}], [{"x": (x0 + x1) / 2, "y": (y0 + y1) / 2}], [{"x": x1, "y": y1}], []]
    for kind, points in zip(["touchStart", "touchMove", "touchMove", "touchEnd"], places, strict=True):
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.browser
def test_without_scripts_a_drawing_has_its_question_and_its_result(browser, tmp_path):
    from sdlab.show import draw_guess

    curve = draw_guess("The score?", [0, 10, 20], (0, 1))
    curve.answer = [0.3, 0.6, 0.9]
    (tmp_path / "page.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body>{curve.view().html}</body>"
    )
    page = browser.new_page(java_script_enabled=False)
    page.goto((tmp_path / "page.html").as_uri())
    assert page.get_by_text("Think of the curve").is_visible() and not page.get_by_role("slider").count()
    assert not page.get_by_role("table").is_visible() and not page.locator(".result").is_visible()
    page.emulate_media(media="print")
    assert page.get_by_role("table").bounding_box()["height"] > 10 and page.locator(".result").is_visible()
    page.emulate_media(media="screen")
    page.locator("summary").press("Enter")
    assert page.get_by_text("rises from 0.30 to 0.90").is_visible() and page.locator(".result").is_visible()
    page.close()


EXPLORER = """
from sdlab.explore.frame import explorer_view
from sdlab.world.splits import load_split
explorer_view(load_split("in-domain", limit=1)[0])
"""


@pytest.mark.browser
def test_the_explorer_answers_in_a_frame_of_the_notebook(open_lab, tmp_path, told):
    lab = open_lab(made(tmp_path / "explorer.ipynb", EXPLORER))
    lab.run_all()
    assert not lab.errors()
    frame = lab.page.frame_locator("iframe[title^='The explorer']")
    frame.get_by_role("button", name="Draw a problem").click()
    frame.get_by_role("button", name="Ask the models").click()
    frame.locator("#columns").get_by_text("The answer is").first.wait_for(timeout=PATIENCE * 1000)
    told.append("the explorer in a frame: a problem was drawn and the models answered it")


TRAINING = (
    """
from sdlab.rollout.loading import load_engine
from sdlab.show import LiveBoard
from sdlab.runs.folder import open_run
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.world.splits import load_split
problems, config = load_split("train", limit=64), GRPOConfig(steps=1000, num_problems=8, num_generations=4, max_completion_length=96)
""",
    """
board = LiveBoard(("reward", "length"), title="stopped by hand", interval=0)
with open_run("stopped", config, method="grpo", model="organism") as run:
    rows = run_grpo(load_engine("organism"), problems, config, run=run, on_step=board.update)
""",
    """
print("returned", len(rows), "rows")
""",
    """
def stop(row):
    raise KeyboardInterrupt
with open_run("stopped", config, method="grpo", model="organism") as run:
    more = run_grpo(load_engine("organism"), problems, config, run=run, on_step=stop)
print("went on to", len(more), "rows")
""",
)


def said(lab, cell: int) -> str:
    return "".join("".join(out.get("text", "")) for out in lab.cells()[cell]["outputs"])


def by_toolbar(lab) -> None:
    lab.page.locator(
        ".jp-NotebookPanel-toolbar [data-jp-item-name='interrupt'] :is(button, jp-button)"
    ).first.click()


def by_keys(lab) -> None:
    lab.page.evaluate(
        "() => { const book = window.jupyterapp.shell.currentWidget.content; book.mode = 'command'; "
        "book.node.focus() }"
    )
    lab.page.keyboard.press("i")
    lab.page.keyboard.press("i")


def stop_button(lab):
    return lab.page.get_by_role("button", name="Stop after this step")


def press_stop(lab, key: str) -> None:
    stop_button(lab).wait_for()
    reach(lab, stop_button(lab))
    active = lab.page.evaluate(ACTIVE)
    lab.page.keyboard.press(key)
    # The button vanishes, so its cell has the focus after that; the keys went to nothing else.
    assert lab.page.evaluate("() => document.activeElement.classList.contains('jp-CodeCell')")
    assert (
        lab.page.evaluate(ACTIVE) == active
        and lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.mode") == "command"
    )


CONTRAST = """e => { const light = css => { const [r, g, b] = css.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    return .2126 * r + .7152 * g + .0722 * b + .05 }; const s = getComputedStyle(e), a = light(s.color), b = light(s.backgroundColor); return Math.max(a, b) / Math.min(a, b) }"""


def in_the_dark(lab) -> None:
    change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    stop_button(lab).wait_for()
    lab.page.evaluate(change, "JupyterLab Dark")
    try:
        lab.page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
        ratio = stop_button(lab).evaluate(CONTRAST)  # WCAG 2, of text and background
        assert ratio >= 4.5, f"the button's words have a contrast of {ratio:.1f}"
        stop_button(lab).click()
    finally:
        lab.page.evaluate(change, "JupyterLab Light")


WAYS = {
    "the toolbar's button": by_toolbar,
    "the keys I, I": by_keys,
    "the board's button": lambda lab: stop_button(lab).click(),
    "the board's button, dark theme": in_the_dark,
    "the board's button, Tab and Enter": lambda lab: press_stop(lab, "Enter"),
    "the board's button, Tab and Space": lambda lab: press_stop(lab, "Space"),
}


@pytest.mark.browser
@pytest.mark.parametrize("way", WAYS)
def test_stopping_a_training_cell_keeps_what_there_is(way, open_lab, server, tmp_path, told):
    name = re.sub(r"\W+", "_", way)
    folder = server[1] / name
    cells = [source.replace('"stopped"', f'"{name}"') for source in TRAINING]
    lab = open_lab(made(tmp_path / f"{name}.ipynb", *cells))
    lab.start_all()
    board = lab.page.locator(".jp-OutputArea-output", has_text="stopped by hand, step")
    for at_least in (r"\d", r"([2-9]|\d\d)"):  # the board is drawn in place while the cell is running
        board.get_by_text(re.compile(rf"stopped by hand, step {at_least}")).wait_for(timeout=PATIENCE * 1000)
    assert lab.page.evaluate("window.ran") is None and board.count() == 1
    WAYS[way](lab)
    lab.wait_until_run()
    assert not lab.errors() and not lab.complaints
    assert not lab.page.get_by_role("button", name=re.compile("^Stop")).count() and "widget" not in str(
        lab.cells()
    )  # nothing of the button stays
    rows = int(re.search(r"returned (\d+) rows", said(lab, 2))[1])
    remark = ", stopped by you here" if "board" in way else ""
    last = f"stopped by hand, step {rows - 1}{remark}:"
    assert 3 <= rows < 1000 and board.get_by_text(last).count() == 1  # the last step is on the board
    # The folder was whole: a later cell took the run up where it was and made one step more.
    assert int(re.search(r"went on to (\d+) rows", said(lab, 3))[1]) == rows + 1
    run = load_run(folder)
    assert (
        list(run.steps["step"]) == list(range(rows + 1))
        and not run.finished
        and set(run.samples()["step"]) == set(range(rows + 1))
    )
    told.append(f"training stopped by {way}: {rows} steps returned, {rows + 1} in the folder after going on")


@pytest.mark.browser
def test_where_a_press_would_not_be_heard_there_is_no_button(open_lab, tmp_path):
    cells = [
        source.replace('"stopped"', '"no_subshells"').replace("steps=1000", "steps=6")
        for source in TRAINING[:3]
    ]
    lab = open_lab(made(tmp_path / "no_subshells.ipynb", *cells))
    lab.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.commsOverSubshells = 'disabled' }"
    )
    lab.page.evaluate("""() => { window.buttons = 0; window.frames_seen = 0; const look = () => {
        window.buttons += [...document.querySelectorAll('.jp-OutputArea button')].filter(e => getComputedStyle(e).display !== 'none').length
        window.frames_seen += 1; requestAnimationFrame(look) }; look() }""")  # every picture the page shows
    lab.run_all()
    assert not lab.errors() and not lab.complaints and "returned 6 rows" in said(lab, 2)
    assert lab.page.evaluate("window.frames_seen") > 20
    assert lab.page.evaluate("window.buttons") == 0 and "widget" not in str(lab.cells())


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
                    if not (
                        picture.get("alt") or picture.get("aria-label") or picture.get("title") or ""
                    ).strip():
                        silent.append(f"{notebook.stem} cell {i}: {str(picture)[:80]}")
    assert not silent and pictures > len(NOTEBOOKS)
