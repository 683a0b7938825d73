"""A curve that the reader draws: its axes and points, its folded result, and a viewer without scripts."""

import json
import math

import pytest
from bs4 import BeautifulSoup

from sdlab.errors import SdlabError
from sdlab.show import draw_guess, guesses, guesses_summary, predict

HOSTILE = "</details><script>x()</script> & 'q' \"d\" {{ 1 + 1 }}"
POINTS = "svg [role=slider]"


@pytest.fixture(autouse=True)
def no_questions():
    guesses.ASKED.clear()


def soup(view) -> BeautifulSoup:
    return BeautifulSoup(view.html, "html.parser")


def places(page: BeautifulSoup) -> list[tuple[float, float]]:
    """Where the result's marks are in the picture."""
    return [(float(mark["x"]) + 4, float(mark["y"]) + 4) for mark in page.select("svg .result > rect")[1:]]


def test_every_point_is_a_slider_with_its_position():
    curve = draw_guess("The score?", [0, 10, 20], (-1, 1), x_title="step", y_title="score")
    page = soup(curve.view())
    assert page.fieldset.legend.get_text() == "Predict first: The score?"
    points = page.select(POINTS)
    labels = ["step 0, point 1 of 3", "step 10, point 2 of 3", "step 20, point 3 of 3"]
    assert [point["aria-label"] for point in points] == labels
    assert [point["tabindex"] for point in points] == ["0", "-1", "-1"]  # one stop of the Tab key
    for point in points:
        values = [float(point[f"aria-value{name}"]) for name in ("min", "now", "max")]
        assert values == [-1, 0, 1] and point["aria-valuetext"] == "not drawn"
    assert page.svg["aria-label"] == "The score? Axes: step and score."
    assert not page.select("details, .result") and "A later cell shows the result." in page.get_text()
    assert "score from -1 to 1, at step 0, 10, 20." in page.select_one("[data-part=how]").get_text()


def test_the_result_is_folded_and_complete_without_scripts(capsys):
    curve = draw_guess("The score?", [0, 10, 20], (0, 1), x_title="step")
    curve.answer = [0.25, 0.5, 0.751]
    page = soup(curve.view())
    (details,) = page.select("fieldset > details")
    assert not details.has_attr("open") and details.strong.get_text() == "rises from 0.25 to 0.75"
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in details.select("tr")]
    assert rows[:2] == [["step", "0", "10", "20"], ["result", "0.25", "0.50", "0.75"]]
    assert "Result: rises from 0.25 to 0.75\n0: 0.25; 10: 0.50; 20: 0.75" in capsys.readouterr().out


def test_the_scales_are_linear_and_a_logarithm_when_asked_for():
    curve = draw_guess("Even?", [0, 1, 4], (0, 4))
    curve.answer = [0, 1, 4]
    (x0, y0), (x1, y1), (x2, y2) = places(soup(curve.view()))
    assert math.isclose((x1 - x0) / (x2 - x0), 1 / 4, abs_tol=0.001)
    assert y0 > y1 > y2 and math.isclose((y1 - y0) / (y2 - y0), 1 / 4, abs_tol=0.001)
    curve = draw_guess("Log?", [1, 8, 512], (0, 1), log_x=True)
    curve.answer = [0, 0, 0]
    (x0, _), (x1, _), (x2, _) = places(soup(curve.view()))
    assert math.isclose((x1 - x0) / (x2 - x0), 3 / 9, abs_tol=0.001)  # 2**3 and 2**9


def test_a_result_outside_the_axis_makes_it_longer_and_not_the_range_to_draw_in():
    curve = draw_guess("The change?", [1, 2], (-0.5, 0.5))
    before = curve.spec()
    curve.answer = [-0.62, 0.1]
    after = curve.spec()
    assert (before["low"], before["high"]) == (-0.5, 0.5)
    assert after["low"] < -0.62 and after["high"] == 0.5 and (after["min"], after["max"]) == (-0.5, 0.5)
    heights = [y for _, y in places(soup(curve.view()))]
    assert after["top"] <= heights[1] < heights[0] < after["top"] + after["tall"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([0.5, 0.9, 0.55], "stays level from 0.50 to 0.55"),  # 0.05 of the axis
        ([0.5, 0.1, 0.56], "rises from 0.50 to 0.56"),
        ([0.5, 0.9, 0.44], "falls from 0.50 to 0.44"),
    ],
)
def test_the_direction_is_that_from_the_first_point_to_the_last(answer, words):
    curve = draw_guess("The score?", [1, 2, 3], (0, 1))
    curve.answer = answer
    assert curve.result == words


