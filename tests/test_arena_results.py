"""The arena's tables and map from simulated records, and the whole path on a tiny organism."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
from pictures import check_picture

from sdlab import paths
from sdlab.charts.arena import FAMILY_COLOURS, arena_map
from sdlab.charts.style import GREY
from sdlab.errors import SdlabError
from sdlab.rollout.loading import load_engine
from sdlab.runs.cell import run_cell
from sdlab.runs.loading import load_run
from sdlab.runs.training import evaluation_sums
from sdlab.study import arena_conditions, arena_measures, arena_rates, reproduction
from sdlab.study.arena import arena_table, claims_table, family_table, verdicts, winners
from sdlab.study.arena_conditions import ROUNDS, UNTRAINED, arena_name
from sdlab.study.arena_families import FAMILIES
from sdlab.study.arena_measures import costs, load_arena, measures, missing_methods, peak, stopped_early
from sdlab.study.conditions import condition
from sdlab.study.recorded import Recorded, load_recorded
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.catalogue import CATALOGUE

G = 8
COLUMNS = ("condition", "seed", "step", "split", "problem_id", "generations", "reward", "length", "markers",
           "truncated", "unhedged", "unhedged_right", "hedged", "hedged_right")  # fmt: skip


def runs(name: str, scores: dict, seeds: int, rng, calibrated: float = 0.0, problems: int = 60) -> list[dict]:
    """Evaluations of a condition: (step, split) -> true score. `calibrated`: how much more often unhedged
    commitments are right (0.5) than hedged proposals.
    """
    rows = []
    for (step, split), score in scores.items():
        for seed in range(seeds):
            for problem in range(problems if step in (0, 40) else 20):
                right = rng.binomial(G, score)
                counts = {"unhedged": 10, "unhedged_right": rng.binomial(10, 0.5)}
                counts |= {"hedged": 10, "hedged_right": rng.binomial(10, 0.5 - calibrated)}
                rows.append(dict(zip(COLUMNS, (name, seed, step, split, f"{split}/{problem}", G, right,
                                               G * 100, G * 4, 0), strict=False)) | counts)  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """Hunts of five methods and a claim's round; SDPO is best after step 10."""
    rng = np.random.default_rng(0)
    ends = {UNTRAINED: 0.5, "sdpo": 0.2, "grpo": 0.8, "srpo": 0.6, "choice_gate": 0.7, "antisd": 0.3}
    rows: list[dict] = []
    for method, score in ends.items():
        scores = {(40, split): score for split in ROUNDS["hunts"].final_splits}
        if method == "sdpo":
            curve = {0: 0.5, 10: 0.8, 20: 0.3}
            scores |= {(step, split): one for step, one in curve.items()
                       for split in ("in-domain", "unseen-types")}  # fmt: skip
        rows += runs(arena_name(method), scores, 4, rng, 0.3 if method == UNTRAINED else 0.0)
    for method, score in {"srpo": 0.9, "sdpo": 0.6, "grpo": 0.9, UNTRAINED: 0.5}.items():
        scores = {(40, split): score for split in ROUNDS["chemistry"].final_splits}
        rows += runs(arena_name(method, "chemistry"), scores, 3, rng)
    steps = [
        {"condition": arena_name(method), "seed": seed, "step": step, "seconds": seconds + 9 * (step == 0)}
        for method, seconds in {"sdpo": 2.0, "grpo": 1.0}.items()
        for seed in range(4)
        for step in range(5)
    ]
    return Recorded(pandas.DataFrame(steps), pandas.DataFrame(rows), {})


def test_the_table_has_every_method_and_the_verdicts_of_the_truth(recorded):
    table = arena_table(recorded).set_index("method")
    assert set(table.index) == set(CATALOGUE)
    assert table.index[:5].tolist() == ["grpo", "choice_gate", "srpo", "antisd", "sdpo"]
    assert table["against base"].head(5).tolist() == ["gains", "gains", "gains", "loses", "loses"]
    assert table.loc["srpo", "against grpo"] == "worse" and table.loc["srpo", "against sdpo"] == "better"
    assert table.loc["srpo", "against opsa"] == "not recorded" and table.loc["sdpo", "against sdpo"] == ""
    missing = [name for name in CATALOGUE if name not in table.index[:5]]
    assert (table.loc[missing, "score, unseen-types"] == "not recorded").all()
    assert (table.loc[missing, "against base"] == "not recorded").all()
    assert set(missing_methods(recorded)) == set(missing)
    assert table.loc["sdpo", "peak"] == "10" and table.loc["grpo", "peak"] == "40"
    assert table.loc["grpo", "family"] == "reward alone" and table.loc["opsa", "kind"] == "control"


