"""Tables and sentences of the notebooks: on small frames whose answers are worked out by hand."""

import math

import pandas
import pytest

from sdlab.findings import before_after, coverage_crossing, objections, selection, statement_tables
from sdlab.findings.real_models import problems_needed
from sdlab.measure.comparison import Comparison
from sdlab.measure.crossed import crossed_difference
from sdlab.measure.intervals import Interval
from sdlab.study.statements import NOT_STATED


def completions(rows: list[tuple]) -> pandas.DataFrame:
    columns = ["problem_id", "split", "reward", "length", "markers", "completion"]
    return pandas.DataFrame(rows, columns=columns)


def change(mean: float, low: float, high: float, significant: bool = True) -> Comparison:
    return Comparison("reward", 0.0, mean, Interval(mean, low, high), 9, significant, "")


def test_directions_need_significance():
    assert before_after.direction(change(0.2, 0.1, 0.3)) == "larger"
    assert before_after.direction(change(-0.2, -0.3, -0.1), "up", "down") == "down"
    assert before_after.direction(change(0.2, -0.1, 0.3, False)) == "not significant"


def test_checked_share_counts_checks_before_what_is_settled():
    frame = completions(
        [
            ("a", "s", 1, 9, 0, "Check: yes, yes. So A is 1. So B is 2."),
            ("b", "s", 1, 9, 0, "It is odd, yes. It is big, yes. So A is 1."),
            ("c", "s", 1, 9, 0, "nothing settled"),
        ]
    )
    shares = before_after.checked_share(frame).tolist()
    assert shares[:2] == [0.5, 1.0] and math.isnan(shares[2])


def test_changes_are_paired_within_each_test():
    before = completions([(f"p{i}", split, 1, 10, 2, "") for split in ("x", "y") for i in range(8)])
    after = before.assign(length=[5 + (i % 2) for i in range(8)] + [10] * 8)
    found = before_after.changes_by_test(before, after, ("length",))
    assert before_after.direction(found["x", "length"]) == "smaller"
    assert before_after.direction(found["y", "length"]) == "not significant"
    table = before_after.change_table(found)
    assert table.loc[("x", "length"), ["before", "after"]].tolist() == ["10.0", "5.5"]
    assert before_after.nested(found)["x"]["length"].b == 5.5
    (line, _) = before_after.change_words(found, ("length",))
    assert line == "x: length 10.0 before and 5.5 after (smaller)."


def test_siblings_are_compared_within_a_problem():
    """Right completions are longer in both problems, but all right ones together are shorter."""
    rows = [("easy", "s", 1, 12, 0, ""), ("easy", "s", 1, 12, 0, ""), ("easy", "s", 0, 10, 0, "")]
    rows += [("hard", "s", 1, 102, 0, ""), ("hard", "s", 0, 100, 0, ""), ("hard", "s", 0, 100, 0, "")]
    frame = completions([*rows, ("never", "s", 0, 999, 0, "")])
    means = selection.right_and_wrong(frame)
    assert set(means["problem_id"]) == {"easy", "hard"}
    contrast = selection.sibling_contrast(means, ("length",))
    assert contrast["length"].difference.mean == 2
    assert selection.contrast_table(contrast, frame[:6]).loc["length", "all problems mixed"] == "-28.00"
    frame["advantage"] = frame["reward"] - frame.groupby("problem_id")["reward"].transform("mean")
    assert selection.advantage_identity_error(frame) < 1e-12
    assert selection.advantage_identity_error(frame.assign(advantage=frame["advantage"] * 2)) > 0.1


def test_the_two_columns_agree_only_where_both_are_known():
    contrast = {"length": change(1, 0.5, 2), "markers": change(1, 0.5, 2), "density": change(1, -1, 2, False)}
    changed = {("s", "length"): change(3, 1, 4), ("s", "markers"): change(-3, -4, -1)}
    changed["s", "density"] = change(3, 1, 4)
    table = selection.selected_and_changed(contrast, changed, "s")
    assert table["agree"].tolist() == ["yes", "no", "cannot tell"]


def test_a_ratio_is_judged_against_one():
    words = [objections.ratio_word(Interval(*ends)) for ends in ((2, 1.5, 3), (0.5, 0.3, 0.8), (1, 0.9, 1.2))]
    assert words == ["significantly more", "significantly less", "not significantly different"]