@pytest.mark.parametrize(
    ("ends", "step", "digits"), [((0, 1), 0.05, 2), ((0, 30), 1, 0), ((0, 300), 10, 0), ((2, 2.1), 0.005, 3)]
)
def test_a_key_moves_a_point_by_a_round_number(ends, step, digits):
    spec = draw_guess("How long?", [1, 2], ends).spec()
    assert spec["step"] == pytest.approx(step) and spec["digits"] == digits


def test_every_text_is_escaped():
    curve = draw_guess(HOSTILE, [1, 2], (0, 1), x_title=HOSTILE, y_title=HOSTILE)
    curve.answer = [0.1, 0.2]
    for view in (curve.view(), guesses_summary()):
        page = soup(view)
        assert len(page.find_all("script")) == 1 and HOSTILE in page.get_text()
        assert "x()" not in page.script.get_text()
    page = soup(curve.view())
    assert len(page.select("fieldset > details")) == 1 and HOSTILE in page.svg["aria-label"]
    assert json.loads(page.svg["data-spec"])["answer"] == [0.1, 0.2]


def test_the_summary_has_a_row_for_each_kind_of_question_in_order():
    curve = draw_guess("The score?", [1, 2], (0, 1))
    choice = predict("Which?", ["a", "b"])
    draw_guess("Never answered?", [1, 2], (0, 1))
    curve.answer, choice.answer = [0.8, 0.2], "a"
    view = guesses_summary()
    rows = soup(view).select("tbody tr")
    texts = [[cell.get_text() for cell in row("td")] for row in rows]
    first = ["The score?", "falls from 0.80 to 0.20", "not recorded"]
    assert texts == [first, ["Which?", "a", "not recorded"]]
    assert json.loads(rows[0]["data-drawing"]) == json.loads(json.dumps(curve.spec()))
    assert "The score? Result: falls from 0.80 to 0.20\nWhich? Result: a" in view.text


def test_the_same_question_keeps_its_name():
    names = {draw_guess("Q?", [1, 2], ends).name for ends in ((0, 1), [0.0, 1.0], (0, 2))}
    assert len(names) == 2 and names == set(guesses.ASKED)


@pytest.mark.parametrize("xs", [[], [1], [1, 1], [2, 1], [1, math.nan], ["1", "2"], "12", None])
def test_positions_that_make_no_axis_are_refused(xs):
    with pytest.raises(SdlabError, match="xs of 'Q\\?' are .*; they must be two or more finite, increasing"):
        draw_guess("Q?", xs, (0, 1))
    assert guesses.ASKED == {}


@pytest.mark.parametrize("ends", [(1, 0), (1, 1), (0, math.inf), (0,), (0, 1, 2), "01", None])
def test_a_range_that_does_not_increase_is_refused(ends):
    with pytest.raises(SdlabError, match="y_range of 'Q\\?' is .*; it must be two finite, increasing"):
        draw_guess("Q?", [1, 2], ends)


def test_a_logarithmic_axis_without_positive_numbers_is_refused():
    with pytest.raises(SdlabError, match="begin with 0; a logarithmic axis needs numbers above 0"):
        draw_guess("Q?", [0, 8], (0, 1), log_x=True)


@pytest.mark.parametrize("answer", [[], [0.1], [0.1, 0.2, 0.3], [0.1, math.nan], [0.1, math.inf], "ab", None])
def test_an_answer_that_is_no_curve_is_refused_and_shows_nothing(answer):
    curve = draw_guess("Q?", [1, 2], (0, 1))
    with pytest.raises(SdlabError, match=r"answer of 'Q\?' is .*; it must be 2 finite numbers, one for each"):
        curve.answer = answer
    assert curve.answer is None and not soup(curve.view()).select("details")
