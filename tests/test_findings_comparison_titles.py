"""Titles of charts that compare two groups: they state what the numbers say, and what they leave open."""

import pandas
import pytest

from sdlab.findings import comparison_titles as titles
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.intervals import Interval


def change(a: float, b: float, significant: bool = True) -> Comparison:
    return Comparison("reward", a, b, Interval(b - a, b - a, b - a), 100, significant, "")


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"length": change(9, 3), "reward": change(0, 1)}, "Guided: shorter, higher score"),
        (
            {"length": change(3, 9), "reward": change(0, 1, False)},
            "Guided: longer; no clear difference in score",
        ),
        (
            {"density": change(3, 9, False), "markers": change(1, 2, False)},
            "Guided: no clear difference in markers per 1,000 tokens and markers",
        ),
    ],
)
def test_what_differs_and_what_is_not_clear(changes, title):
    assert titles.differences_title("Guided", changes) == title


@pytest.mark.parametrize("gap", [0.0, 0.5, -0.5])
def test_a_title_follows_the_data(gap):
    """Ten problems: equal apart from noise, or clearly apart in one direction."""
    noise = [0.1, -0.1] * 5
    one, other = (
        pandas.DataFrame(
            {"problem_id": range(10), "length": [2 + step + sign * n for n in noise], "reward": 0.0}
        )
        for step, sign in ((0, 1), (gap, -1))
    )
    words = {0.0: "no clear difference in length", 0.5: "longer", -0.5: "shorter"}
    assert titles.differences_title("B", {"length": compare(one, other, "length")}) == f"B: {words[gap]}"


def test_scores_from_one_start():
    changes = {"SFT, unguided": change(0.8, 0.861, False), "SFT, guided": change(0.8, 0.38)}
    title = "In-domain score 0.80; SFT, unguided 0.86 (not significant); SFT, guided 0.38"
    assert titles.scores_title("In-domain", changes) == title
    gains = {"one nudge": change(0.38, 0.49), "two nudges": change(0.38, 0.39, False)}
    title = "SFT, guided: score 0.38, with one nudge 0.49, with two nudges 0.39 (not significant)"
    assert titles.gains_title("SFT, guided", gains) == title


def test_relative_changes_of_one_model_and_source():
    rows = [
        ("paper, AIME24", "sft_guided", -0.63, None, None),
        ("recorded, in-domain", "sft_unguided", 0.15, 0.1, 0.2),
        ("recorded, in-domain", "sft_guided", -0.36, -0.4, -0.3),
        ("recorded, unseen-types", "sft_guided", -0.04, -0.1, 0.02),
    ]
    frame = pandas.DataFrame(rows, columns=["who", "model", "change", "low", "high"])
    title = "Guided traces, recorded: score -36% in-domain, -4% on unseen types (not significant)"
    assert titles.relative_title(frame, "recorded", "sft_guided", "Guided traces") == title


def test_causes_of_more_wrong_completions():
    wrong = {"wrong": change(0.2, 0.62), "guess": change(0.1, 0.56), "other": change(0.1, 0.06, False)}
    title = "Guided: 42 more wrong completions in 100; guesses +46, other causes -4 (not significant)"
    assert titles.wrong_title(wrong, "Guided") == title
    fewer = titles.wrong_title(wrong | {"wrong": change(0.62, 0.2)}, "Guided")
    assert fewer.startswith("Guided: 42 fewer wrong completions in 100;")
    unclear = titles.wrong_title(wrong | {"wrong": change(0.2, 0.3, False)}, "Guided")
    assert unclear == "Guided: no clear difference in wrong completions"


def test_two_shares():
    title = "True statements: base 98%, guided 95%"
    assert titles.shares_title("True statements", change(0.98, 0.95), ("base", "guided")) == title
    unclear = titles.shares_title("True statements", change(0.98, 0.95, False), ("base", "guided"))
    assert unclear == title + " (not significant)"
    hedged = "Hedged without a context: 0% of proposals up to 0.5 bits, 84% from 1 bit on"
    assert titles.hedging_title(change(0.0, 0.84)) == hedged
    assert titles.hedging_title(change(0.0, 0.84, False)) == hedged + " (not significant)"


def test_what_is_left_of_count_and_density():
    table = pandas.DataFrame({"markers": [180.0, 9.0], "density": [14.0, 7.0]}, index=["none", "solution"])
    assert titles.fall_title(table) == "With the full solution: 5% of the marker count, 50% of the density"


def test_the_word_that_changes_most():
    rows = [("wait", 0.1, 0.2, False), ("check", 2.2, 0.06, True), ("hmm", 0.3, 0.0, True)]
    changes = pandas.DataFrame(rows, columns=["marker", "before", "after", "significant"])
    title = "Largest change: check, 2.2 to 0.06 per completion; 2 of 3 words change clearly"
    assert titles.words_title(changes) == title
    none = titles.words_title(changes.assign(significant=False))
    assert none == "No clear change of any of the 3 words"
