"""Tables without an index: two decimals, intervals in the cell, text escaped, groups in their order."""

import pandas
from bs4 import BeautifulSoup

from sdlab.measure.evaluation import summarise
from sdlab.show import interval_table, score_table, setup, table


def cells(view) -> list[list[str]]:
    page = BeautifulSoup(view.html, "html.parser")
    return [[cell.get_text() for cell in row(["th", "td"])] for row in page("tr")]


def test_numbers_have_two_decimals_and_text_is_escaped():
    frame = pandas.DataFrame({"a_name": ["<b>x</b>"], "share": [0.125], "count": [13054], "right": [True]})
    view = table(frame, {"share": "the share"})
    assert cells(view) == [["a name", "the share", "count", "right"], ["<b>x</b>", "0.12", "13,054", "yes"]]
    assert not BeautifulSoup(view.html, "html.parser").find("b") and "0.12" in view.text
    odd = pandas.DataFrame({"x": [float("nan"), float("inf"), -float("inf")]})
    assert cells(table(odd)) == [["x"], [""], ["∞"], ["-∞"]]


def test_a_plain_table_of_a_notebook_has_two_decimals():
    with pandas.option_context("display.float_format", None, "display.max_colwidth", 50):
        setup()
        page = pandas.DataFrame({"x": [1.0, -0.125, 0.0625]}, index=pandas.Index([0.7, 1, 1.4]))._repr_html_()
    found = [
        [cell.get_text() for cell in row(["th", "td"])] for row in BeautifulSoup(page, "html.parser")("tr")
    ]
    assert found == [["", "x"], ["0.70", "1.00"], ["1.00", "-0.12"], ["1.40", "0.06"]]


def rows(model: str, split: str, rewards) -> pandas.DataFrame:
    return pandas.DataFrame(
        {"problem_id": range(len(rewards)), "model": model, "split": split, "reward": rewards}
    )


def test_a_score_has_its_interval_in_the_cell_and_is_never_called_reward():
    frame = pandas.concat([rows("sft_guided", "b", [1.0, 0.0] * 8), rows("base", "a", [1.0] * 16)])
    head, first, second = cells(score_table(frame, ["split", "model"], ["reward"]))
    assert head == ["split", "model", "score"]
    assert first[:2] == ["b", "SFT, guided"] and second == ["a", "base", "1.00 [0.79, 1.00]"]
    summary = summarise(frame[frame["split"] == "b"], "model", ["reward"]).iloc[0]
    assert first[2] == f"0.50 [{summary['low']:.2f}, {summary['high']:.2f}]"
    assert cells(interval_table(summarise(frame, "model", ["reward"]), "model")) == [
        ["model", "score"],
        ["SFT, guided", first[2]],
        ["base", "1.00 [0.79, 1.00]"],
    ]