def test_verdict_words_name_what_does_not_hold():
    rows = {
        "a": {"paper": "x", "source": "Figure 3", "refuted by": "r", "measured": "+1", "verdict": "agrees"},
        "b": {
            "paper": "y",
            "source": "Figure 4",
            "refuted by": "r",
            "measured": "-1",
            "verdict": "disagrees",
        },
        "c": {"paper": NOT_STATED, "source": "", "refuted by": "r", "measured": "0", "verdict": "no"},
    }
    lines = statement_tables.verdict_words(rows)
    assert lines[0] == "Verdicts on 2 statements of the paper: agrees 1, disagrees 1."
    assert lines[1] == "Verdicts on 1 questions of our own: no 1."
    assert [line.partition(": ")[2] for line in lines[2:]] == ["b (-1).", "c (0)."]
    assert statement_tables.statement_table(rows).loc["b", "the paper"] == "y (Figure 4)"
    assert statement_tables.cite(rows, "b", "d") == [
        "B: **disagrees** (-1).", "D: its runs are not recorded here."]  # fmt: skip


def runs(values: list[float], step: float = 0.01) -> pandas.DataFrame:
    """Sums of seeds x problems around each seed's value."""
    return pandas.DataFrame([[value - step, value, value + step] for value in values])


def test_the_grid_says_where_training_hides_a_loss():
    up = crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.7, 0.71, 0.69]))
    down = crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.2, 0.21, 0.19]))
    flat = crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.3, 0.5, 0.7]))
    rows = {
        "8": {"gain": up, "versus": down, "in-domain": down, "unseen-types": down},
        "64": {"gain": up, "versus": down, "in-domain": down, "unseen-types": flat},
        "all": {"gain": down, "versus": down, "in-domain": down, "unseen-types": down},
    }
    assert coverage_crossing.counts_where(rows, "gain", "larger") == ["8", "64"]
    assert coverage_crossing.hidden_damage(rows) == ["8"]
    lines = coverage_crossing.crossing_words(rows)
    assert "rises significantly with 8 and 64 problems, and falls with all." in lines[0]
    assert lines[-1].startswith("With 8 problems the training score rises while unseen types fall")
    assert "At no number of problems" in coverage_crossing.crossing_words({"64": rows["64"]})[-1]
    assert coverage_crossing.listed(["8", "64", "all"]) == "8, 64 and all"
    assert coverage_crossing.listed(["8"]) == "8" and coverage_crossing.listed([], "no") == "no"


def test_the_table_of_the_grid_has_no_note_about_the_seeds_of_the_untrained_model():
    down = crossed_difference(runs([0.5] * 5), runs([0.2, 0.21, 0.19]), seeds_a=range(5), seeds_b=range(3))
    assert "3 common seeds" in str(down)
    row = dict.fromkeys(("gain", "versus", "in-domain", "unseen-types"), down)
    table = coverage_crossing.crossing_table({"8": row})
    assert not table.map(lambda cell: "seeds" in cell).any(axis=None)
    assert table.loc["8", "SDPO, unseen types"].startswith("-0.30")


def test_a_title_of_training_names_the_conditions_that_rise_and_fall(monkeypatch):
    gains = {
        "a": crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.7, 0.71, 0.69])),
        "b": crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.2, 0.21, 0.19])),
        "c": crossed_difference(runs([0.5, 0.5, 0.5]), runs([0.3, 0.5, 0.7])),
    }
    monkeypatch.setattr(coverage_crossing, "training_gain", lambda recorded, name: gains[name])
    named = {"a": "GRPO", "b": "SDPO, c = s", "c": "SDPO, feedback"}
    title = coverage_crossing.training_title(None, "Kata", named)
    assert title == "Kata: the training score rises with GRPO, and falls with SDPO, c = s"
    monkeypatch.setitem(gains, "b", gains["a"])
    title = coverage_crossing.training_title(None, "Chemistry", named)
    assert title == "Chemistry: the training score rises with GRPO and with SDPO, c = s"
    assert coverage_crossing.training_title(None, "Kata", {"c": "SDPO, feedback"}) == (
        "Kata: the training score does not clearly change"
    )


def test_a_turning_point_is_an_interval_of_problems():
    assert coverage_crossing.in_problems(pandas.Series([math.nan, math.nan])) is None
    found = coverage_crossing.in_problems(pandas.Series([4.0, 4.0, 4.0]))
    assert (found.mean, found.low, found.high) == (16, 16, 16)
    assert coverage_crossing.later_than(pandas.Series([1.0, 2.0]), pandas.Series([1.0, math.nan])) is None


def test_four_times_the_problems_halve_an_interval():
    assert problems_needed(Interval(0.5, 0.46, 0.54), 30) == 120


@pytest.mark.parametrize("count, text", [(8, "8"), (None, "all")])
def test_numbers_of_problems_in_words(count, text):
    assert coverage_crossing.counted(count) == text