def test_measures_are_those_of_the_simulated_truth(recorded):
    long = measures(recorded).set_index(["method", "split", "metric"])
    score = long.loc[("srpo", "deeper", "reward")]
    assert score["mean"] == pytest.approx(0.6, abs=0.03) and score["low"] < 0.6 < score["high"]
    assert long.loc[("srpo", "deeper", "density"), "mean"] == pytest.approx(40)
    passed = long.loc[("srpo", "deeper", "pass@4"), "mean"]
    assert passed == pytest.approx(1 - 0.4**4, abs=0.02)  # the same chance at every problem
    gap = long.loc[(UNTRAINED, "unseen-types", "calibration")]
    assert gap["mean"] == pytest.approx(0.3, abs=0.04) and gap["low"] > 0
    same = long.loc[("grpo", "unseen-types", "calibration")]
    assert same["low"] < 0 < same["high"]
    assert long.loc[("veto", "deeper", "reward")][["mean", "low", "high"]].isna().all()
    chemistry = measures(recorded, "chemistry").set_index(["method", "split", "metric"])
    assert np.isnan(chemistry.loc[("srpo", "chemistry-test", "calibration"), "mean"])
    assert chemistry.loc[("srpo", "unseen-types", "calibration"), "mean"] == pytest.approx(0, abs=0.1)


def test_early_stopping_chooses_on_one_split_and_is_judged_on_another(recorded):
    steps, gain = stopped_early(recorded)
    assert set(steps) == {10}
    assert gain.interval.mean == pytest.approx(0.6, abs=0.06) and gain.significant and gain.seeds == 4
    top = peak(recorded, arena_name("sdpo"))
    assert (top.step, round(top.score - top.last, 1)) == (10, 0.6)
    with pytest.raises(SdlabError, match="no evaluation of condition 'arena_veto'"):
        peak(recorded, arena_name("veto"))


def test_costs_are_relative_to_sdpo_and_a_slow_first_step_does_not_count(recorded):
    table = costs(recorded).set_index("method")
    assert table.loc["grpo", ["passes", "passes_ratio", "seconds", "seconds_ratio"]].tolist() == [
        1,
        0.5,
        1,
        0.5,
    ]
    assert table.loc["rlcsd", "passes_ratio"] == 3 and np.isnan(table.loc["rlcsd", "seconds"])


def test_claims_are_judged_where_they_were_made(recorded):
    table = claims_table(recorded).set_index(["claim", "split"])
    assert table.loc[("srpo above sdpo", "chemistry-test"), "verdict"] == "agrees"
    assert table.loc[("srpo above grpo", "chemistry-test"), "verdict"] == "not settled"
    assert table.loc[("antisd above grpo", "unseen-types"), "verdict"] == "disagrees"
    assert table.loc[("sdpo above grpo", "chemistry-test"), "verdict"] == "disagrees"
    assert table.loc[("rlcsd above grpo", "in-domain"), "verdict"] == "not recorded"
    assert "74.0" in table.loc[("srpo above grpo", "chemistry-test"), "paper"]


def test_winners_are_the_best_repairs_that_keep_the_score(recorded):
    assert winners(recorded) == ["choice_gate", "srpo"]
    assert winners(recorded, 1) == ["choice_gate"]
    families = family_table(recorded).set_index("family")
    assert families.loc["teacher and reward", ["recorded", "keeps"]].tolist() == [2, 2]
    assert families.loc["neither", "score"] == "not recorded"
    assert families.loc["reward alone", "length"] == "100"
    assert len(verdicts(recorded)) == 4 * len(CATALOGUE) - 3  # a method is not compared with itself


def test_the_map_shows_every_recorded_method_and_names_the_others(recorded):
    table = measures(recorded, metrics=("reward", "length"))
    check_picture(lambda: arena_map(table, title="T <b>"), "grpo 0.")
    chart = arena_map(table)
    assert "untrained 0." in chart.description and "not recorded: opsd_clip" in chart.description
    assert set(FAMILY_COLOURS) == set(FAMILIES) and len(set(FAMILY_COLOURS.values())) == len(FAMILIES)
    assert GREY not in FAMILY_COLOURS.values()
    with pytest.raises(SdlabError, match="needs methods with a score and a length on 'chemistry-test'"):
        arena_map(table, split="chemistry-test")
    with pytest.raises(SdlabError, match="family not in the frame"):
        arena_map(table.drop(columns="family"))


def test_labels_of_the_map_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    rows = [
        {"method": method, "kind": "repair", "family": "share", "split": "unseen-types", "metric": metric}
        | {"mean": value, "low": value - 0.1, "high": value + 0.1}
        for method in CATALOGUE
        for metric, value in (("reward", 0.5 + 0.1 * rng.random()), ("length", 80 + 40 * rng.random()))
    ]
    layers = arena_map(pandas.DataFrame(rows)).layer
    shown = pandas.DataFrame(layers[-1].data)
    assert len(layers[0].data) == len(CATALOGUE) and 10 < len(shown) < len(CATALOGUE)
    x = (shown["mean_length"] - shown["mean_length"].min()) / 40 * 620
    y = (shown["mean"] - shown["mean"].min()) / 0.1 * 420
    for i in range(len(shown)):
        for j in range(i):
            assert abs(y.iloc[i] - y.iloc[j]) > 10 or abs(x.iloc[i] - x.iloc[j]) > 15


TINY = {"steps": 2, "warmup_steps": 0, "num_problems": 2, "num_generations": 2, "max_completion_length": 40}


