"""Pages on a dark screen: charts are turned dark, heat maps of tokens dimmed; both can still be read."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from markupsafe import Markup
from nbformat.v4 import new_output
from notebook_maker import make

from sdlab.charts import picture, style
from sdlab.files import write_atomic
from sdlab.show import heatmap
from sdlab.show.view import DARK
from sdlab.walkthrough import render, report
from sdlab.walkthrough.record import templates
from sdlab.walkthrough.slides import Slide

TEMPLATES = Path(render.__file__).parent / "templates"
TURN = re.compile(r"\{ filter: invert\(([.\d]+)\) hue-rotate\(180deg\); \}")
DIM = re.compile(r"\{ filter: brightness\(([.\d]+)\); \}")
# hue-rotate(180deg) of https://www.w3.org/TR/filter-effects-1/#feColorMatrixElement
LUMINANCE = np.array([0.213, 0.715, 0.072])
HALF_TURN = 2 * np.tile(LUMINANCE, (3, 1)) - np.eye(3)
FAINT_TOO = {"#F0E442"}  # yellow has a low contrast on white, too


def channels(colour: str) -> np.ndarray:
    """The red, green and blue of a colour (hex), from 0 to 1."""
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def css(name: str = "style.css") -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def turned(colour: str) -> np.ndarray:
    """The colour (hex) after the filter of charts."""
    amount = float(TURN.search(css())[1])
    inverted = channels(colour) * (1 - amount) + (1 - channels(colour)) * amount
    return np.clip(HALF_TURN @ inverted, 0, 1)


def dimmed(colour: str) -> np.ndarray:
    """The colour (hex) after the filter of heat maps."""
    return float(DIM.search(css())[1]) * channels(colour)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast of two colours, as WCAG 2 defines it."""
    low, high = sorted(
        float(np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
        for c in (one, other)
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("rule", [TURN, DIM], ids=["charts", "heat maps"])
def test_report_and_slides_have_the_same_filters_and_print_has_none(rule):
    pages = [css(name) for name in ("style.css", "slides.html")]
    found = [rule.search(page) for page in pages]
    assert all(found) and found[0][0] == found[1][0]
    for page, one in zip(pages, found, strict=True):
        media = re.findall(r"@media ([^{]+)\{", page[: one.start()])[-1]
        assert media.strip() == "screen and (prefers-color-scheme: dark)"


def test_jupyterlab_and_the_documentation_turn_charts_by_the_same_filter():
    """What the other tests say of the filter then holds there, too."""
    documentation = (Path(__file__).parents[1] / "docs" / "dark.css").read_text(encoding="utf-8")
    for page in (css(), documentation, picture.IN_DARK):
        assert "@media screen" in page and f"filter:{picture.TURN}" in page.replace("filter: ", "filter:")
    assert '[data-md-color-scheme="slate"]' in documentation
    assert "[data-jp-theme-light=false] .sdlab-chart{" in picture.IN_DARK
    html = picture.picture_html('<svg width="1" height="2"/>', "abc", "words")
    assert html.count('class="sdlab-chart"') == 2 and html.startswith(picture.IN_DARK)


def test_colours_of_charts_keep_their_contrast():
    """3 for lines and dots, 4.5 for letters (WCAG 2)."""
    card = turned("#ffffff")
    colours = {*picture.OKABE_ITO, *style.METHOD_COLOURS.values(), style.WINE, style.GREY} - FAINT_TOO
    assert not [colour for colour in colours if contrast(turned(colour), card) < 3]
    assert min(contrast(turned(colour), card) for colour in (picture.INK, picture.MUTED)) > 4.5


@pytest.mark.parametrize("diverging", [True, False])
def test_tokens_can_be_read_on_every_tint(diverging):
    ink = dimmed(DARK)
    for share in np.linspace(-1 if diverging else 0, 1, 21):
        assert contrast(ink, dimmed(heatmap._tint(share, diverging))) > 4.5, share


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def pages(tmp_path):
    """A page of the report and a page of slides, each with one chart and one heat map."""
    import altair as alt
    import pandas

    chart = picture.chart_html(
        alt.Chart(pandas.DataFrame({"a": [1], "b": [2]})).mark_point().encode(x="a", y="b")
    )
    tokens = heatmap.token_heatmap(["A", " is", " 3"], [0.0, -1.0, 2.0])._repr_html_()
    notebook = make("")
    notebook.cells[-1].outputs = [new_output("display_data", {"text/html": one}) for one in (chart, tokens)]
    path = tmp_path / "00_test.ipynb"
    write_atomic(path, "")
    line = report.Entry(path, "Test", "")
    slides = templates().get_template("slides.html")
    return (
        write_atomic(tmp_path / "page.html", report._page(line, notebook, [line], "")),
        write_atomic(
            tmp_path / "slides.html",
            slides.render(title="T", slides=[Slide("H", "l", Markup(chart + tokens))], total=1),
        ),
    )


@pytest.mark.browser
@pytest.mark.parametrize(
    ("scheme", "media", "low", "high"),
    [("dark", "screen", 0, 40), ("light", "screen", 250, 255), ("dark", "print", 250, 255)],
)
def test_a_chart_is_as_dark_as_its_page(browser, pages, scheme, media, low, high):
    page = browser.new_page(color_scheme=scheme, viewport={"width": 900, "height": 2000})
    page.emulate_media(color_scheme=scheme, media=media)
    for path in pages:
        page.goto(path.as_uri())
        assert low <= background(page.locator("object")) <= high, path.name
        sheet = background(page.locator('div[style*="background:#ffffff"]'))
        assert (sheet < 240) == (high == 40) and sheet > 220, path.name
    page.close()


def background(element) -> float:
    """The median brightness of the pixels of an element, from 0 to 255."""
    from PIL import Image

    with Image.open(io.BytesIO(element.screenshot())) as picture:
        return float(np.median(np.asarray(picture.convert("L"))))
