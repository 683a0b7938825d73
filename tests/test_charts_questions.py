"""Charts against the number of training problems: what they say in words is what the table holds."""

import pandas
import pytest

from sdlab.charts.picture import svg_of
from sdlab.charts.questions import question_curves, transfer_points
from sdlab.errors import SdlabError


def table():
    rows = []
    for method, shift in (("grpo", 0.2), ("sdpo", -0.3)):
        for questions, count in (("8", 8), ("64", 64), ("all", 4096)):
            for split in ("training problems", "in-domain"):
                mean = 0.6 + shift + count / 40960
                rows.append(
                    {
                        "method": method,
                        "questions": questions,
                        "num_questions": count,
                        "split": split,
                        "metric": "reward",
                        "mean": mean,
                        "low": mean - 0.05,
                        "high": mean + 0.05,
                    }
                )
    return pandas.DataFrame(rows)


def test_curves_tell_every_number_in_the_order_of_the_counts():
    shuffled = table().sample(frac=1, random_state=0)
    chart = question_curves(shuffled, ("reward", "length"), ("training problems", "in-domain"))
    assert "GRPO, training problems: 0.80 at 8, 0.80 at 64, 0.90 at all" in chart.description
    assert "SDPO, in-domain: 0.30 at 8, 0.30 at 64, 0.40 at all" in chart.description
    assert len(chart.to_dict()["concat"]) == 1  # no panel for a metric without numbers
    ticks = chart.to_dict()["concat"][0]["layer"][0]["encoding"]["x"]["sort"]
    assert ticks == ["8", "64", "all"]


def test_a_live_run_is_a_diamond_and_the_untrained_model_a_line():
    live = table().query("method == 'sdpo' and questions == '8' and split == 'in-domain'")
    base = pandas.DataFrame([{"split": "in-domain", "metric": "reward", "mean": 0.7}])
    panel = question_curves(table(), ("reward",), ("in-domain",), live=live, base=base).to_dict()["concat"][0]
    marks = [layer["mark"] for layer in panel["layer"]]
    assert [mark.get("shape") for mark in marks].count("diamond") == 1 and marks[0]["type"] == "rule"
    without = question_curves(table(), ("reward",), ("in-domain",)).to_dict()["concat"][0]
    assert len(without["layer"]) == len(panel["layer"]) - 3
    assert svg_of(
        question_curves(table(), ("reward",), ("in-domain",), live=live, base=base).to_dict()
    ).startswith("<svg")


def test_transfer_is_told_with_signs():
    rows = [("chemistry: SDPO", "own test", 0.5), ("chemistry: SDPO", "hunts", -0.4)]
    chart = transfer_points(
        pandas.DataFrame(
            [{"label": a, "place": b, "mean": c, "low": c - 0.1, "high": c + 0.1} for a, b, c in rows]
        )
    )
    assert (
        chart.description
        == "chemistry: SDPO, own test: +0.50 (0.40 to 0.60); chemistry: SDPO, hunts: -0.40 (-0.50 to -0.30)"
    )
    assert svg_of(chart.to_dict()).startswith("<svg")


@pytest.mark.parametrize(
    "make",
    [
        lambda: question_curves(table(), ("entropy",)),
        lambda: question_curves(table().drop(columns="low")),
        lambda: transfer_points(table()),
    ],
)
def test_what_is_missing_is_named(make):
    with pytest.raises(SdlabError, match="empty frame|low not in the frame|label, place not in the frame"):
        make()