@pytest.fixture
def tiny_arena(tmp_path, monkeypatch):
    """A data folder whose organism is the small one, and an arena of two steps and two rates."""
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path / "data"))
    shutil.copytree(paths.PACKAGE.parent / "data" / "organism-small", tmp_path / "data" / "organism")
    few = {"final_problems": 2, "eval_problems": 2, "num_eval_generations": 8}
    for name, value in {
        "SIZES": TINY,
        "TUNING": arena_conditions.replace(arena_conditions.TUNING, **few),
        "ROUNDS": {
            name: arena_conditions.replace(plan, **few, eval_every=1)
            for name, plan in arena_conditions.ROUNDS.items()
        },
        "TUNING_SEEDS": (10,),
    }.items():
        monkeypatch.setattr(arena_conditions, name, value)
    monkeypatch.setattr(arena_rates, "TUNING_SEEDS", (10,))
    monkeypatch.setattr(arena_rates, "RATES", (1e-4, 1e-3))

    def run_here(cells, jobs, on_done):
        reasons = {cell.name: run_cell(cell) for cell in cells}
        for cell in cells:
            on_done(cell, reasons[cell.name])
        return {name: reason for name, reason in reasons.items() if reason}

    monkeypatch.setattr(reproduction, "run_cells", run_here)
    arena_conditions._groups.cache_clear()
    yield tmp_path
    arena_conditions._groups.cache_clear()


def test_from_tuning_to_the_table_on_a_tiny_organism(tiny_arena, monkeypatch, one_thread):
    monkeypatch.chdir(tiny_arena)
    data = tiny_arena / "data"
    with pytest.raises(SdlabError, match="1 conditions cannot be run yet: arena_srpo"):
        reproduction.reproduce(["arena_srpo"])
    rates = [arena_rates.rate_name("srpo", rate) for rate in (1e-4, 1e-3)]
    assert reproduction.reproduce(rates[:1])[-1] == data / "arena" / "rates.json"
    assert not arena_rates.read_rates()["methods"]  # one of two rates
    reproduction.reproduce(rates)
    tuned = arena_rates.read_rates()
    assert tuned == arena_rates.chosen_rates() and set(tuned["methods"]) == {"srpo"}
    table = arena_rates.rates_table().set_index("learning_rate")
    best = tuned["methods"]["srpo"]["learning_rate"]
    assert table["chosen"].to_dict() == {rate: rate == best for rate in (1e-4, 1e-3)}
    assert table.loc[best, "mean"] == table["mean"].max()
    problems = load_recorded(rates[0]).evaluations["problem_id"]
    assert set(problems) == {"in-domain/15/0000", "in-domain/15/0001"}

    assert condition("arena_srpo").config.learning_rate == best
    names = ["arena_srpo", "arena_base"]
    reproduction.reproduce(names, [0])
    reproduction.reproduce(names, [1])  # another session, another seed
    recorded = load_arena("hunts")
    assert set(recorded.provenance) == set(names) and set(recorded.steps["seed"]) == {0, 1}
    about = json.loads((data / "runs" / "arena_srpo.json").read_text())
    assert about["config"]["learning_rate"] == best and about["config"]["seed"] == [0, 1]
    line = arena_table(recorded).set_index("method").loc["srpo"]
    assert line["seeds"] == "2" and line["peak"] in ("0", "1", "2")
    own = load_run(tiny_arena / "runs" / "reproduce" / "arena_srpo" / "1").evaluations
    sums = own[(own["step"] == 2) & (own["split"] == "deeper")]
    mine = recorded.table("arena_srpo", "reward", "deeper")[0].loc[1]
    assert mine.to_dict() == sums.set_index("problem_id")["reward"].to_dict()
    assert {"unhedged", "unhedged_right", "hedged", "hedged_right"} <= set(own)
    assert (own["unhedged_right"] <= own["unhedged"]).all() and (own["hedged_right"] <= own["hedged"]).all()
    with pytest.raises(SdlabError, match="no run of the arena's chemistry is recorded"):
        arena_measures.load_arena("chemistry")


def test_counting_commitments_changes_no_other_column(one_thread):
    engine, plan = load_engine("organism-small"), arena_conditions.HUNTS
    with_counts, without = (
        evaluation_sums(engine, "in-domain", 3, replace(plan, commitments=counted), TrainConfig(), 40)
        for counted in (True, False)
    )
    assert list(without) == ["problem_id", "reward", "length", "markers", "truncated", "generations"]
    assert with_counts[list(without)].equals(without)
    assert with_counts["hedged"].sum() + with_counts["unhedged"].sum() > 0
    other = evaluation_sums(engine, "in-domain", 3, replace(plan, eval_seed=15), TrainConfig(), 40)
    assert not set(other["problem_id"]) & set(without["problem_id"])


def test_pass_at_k_of_records_of_an_older_version():
    """With as many completions as k, a problem passes when any of them is right."""
    older = load_recorded("sdpo")
    rows = older.evaluations[(older.evaluations["split"] == "deeper")]
    assert (rows["generations"] == 4).all()
    assert older.interval("sdpo", "pass@4", "deeper").mean == pytest.approx((rows["reward"] > 0).mean())
