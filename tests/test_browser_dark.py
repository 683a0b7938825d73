"""A notebook in JupyterLab's dark theme: charts are turned dark, and every text of a view can be read.

The theme is an attribute of the page, not a setting of the screen: the media query of the report does not see
it.
"""

import nbformat
import numpy as np
import pytest
from browser import Lab, chromium, jupyter_server
from nbformat.v4 import new_code_cell, new_notebook, new_output
from patience import PATIENCE
from pictures import letters_and_card

from sdlab.charts import picture

CHART = """
import altair, pandas
from sdlab.show import draw_guess, flipbook, guesses_summary, highlight_markers, LiveBoard, predict, reveal
from sdlab.show import score_table, setup, table, token_heatmap, trace_view
setup()
frame = pandas.DataFrame({"a": [1, 2], "b": [3, 1]})
chart = altair.Chart(frame, title="A title", width=200, height=120).mark_bar(color="#000000")
chart.encode(x="a", y="b")
"""
VIEWS = """
early = predict("What happens?", ["falls", "rises"])
drawn = draw_guess("The score?", [0, 10], (0, 1), x_title="step", y_title="score")
drawn.answer = [0.3, 0.6]
with reveal("Which?", ["a", "b"]) as guess:
    display(table(frame), frame)
    guess.answer, early.answer = "a", "rises"
text = "<think>\\nPerhaps 9. Wait. Check: no. Hmm.\\n</think>\\n\\nThe answer is 3"
rows = [{"problem_id": "p", "generation": 0, "completion": text, "context": context, "reward": reward}
        for context, reward in (("none", 1.0), ("solution", 0.0))]
display(trace_view(pandas.DataFrame(rows), "p"))
display(token_heatmap(["A", " is", " 3"], [0.0, -1.0, 2.0], title="log p", prompt_tokens=["A prompt"]))
display(flipbook({1: table(frame), 2: "two"}, label="level"), guesses_summary())
with LiveBoard(("reward",), steps=2) as board:
    board.update({"step": 0, "reward": 0.3})
"""
# Every piece of text in the outputs, with its colour and the colour behind it, both as they are on the page.
# What is disabled, and what is hidden from screen readers, has no text to read.
TEXTS = """() => {
    const parts = colour => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4)
    const over = ([r, g, b, a], back, share) =>
        [r, g, b].map((c, i) => c * a * share + back[i] * (1 - a * share))
    const opacity = e => e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1
    const behind = e => e
        ? over(parts(getComputedStyle(e).backgroundColor), behind(e.parentElement), opacity(e))
        : [255, 255, 255]
    const skipped = 'style, script, :disabled, [aria-hidden=true], object'
    const texts = []
    for (const output of document.querySelectorAll('.jp-OutputArea-output')) {
        const walk = document.createTreeWalker(output, NodeFilter.SHOW_TEXT)
        while (walk.nextNode()) {
            const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim().slice(0, 40)
            if (!text || e.closest(skipped)) continue
            if (!e.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})) continue
            const back = behind(e), colour = parts(getComputedStyle(e).color)
            texts.push([text, over(colour, back, opacity(e)), back])
        }
    }
    return texts }"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jupyter")
    with jupyter_server(folder) as address:
        yield address, folder / "tree"


@pytest.fixture
def lab(browser, server):
    """A notebook in the dark theme. Its first cell has a stored chart, which JupyterLab does not trust."""
    address, tree = server
    stored = picture.chart_html(chart("stored"))
    cells = [new_code_cell(source.strip()) for source in ("1", CHART, VIEWS)]
    cells[0].outputs = [new_output("display_data", {"text/html": stored, "text/plain": "stored"})]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tree / "dark.ipynb")
    lab = Lab(browser, address, "dark.ipynb")
    use(lab, "JupyterLab Dark")
    yield lab
    use(lab, "JupyterLab Light")
    lab.close()


def chart(title: str):
    import altair as alt
    import pandas

    data = alt.Chart(pandas.DataFrame({"a": [1, 2], "b": [3, 1]}), title=title, width=200, height=120)
    return data.mark_bar(color="#000000").encode(x="a", y="b")


def use(lab: Lab, theme: str) -> None:
    lab.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    dark = str("Dark" not in theme).lower()
    lab.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{dark}'", timeout=PATIENCE * 1000)


def contrast(one, other) -> float:
    """The contrast of two colours (red, green, blue up to 255), as WCAG 2 defines it."""
    low, high = sorted(
        float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
        for c in (np.asarray(one) / 255, np.asarray(other) / 255)
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
def test_in_the_dark_theme_charts_are_dark_and_every_text_can_be_read(lab):
    page = lab.page
    image = page.locator(".jp-OutputArea img[alt='stored.']")
    assert not page.locator("object").count()  # JupyterLab removes it from a notebook that it does not trust
    letters, card = letters_and_card(image.screenshot())
    assert min(card) == 255 and contrast(letters, card) > 7  # a white card: its style is removed, too
    page.evaluate(
        "() => { const book = window.jupyterapp.shell.currentWidget.content; book.activeCellIndex = 1 }"
    )
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    live = page.locator("object[aria-label='A title.']")
    live.wait_for(timeout=PATIENCE * 1000)
    lab.idle()
    for one in (live, image):  # one chart that ran turns the stored ones as well
        letters, card = letters_and_card(one.screenshot())
        assert max(card) < 40 and contrast(letters, card) > 7
    lab.run_all()
    assert not lab.errors() and not lab.complaints
    page.locator(".jp-OutputArea-output details").evaluate_all("all => all.forEach(e => { e.open = true })")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        use(lab, theme)
        texts = page.evaluate(TEXTS)
        faint = {text: round(contrast(colour, behind), 1) for text, colour, behind in texts}
        assert not {text: ratio for text, ratio in faint.items() if ratio < 4.5}
        said = " ".join(text for text, _, _ in texts)
        for part in (
            "falls",
            "Result: it",
            "your guess",
            "no context",
            "Perhaps",
            "A prompt",
            "level",
            "step 1 of 2",
        ):
            assert part in said, part
        letters, card = letters_and_card(live.screenshot())
        assert (max(card) < 40) == ("Dark" in theme) and contrast(letters, card) > 7
