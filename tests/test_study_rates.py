"""The learning-rate sweep as a table and a picture, on numbers made by hand."""

import pandas
import pytest

from sdlab.charts.picture import svg_of
from sdlab.charts.rates import rate_curves
from sdlab.errors import SdlabError
from sdlab.findings.rate_words import rate_title, rate_words
from sdlab.measure.crossed import seeds_difference
from sdlab.study.rates import COLUMNS, sweep_table
from sdlab.study.recorded import Recorded

TRAINED = {
    "rate_grpo_3e-05": (0.7, 0.5),
    "rate_grpo_1e-04": (0.9, 0.6),
    "rate_sdpo_3e-05": (0.05, 0.4),
    "rate_sdpo_1e-04": (0.03, 0.2),
}  # end of training, score


def recorded() -> Recorded:
    """Two seeds each, .01 apart on both sides of what TRAINED says; the first steps hold what must not be
    counted.
    """
    steps, evaluations = [], []
    for name, (end, score) in TRAINED.items():
        for seed, shift in ((10, -0.01), (11, 0.01)):
            for step in range(20):
                value = end + shift if step >= 15 else 100.0
                steps.append({"condition": name, "seed": seed, "step": step, "reward": value, "loss": value})
            for split, more in (("in-domain", 0.1), ("unseen-types", 0.0)):
                for problem in range(4):
                    right = {"reward": 10 * (score + more), "length": 0, "markers": 0, "truncated": 0}
                    evaluations.append(
                        {
                            "condition": name,
                            "seed": seed,
                            "step": 20,
                            "split": split,
                            "problem_id": f"p{problem}",
                            "generations": 10,
                            **right,
                        }
                    )
    return Recorded(
        pandas.DataFrame(steps).sample(frac=1, random_state=0),
        pandas.DataFrame(evaluations),
        {key: {} for key in TRAINED},
    )


def test_each_method_is_judged_by_what_it_optimises():
    table = sweep_table(recorded())
    assert tuple(table.columns) == COLUMNS and set(table["seeds"]) == {2}
    own = table[table["measure"].isin(["reward", "loss"])].set_index(["method", "learning_rate"])
    assert own["measure"].to_dict() == {
        ("grpo", 3e-5): "reward",
        ("grpo", 1e-4): "reward",
        ("sdpo", 3e-5): "loss",
        ("sdpo", 1e-4): "loss",
    }
    assert own["best"].to_dict() == {
        ("grpo", 3e-5): False,
        ("grpo", 1e-4): True,
        ("sdpo", 3e-5): False,
        ("sdpo", 1e-4): True,
    }
    assert own.loc[("grpo", 1e-4), ["mean", "low", "high"]].tolist() == pytest.approx([0.9, 0.89, 0.91])
    assert own.loc[("sdpo", 3e-5), ["mean", "low", "high"]].tolist() == pytest.approx([0.05, 0.04, 0.06])
    scores = table[table["measure"] == "in-domain"].set_index(["method", "learning_rate"])["mean"]
    assert scores.to_dict() == pytest.approx(
        {("grpo", 3e-5): 0.6, ("grpo", 1e-4): 0.7, ("sdpo", 3e-5): 0.5, ("sdpo", 1e-4): 0.3}
    )
    assert not table[table["measure"] == "in-domain"]["best"].any()


def test_the_picture_says_every_score_and_draws_the_untrained_model():
    table = sweep_table(recorded()).sample(frac=1, random_state=0)
    chart = rate_curves(table, base={"in-domain": 0.65})
    assert "in-domain, untrained: 0.65" in chart.description
    assert (
        "in-domain, GRPO: 0.60 at 3e-05, 0.70 at 0.0001" in chart.description
        and "unseen-types, SDPO: 0.40 at 3e-05, 0.20 at 0.0001" in chart.description
    )
    panels = chart.to_dict()["hconcat"]
    assert [panel["layer"][0]["mark"]["type"] for panel in panels] == ["rule", "rule"] and len(
        panels[0]["layer"]
    ) == len(panels[1]["layer"]) + 1
    assert svg_of(chart.to_dict()).startswith("<svg")


def test_the_title_counts_the_rates_with_a_loss_and_the_words_say_where_the_best_rate_is():
    fall = seeds_difference([0.5, 0.51, 0.52], [0.2, 0.21, 0.23])
    unsure = seeds_difference([0.5, 0.51, 0.52], [0.2, 0.51, 0.9])
    losses = {3e-05: fall, 1e-04: unsure}
    assert rate_title(losses) == (
        "SDPO ends significantly below the untrained model on unseen types at 1 of 2 rates"
    )
    first, *ends = rate_words(sweep_table(recorded()), losses)
    assert first == rate_title(losses) + "."
    assert ends and all("at an end of the range 3e-05 to 0.0001" in line for line in ends)


def test_what_is_missing_is_told(monkeypatch):
    monkeypatch.setattr("sdlab.study.rates.is_recorded", lambda name: False)
    with pytest.raises(
        SdlabError,
        match="no run of the learning-rate sweep is recorded; make them with `sdlab reproduce rates`",
    ):
        sweep_table()
    with pytest.raises(SdlabError, match="low not in the frame"):
        rate_curves(sweep_table(recorded()).drop(columns="low"))
    with pytest.raises(SdlabError, match="empty"):
        rate_curves(sweep_table(recorded()), splits=("deeper",))
