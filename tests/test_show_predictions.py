"""Predict, then reveal: what is captured, how it is folded, and what a viewer without scripts reads."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from patience import PATIENCE

from sdlab.errors import SdlabError
from sdlab.show import guesses, guesses_summary, predict, predictions, reveal

HOSTILE = "</details><script>x()</script> & 'q' \"d\""


@pytest.fixture(autouse=True)
def no_questions():
    guesses.ASKED.clear()


def soup(view) -> BeautifulSoup:
    return BeautifulSoup(view.html, "html.parser")


def test_the_result_is_folded_below_the_question(capsys):
    with reveal("Which falls first?", ["markers", "score", "both"]) as guess:
        print("seen", HOSTILE)
        guess.answer = "score"
    page = soup(guess.view())
    assert page.fieldset.legend.get_text() == "Predict first: Which falls first?"
    radios = page.select("fieldset > label > input[type=radio]")
    assert [one["value"] for one in radios] == ["0", "1", "2"]
    assert len({one["name"] for one in radios}) == 1 and not page.select("input[checked]")
    (details,) = page.select("fieldset > details")
    assert not details.has_attr("open") and details.summary.get_text() == "Show the result"
    assert details.strong.get_text() == "score" and details.pre.get_text().strip() == f"seen {HOSTILE}"
    outside = page.get_text().replace(details.get_text(), "")
    assert "score" in outside and "seen" not in outside  # an option, but not the result
    assert "Result: score\nseen" in capsys.readouterr().out  # a terminal shows the same


def test_every_text_is_escaped():
    with reveal(HOSTILE, [HOSTILE, "b"], answer=HOSTILE) as guess:
        pass
    for view in (guess.view(), guesses_summary()):
        page = soup(view)
        assert len(page.find_all("script")) == 1 and HOSTILE in page.get_text()
        assert "x()" not in page.script.get_text()
    assert len(soup(guess.view()).select("fieldset > details")) == 1


def test_the_marks_of_right_and_wrong_belong_to_the_answer():
    with reveal("Which?", ["a", "b"], answer="b") as guess:
        pass
    rules = {
        line.split("{")[0]: line
        for line in soup(guess.view()).style.get_text().split("}")
        if "::after" in line
    }
    right = [line for selector, line in rules.items() if 'value="1"' in selector]
    assert len(rules) == 2 and len(right) == 1 and "guessed right" in right[0]


def test_a_question_asked_early_gets_its_answer_later():
    guess = predict("Longer?", ["with", "without"])
    page = soup(guess.view())
    assert not page.select("details") and "A later cell shows the result." in page.get_text()
    guess.answer = "without"
    assert soup(guess.view()).details.strong.get_text() == "without"


def test_a_block_without_options_is_only_folded():
    with reveal("The training") as guess:
        print("curves")
    page = soup(guess.view())
    assert not page.select("input") and page.legend.get_text() == "The training"
    assert "curves" in page.details.get_text() and guesses.ASKED == {}


def test_an_error_in_the_block_shows_the_outputs_so_far():
    with pytest.raises(ZeroDivisionError), reveal("Which?", ["a", "b"]) as guess:
        print("before")
        guess.answer = "a"
        raise ZeroDivisionError
    details = soup(guess.view()).details
    assert details.has_attr("open") and "before" in details.get_text()


def test_wrong_questions_and_answers_are_refused():
    with pytest.raises(SdlabError, match="'c' is no option of 'Which\\?'; choose one of: a, b"):
        predict("Which?", ["a", "b"]).answer = "c"
    with pytest.raises(SdlabError, match="has no answer"), reveal("Which?", ["a", "b"]):
        pass
    for options in (["a"], ["a", "a"]):
        with pytest.raises(SdlabError, match="two or more different"):
            predict("Which?", options)
    with pytest.raises(SdlabError, match="has no options"):
        predict("Which?", [])


def test_the_summary_lists_every_answered_question_once():
    for answer in ("a", "b"):  # the cell is run twice
        with reveal("Which?", ["a", "b"], answer=answer):
            pass
    predict("Never answered?", ["a", "b"])
    rows = soup(guesses_summary()).select("tbody tr")
    assert [[cell.get_text() for cell in row("td")] for row in rows] == [["Which?", "b", "not recorded"]]
    assert (
        rows[0]["data-right"] == "1" and rows[0]["data-guess"] == predictions.Guess("Which?", ["a", "b"]).name
    )


CELLS = (
    """
import pandas, altair
from IPython.display import Markdown, SVG, display
from sdlab.show import Board, predict, reveal, setup
setup()
early = predict("Early?", ["yes", "no"])
""",
    """
with reveal("Which?", ["a", "b"]) as guess:
    print("first")
    display(altair.Chart(pandas.DataFrame({"x": [1]}), title="a title").mark_point().encode(x="x"))
    display(pandas.DataFrame({"column": ["<b>"]}))
    display(Markdown("so **bold** <script>"))
    display(SVG("<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>"))
    board = Board("sampling", "rows")
    for i in range(3): board(i, 2)
    print("last")
    early.answer, guess.answer = "no", "a"
""",
    """
import ipywidgets
with reveal("A widget?", ["a", "b"], answer="a"):
    display(ipywidgets.Button())
""",
)


@pytest.mark.slow
@pytest.mark.parametrize("headless", [True, False])
def test_a_kernel_keeps_every_kind_of_output_in_order(monkeypatch, headless):
    from nbclient import NotebookClient

    monkeypatch.setenv("SDLAB_HEADLESS", str(int(headless)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    NotebookClient(notebook, kernel_name="python3", timeout=PATIENCE, allow_errors=True).execute()
    asked, shown, refused = notebook.cells
    (question,) = asked.outputs
    assert BeautifulSoup(question.data["text/html"], "html.parser").details.strong.get_text() == "no"
    result, *rest = shown.outputs
    assert all(output.data == {"text/plain": ""} for output in rest)  # the bar, when somebody watched
    assert len(rest) == (0 if headless else 1)
    details = BeautifulSoup(result.data["text/html"], "html.parser").details
    text = details.get_text(" ")
    places = [text.index(part) for part in ("first", "<b>", "bold", "sampling: 2 of 2 rows", "last")]
    assert places == sorted(places)
    assert details.object["aria-label"] == details.object.img["alt"] == "a title."
    assert details.select("img[src^='data:image/svg+xml']") and not details.select("script, svg")
    assert details.find("table") and "Result: a" in result.data["text/plain"]
    assert refused.outputs[-1].ename == "SdlabError" and "in a cell of its own" in refused.outputs[-1].evalue
