"""Notebook 08's question whether problems or types change the training score."""

from sdlab.findings.exposures import WORSE, worse
from sdlab.findings.types_or_problems import CAUSES, cause, effect_words
from sdlab.measure.crossed import Difference, seeds_difference

SURE: Difference = seeds_difference([0.0, 0.01, 0.02], [0.50, 0.51, 0.53])
FALL: Difference = seeds_difference([0.50, 0.51, 0.53], [0.0, 0.01, 0.02])
UNSURE: Difference = seeds_difference([0.0, 0.5, 0.2], [0.3, 0.1, 0.2])


def test_the_cause_is_what_changes_significantly_and_nothing_is_said_without_runs():
    problems, types = "128 instead of 8 problems, any type", "20 types instead of one, 8 problems"
    for one, other, answer in (
        (SURE, UNSURE, 0), (UNSURE, FALL, 1), (FALL, SURE, 2), (UNSURE, UNSURE, 3),
    ):  # fmt: skip
        assert cause({problems: {"x": one}, types: {"x": other}}, "x") == CAUSES[answer]
    assert cause({problems: {"x": SURE}}, "x") == ""


def test_only_a_fall_is_worse():
    for often, many, answer in (
        (FALL, SURE, 0), (SURE, FALL, 1), (FALL, FALL, 2), (SURE, UNSURE, 3),
    ):  # fmt: skip
        assert worse({"same problems": {"a": often}, "same exposures": {"b": many}}) == WORSE[answer]


def test_a_sentence_names_the_score_and_has_no_brackets_in_brackets():
    rows = {"128 instead of 8 problems, any type": {"SDPO, training": FALL, "SDPO, in-domain": UNSURE}}
    (line,) = effect_words(rows, "SDPO, training")
    assert line.startswith("128 instead of 8 problems, any type: SDPO's training score falls (-0.5")
    (line,) = effect_words(rows, "SDPO, in-domain")
    assert "SDPO's score in-domain does not clearly change (" in line and "((" not in line
    assert "not significant" not in line
