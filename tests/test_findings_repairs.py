"""Sentences and tables about repairs: pushes, live training, and a simulated arena."""

import numpy as np
import pandas
import pytest
from scipy import stats
from test_arena_results import recorded  # noqa: F401 - the simulated arena, a fixture

from sdlab.errors import SdlabError
from sdlab.findings import arena_board, repairs
from sdlab.measure.comparison import compare
from sdlab.study.arena_families import FAMILY


def pushes(means: dict[str, float], spread: float = 0.01) -> pandas.DataFrame:
    """Pushes at 40 choice points of 20 problems around a mean per method."""
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {"method": method, "problem_id": f"p{i % 20}", "completion": ("right", "wrong")[i % 2]}
        | {"markers": 0.3, "push": mean + spread * rng.standard_normal(), "share": 0.5}
        for method, mean in means.items()
        for i in range(40)
    )


def test_a_push_has_a_direction_only_where_its_interval_excludes_zero():
    table = repairs.push_table(pushes({"sdpo": -0.1, "grpo": 0.1, "opsd_clip": 0.0, "mine": -0.2}))
    assert list(table.index) == ["mine", "sdpo", "opsd_clip", "grpo"]  # the lowest first
    assert table["the doubt"].tolist() == [repairs.LOWERS, repairs.LOWERS, repairs.UNCLEAR, repairs.RAISES]
    assert table["family"].tolist() == [
        "your own",
        "follow the teacher",
        "a softened teacher",
        "reward alone",
    ]


def test_the_sentences_count_the_directions_of_each_family():
    lines = repairs.push_words(pushes({"sdpo": -0.1, "veto": 0.1, "iw_opd": -0.1, "grpo": 0.1}))
    assert lines == [
        "Follow the teacher: of 3 methods 2 push the doubt down, 1 push it up.",
        "Reward alone: of 1 method 0 push the doubt down, 1 push it up.",
    ]


def test_the_live_table_and_its_words_say_what_changed_significantly():
    def rows(score: float) -> pandas.DataFrame:
        kept = [{"problem_id": i, "reward": float(i % 10 < 10 * score), "length": 50.0, "markers": 3.0}
                for i in range(60)]  # fmt: skip
        return pandas.DataFrame(kept)

    changes = {
        "method": {
            ("in-domain", "reward"): compare(rows(0.8), rows(0.2), "reward"),
            ("unseen-types", "reward"): compare(rows(0.5), rows(0.5), "reward"),
            ("in-domain", "markers"): compare(rows(0.5), rows(0.5), "markers"),
            ("in-domain", "length"): compare(rows(0.5), rows(0.5), "length"),
        }
    }
    assert "not significant" in repairs.live_table(changes).loc["method", "score, unseen types"]
    (line,) = repairs.live_words(changes)
    assert "the score falls in-domain and does not clearly change on unseen types" in line


def test_without_a_record_the_page_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path))
    assert arena_board.arena_or_none() is None
    assert "sdlab reproduce arena-rates" in arena_board.absent_words(None)


def test_a_damaged_record_is_told_and_not_taken_for_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "arena_sdpo.json").write_text("{broken")
    with pytest.raises(SdlabError, match="arena_sdpo"):
        arena_board.arena_or_none()


def test_the_board_shows_recorded_methods_only_and_names_the_others(recorded):  # noqa: F811
    board = arena_board.board(recorded)
    assert list(board.index) == ["grpo", "choice_gate", "srpo", "antisd", "sdpo"]
    assert arena_board.map_title(recorded).endswith("on unseen types: 3 of 5")
    words = arena_board.absent_words(recorded)
    assert words.startswith(f"Recorded: 5 of {len(FAMILY)} methods") and "veto" in words
    lines = arena_board.board_words(recorded)
    assert lines[0].endswith("on unseen types: gains (grpo, srpo, choice_gate); loses (sdpo, antisd).")
    assert lines[3].endswith("nothing is recorded.")  # the control without a teacher has no record
    assert lines[-2] == "The best repairs that keep the score: choice_gate, srpo."


def test_a_rate_at_the_end_of_the_range_is_named(recorded, monkeypatch):  # noqa: F811
    chosen = {"sdpo": 1e-3, "grpo": 3e-4, "srpo": 1e-4, "antisd": 1e-4, "veto": 1e-3}  # veto is not recorded
    tuned = {"methods": {name: {"learning_rate": rate} for name, rate in chosen.items()}}
    monkeypatch.setattr(arena_board, "read_rates", lambda: tuned)
    assert arena_board.edge_words(recorded) == (
        "The smallest rate tried (0.0001) is the best for srpo, antisd; the largest rate tried (0.001) is "
        "the best for sdpo; rates beyond it were not tried."
    )
    tuned["methods"] = {"grpo": {"learning_rate": 3e-4}}
    assert "No method has its best rate at an end" in arena_board.edge_words(recorded)


def test_the_rank_correlation_joins_pushes_and_scores_by_method(recorded):  # noqa: F811
    before = pushes({"sdpo": -0.2, "antisd": -0.1, "srpo": 0.1, "choice_gate": 0.2, "grpo": 0.3, "veto": 1})
    both = arena_board.push_and_score(before, recorded)
    assert sorted(both["method"]) == ["antisd", "choice_gate", "grpo", "sdpo", "srpo"]
    assert both["push"].corr(both["score"], method="spearman") == pytest.approx(1)
    assert "needs at least 6" in arena_board.rank_words(both)
    # of the 120 orders only this one and its reverse are as far from 0
    assert "is 1.00, p = 0.017 by permutation." in arena_board.rank_words(both, least=5)


def test_claims_that_cannot_be_judged_are_left_out_of_the_table(recorded):  # noqa: F811
    table = arena_board.claims(recorded)
    assert len(table) and not (table["verdict"] == "not recorded").any()
    assert arena_board.claim_words(table).startswith("Claims of the papers: ")


def test_the_interval_of_a_push_is_that_of_students_t():
    table = pushes({"sdpo": -0.1}).drop_duplicates("problem_id")
    row = repairs.pushes_by_method(table).iloc[0]
    expected = stats.ttest_1samp(table["push"], 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["problems"] == 20 and row["mean"] == pytest.approx(table["push"].mean())
    one = repairs.pushes_by_method(table.head(1)).iloc[0]
    assert np.isnan(one["low"]) and repairs.push_table(table.head(1))["the doubt"].item() == repairs.UNCLEAR
