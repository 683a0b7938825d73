"""The alarm: areas against scikit-learn, outcomes and lead times on tables that can be counted by hand."""

import math

import numpy as np
import pandas
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sdlab.charts import alarm_chart
from sdlab.errors import SdlabError
from sdlab.findings import early_warning, onset
from sdlab.study.alarm import area_interval, auroc, auroc_table, auroc_within, changes, method_alone
from sdlab.study.detection import ALL, alarm_text, detection_table, fit_rule, warnings_by_run
from sdlab.study.outcomes import Failure, counts, method_of, outcomes
from sdlab.study.recorded import Recorded, load_recorded
from sdlab.study.watch import FLOOR, FolderWatch, Rule, Watch, change, oriented

PROBLEMS = [f"hunt/{i}" for i in range(30)]


def about(method, **config):
    run = {"model": "toy", "model_sha256": {"model.safetensors": "a"}}
    return {
        "method": method, "config": config, "plan": {"traces": "unguided"}, "runs": {"0": run, "1": run},
    }  # fmt: skip


def evaluation(condition, seed, step, right, markers=8):
    """30 problems with 4 completions each, `right` of them right."""
    rows = {
        "condition": condition,
        "seed": seed,
        "step": step,
        "split": "unseen-types",
        "problem_id": PROBLEMS,
    }
    sums = {"generations": 4, "reward": right, "markers": markers * 4, "length": 400, "truncated": 0}
    return pandas.DataFrame(rows | sums)


def steps(condition, seed, density, reward):
    rows = {
        "condition": condition,
        "seed": seed,
        "step": range(len(density)),
        "density": density,
        "reward": reward,
    }
    return pandas.DataFrame(rows)


def toy() -> Recorded:
    """Two methods, each with a failing and a healthy condition of two seeds.

    The markers of failing runs fall from step 2 on. In the healthy runs they change by at most 4%.
    """
    tables, evaluations = [], [evaluation("base", seed, 0, 2) for seed in (0, 1)]
    for name, right in (("a_bad", (2, 0)), ("a_good", (2, 3)), ("b_bad", (0, 0)), ("b_good", (3, 3))):
        for seed in (0, 1):
            falls = [50.0, 51, 30, 20, 10 + seed] if "bad" in name else [50.0, 49, 51, 52, 50 + seed]
            tables.append(steps(name, seed, falls, [0.5, 0.5, 0.5, 0.4 + seed / 10, 0.5]))
            evaluations += [
                evaluation(name, seed, step, count) for step, count in zip((2, 5), right, strict=True)
            ]
    methods = {"base": "base", "a_bad": "grpo", "a_good": "grpo", "b_bad": "sdpo", "b_good": "sdpo"}
    config = {"b_bad": {"context": "solution"}, "b_good": {"context": "solution"}}
    provenance = {name: about(method, **config.get(name, {})) for name, method in methods.items()}
    return Recorded(pandas.concat(tables), pandas.concat(evaluations), provenance)


RECORDED = toy()
RUNS = outcomes(RECORDED)


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for size in (5, 40, 200):
        values, failed = rng.integers(0, 12, size).astype(float), rng.random(size) < 0.4
        failed[:2] = True, False
        assert auroc(values, failed) == pytest.approx(roc_auc_score(failed, values), abs=1e-12)
    assert math.isnan(auroc([1.0, 2.0], [True, True]))


def test_outcomes_are_those_of_the_table():
    assert RUNS.attrs["left_out"] == 0
    by_name = RUNS.groupby("condition").first()
    assert by_name["failed"].to_dict() == {"a_bad": True, "a_good": False, "b_bad": True, "b_good": False}
    assert by_name.loc["a_bad", ["last_healthy", "first_failed"]].tolist() == [2, 5]
    assert by_name.loc["b_bad", ["last_healthy", "first_failed"]].tolist() == [0, 2]
    assert by_name["score"].to_dict() == {"a_bad": 0, "a_good": 0.75, "b_bad": 0, "b_good": 0.75}
    assert set(by_name["base"]) == {0.5} and set(by_name["reason"]) == {"score", ""}
    assert counts(RUNS)[["runs", "failed"]].to_numpy().tolist() == [[4, 2], [4, 2]]


def test_what_fails_is_a_parameter():
    assert outcomes(RECORDED, Failure(below=0.8))["failed"].all()
    one = outcomes(RECORDED, Failure(below=0.01))
    assert one.groupby("condition")["failed"].first().sum() == 2
    rising = Recorded(
        RECORDED.steps,
        pandas.concat([RECORDED.evaluations, evaluation("a_good", 0, 7, 2, 40)]),
        RECORDED.provenance,
    )
    loud = outcomes(rising).set_index(["condition", "seed"]).loc[("a_good", 0)]
    assert loud["reason"] == "repetition" and loud["times"] == 5 and loud["first_failed"] == 7
    assert (
        not outcomes(rising, Failure(repetition=6))
        .set_index(["condition", "seed"])
        .loc[("a_good", 0), "failed"]
    )
    # a model that hedges more and is right more often is healthy
    more = pandas.concat([RECORDED.evaluations, evaluation("a_good", 0, 7, 3, 40)])
    better = outcomes(Recorded(RECORDED.steps, more, RECORDED.provenance))
    assert not better.set_index(["condition", "seed"]).loc[("a_good", 0), "failed"]
    with pytest.raises(SdlabError, match="no trained run was evaluated on 'deeper'"):
        outcomes(RECORDED, Failure(split="deeper"))
    alone = {name: what for name, what in RECORDED.provenance.items() if name != "base"}
    with pytest.raises(SdlabError, match="no evaluation of its untrained model"):
        outcomes(Recorded(RECORDED.steps, RECORDED.evaluations, alone))


def test_methods_differ_by_what_they_optimise_not_by_sizes():
    assert method_of(about("sdpo", context="solution", learning_rate=1e-3)) == "sdpo"
    assert method_of(about("sdpo", context="solution_no_think")) == "sdpo, solution without think"
    assert method_of(about("repair", repair="veto")) == "veto"
    assert method_of(about("repair", repair="sdpo")) == method_of(about("sdpo", context="solution"))
    assert method_of(about("sft")) == "sft, unguided"


def test_changes_are_relative_to_the_first_row():
    assert change([50.0, 25.0, 0.0, 100.0], "density") == pytest.approx(
        [0, -math.log(2), math.log(FLOOR), math.log(2)]
    )
    assert change([0.5, 0.2], "reward") == pytest.approx([0, -0.3])
    assert np.isnan(change([0.0, 1.0], "density")).all()
    assert oriented([-0.5, 0.2], "either").tolist() == [0.5, 0.2]
    moved = changes(RECORDED, RUNS, "density")
    assert moved.loc[("a_bad", 1), 4] == pytest.approx(math.log(11 / 50)) and moved.attrs["left_out"] == 0


def test_areas_by_step():
    table = auroc_table(RECORDED, RUNS, ["density", "reward"], (1, 2, 4)).set_index(["measure", "step"])
    assert table.loc[("density", 1), ["auroc", "direction"]].tolist() == [1, "rise"]  # 51 against 49
    assert table.loc[("density", 4), ["auroc", "unseen", "direction"]].tolist() == [1, 1, "fall"]
    assert table.loc[("reward", 2), "auroc"] == 0.5  # all runs have the same training score
    assert set(table["runs"]) == {8} and set(table["failed"]) == {4}
    words = alarm_chart(table.reset_index()).to_dict()["description"]
    assert "markers per 1,000 tokens" in words
    with pytest.raises(SdlabError, match="needs failed and healthy"):
        auroc_table(RECORDED, outcomes(RECORDED, Failure(below=0.8)))


def test_an_area_whose_direction_differs_between_methods_does_not_carry_over():
    flipped = RECORDED.steps.copy()
    part = flipped["condition"].str.startswith("b_")
    flipped.loc[part, "density"] = 2500 / flipped.loc[part, "density"]
    table = auroc_table(Recorded(flipped, RECORDED.evaluations, RECORDED.provenance), RUNS, ["density"], (4,))
    assert table["unseen"].item() == 0  # each method's direction is wrong for the other


def test_thresholds_come_from_the_other_methods():
    table = detection_table(RECORDED, RUNS, ["density"]).set_index("method")
    whole = table.loc[ALL]
    assert (whole["runs"], whole["failed"], whole["warned"], whole["false_alarms"]) == (8, 4, 0.5, 0.0)
    # The markers are below the limit at step 2: 0 steps before the last healthy evaluation of a_bad, 3 before
    # its first failed one. b_bad has failed at step 2 already, so its warning is not early.
    slow = table.loc["grpo"]
    assert (slow["warned"], slow["lead_least"], slow["lead_most"]) == (1.0, 0.0, 3.0)


def test_a_warning_that_comes_with_the_failure_is_not_counted():
    late = RUNS.assign(first_failed=RUNS["first_failed"].where(RUNS["condition"] != "b_bad", 1.0))
    table = detection_table(RECORDED, late, rule=Rule("density", "fall", 0.4)).set_index("method")
    assert table.loc["sdpo", "warned"] == 0 and table.loc["grpo", "warned"] == 1
    assert table.loc[ALL, "rule"] == "markers per 1,000 tokens below 0.67 times the start"


def test_false_alarms_stay_within_their_share_on_the_runs_of_the_fit():
    rng = np.random.default_rng(0)
    moved = pandas.DataFrame(rng.normal(size=(60, 8)))
    runs = pandas.DataFrame({"failed": np.arange(60) < 20, "first_failed": 9.0})
    for share in (0.0, 0.1, 0.3):
        rule = fit_rule(moved, runs, "reward", share)
        alarms = (oriented(moved, rule.direction) > rule.threshold).any(axis=1)[20:]
        assert alarms.mean() <= share
    assert fit_rule(moved[:20], runs[:20], "reward", 0.1) is None


def test_methods_that_cannot_be_judged_say_why():
    part = RUNS[(RUNS["method"] == "grpo") | RUNS["failed"]]
    table = detection_table(RECORDED, part, ["density"]).set_index("method")
    assert table.loc["sdpo", "failed"] == 2 and table.loc["grpo", "note"].startswith(
        "the other methods have no"
    )
    text = alarm_text(
        auroc_table(RECORDED, part, ["density"], (4,)), detection_table(RECORDED, part, ["density"])
    )
    assert text.loc["markers per 1,000 tokens", "warned"] == "0%"


def test_missing_columns_are_an_error_or_a_count():
    with pytest.raises(SdlabError, match="no recorded run has the column 'fork_rate'"):
        changes(RECORDED, RUNS, "fork_rate")
    with pytest.raises(SdlabError, match="unknown measure 'mood'"):
        changes(RECORDED, RUNS, "mood")
    part = RECORDED.steps.assign(fork_rate=RECORDED.steps["density"])
    part.loc[part["condition"] == "a_good", "fork_rate"] = np.nan
    table = auroc_table(Recorded(part, RECORDED.evaluations, RECORDED.provenance), RUNS, ["fork_rate"], (4,))
    assert table[["runs", "left_out"]].to_numpy().tolist() == [[6, 2]]


def test_a_watch_warns_once():
    rows = [{"step": i, "density": value} for i, value in enumerate((60, 70, 45, 39, 20))]
    watch = Watch()
    messages = [watch(row) for row in rows]
    assert [bool(message) for message in messages] == [False, False, False, True, False] and watch.fired == 3
    assert messages[3].startswith("alarm at step 3: markers per 1,000 tokens fell from 60 to 39;")
    rising = Watch(Rule("density", "either", math.log(2)))
    assert [rising({"step": i, "density": v}) is not None for i, v in enumerate((10, 19, 21))] == [
        False,
        False,
        True,
    ]
    silent = Watch()
    assert "start at 0" in silent({"step": 0, "density": 0.0}) and silent({"step": 1, "density": 5.0}) is None
    with pytest.raises(SdlabError, match="step 4 has no 'density'"):
        Watch()({"step": 4, "reward": 1.0})
    with pytest.raises(SdlabError, match="threshold=0"):
        Rule(threshold=0)


def test_a_resumed_run_is_compared_with_its_own_start(tmp_path):
    from toy_run import ToyConfig

    from sdlab.runs.folder import open_run

    with open_run(tmp_path / "run", ToyConfig(steps=3), method="toy", model="none") as run:
        run.restore({})
        for step, density in enumerate((60.0, 58.0)):
            run.save_step({"step": step, "density": density}, [], {})
    assert Watch()({"step": 2, "density": 30.0}) is None
    assert "fell from 60 to 30" in FolderWatch(tmp_path / "run")({"step": 2, "density": 30.0})


def test_the_recorded_runs_of_the_main_conditions():
    """Text measures separate failed from healthy runs early; the whole table is in the notebook."""
    recorded = load_recorded("base", "grpo", "sdpo", "sdpo_no_think", "sft_unguided", "sft_guided")
    runs = outcomes(recorded)
    assert len(runs) == 25 and runs.set_index("condition").loc["grpo", "failed"].sum() == 0
    assert runs.set_index("condition").loc["sdpo", "failed"].all()
    table = auroc_table(recorded, runs, ["density"], (6,))
    assert table["auroc"].item() > 0.8 and table["direction"].item() == "fall"


def test_areas_within_methods_count_only_pairs_of_one_method():
    failed = np.array([True, True, False, True, False, False])
    methods = np.array(["a", "a", "a", "b", "b", "b"])
    values = np.array([3.0, 1.0, 2.0, 9.0, 8.0, 9.0])
    # a: 3 > 2 wins, 1 < 2 loses; b: 9 > 8 wins, 9 = 9 counts one half
    assert auroc_within(values, failed, methods) == pytest.approx(2.5 / 4)
    # what tells only the methods apart has nothing to say within them, whatever it says across
    level = np.where(methods == "a", 1.0, 0.0)
    assert auroc_within(level, failed, methods) == 0.5 and auroc(level, failed) != 0.5
    assert math.isnan(auroc_within(values[:2], failed[:2], methods[:2]))


def test_an_interval_of_an_area_is_that_of_delong_when_every_run_is_a_condition():
    rng = np.random.default_rng(1)
    failed = np.arange(40) < 15
    values = rng.normal(size=40) + 0.8 * failed
    wins = (values[failed][:, None] > values[~failed]).astype(float)
    area, (n1, n0) = wins.mean(), wins.shape
    # DeLong's variance with n in the place of n - 1, then the scarcer side's n / (n - 1), and t on n - 1
    variance = wins.mean(1).var() / n1 + wins.mean(0).var() / n0
    half = stats.t.ppf(0.975, n1 - 1) * math.sqrt(variance * n1 / (n1 - 1))
    found = area_interval(values, failed, np.arange(40))
    assert (found.mean, found.low, found.high) == pytest.approx((area, area - half, min(1, area + half)))
    # copies of every run in the same condition add nothing
    twice = area_interval(np.repeat(values, 3), np.repeat(failed, 3), np.repeat(np.arange(40), 3))
    assert vars(twice) == pytest.approx(vars(found))
    # two groups whose pairs are those of the whole: within them nothing else counts
    level = np.concatenate([values, values + 100])
    both = area_interval(level, np.tile(failed, 2), np.arange(80), np.repeat([0, 1], 40))
    assert both.mean == pytest.approx(area) and both.high - both.low < found.high - found.low


def test_perfect_separation_of_few_conditions_settles_nothing():
    """With k failed conditions all pairs are won as often by chance as k coins all show heads, or rarer."""
    for count in (1, 2, 3, 5, 6, 9):
        failed = np.repeat(np.arange(20) < count, 5)
        found = area_interval(failed.astype(float), failed, np.repeat(np.arange(20), 5))
        assert (found.mean, found.high) == (1, 1)
        assert found.low == pytest.approx(stats.binomtest(count, count).proportion_ci().low)
        assert (found.low > 0.5) == (count >= 6)
    assert math.isnan(area_interval([1.0, 2.0], [True, True], ["a", "b"]).mean)


def test_the_name_of_a_method_is_a_measure_of_its_own():
    runs = pandas.DataFrame({"method": ["a", "a", "b", "b"], "failed": [True, True, False, False]})
    assert method_alone(runs) == 1.0
    assert method_alone(RUNS) == 0.5  # both methods fail equally often
    table = auroc_table(RECORDED, RUNS, ["density"], (4,)).iloc[0]
    assert table[["within", "mixed"]].tolist() == [1, 2]
    assert table["within_low"] == pytest.approx(0.05**0.5 / 2**0.5)  # two conditions failed
    assert "2 of 2 methods have failed and healthy runs" in early_warning.mixed_words(RUNS)


def test_warnings_by_run_add_up_to_the_table():
    warned = warnings_by_run(RECORDED, RUNS, "density")
    table = detection_table(RECORDED, RUNS, ["density"]).set_index("method")
    for method, part in warned.groupby("method"):
        hit = (part["at"] < part["first_failed"])[part["failed"]]
        assert hit.mean() == table.loc[method, "warned"]
        assert part["rule"].iloc[0] == table.loc[method, "rule"]
    share = early_warning.warned_share(warned)
    assert share.mean == table.loc[ALL, "warned"]
    assert early_warning.warned_share(warned, failed=False).mean == table.loc[ALL, "false_alarms"]
    lines = early_warning.silent_words(warned.assign(at=np.inf), "density")
    assert lines[0].startswith("grpo: no warning in time in 2 of 2 failed runs")


def test_the_first_change_is_lasting_and_clear():
    steps = range(8)
    rising = pandas.DataFrame(
        [[0, 0, 0.5, 0, 1, 1, 1, 1], [0, 0, 0.51, 0, 1.1, 1.1, 1.1, 1.1]], columns=steps
    )
    wide = pandas.concat([rising, rising + 0.001, rising + 0.002], ignore_index=True)
    assert onset.first_change(wide).step == 4  # step 2 does not last
    assert onset.first_change(0 * wide).step is None
    assert onset.first_change(wide.head(1)).step is None  # one seed shows no spread
    found = onset.first_changes(RECORDED, RUNS, "a_bad")
    assert set(found) == {"density", "reward"} and found["reward"].step is None


def test_claims_about_the_alarm_follow_their_intervals():
    areas, warned = auroc_table(RECORDED, RUNS, steps=(4,)), warnings_by_run(RECORDED, RUNS, "density")
    detection = detection_table(RECORDED, RUNS)
    claims = early_warning.alarm_claims(areas, warned, detection, 4, "density")
    within = [row for claim, row in claims.items() if claim.startswith("after 4 steps, markers per 1,000")]
    assert within[0]["verdict"] == "not settled" and within[0]["measured"].startswith("1.00 [0.16,")
    assert len(early_warning.claim_table(claims)) == len(claims)
    settled = sum(row["verdict"] != "not settled" for row in claims.values())
    assert len(early_warning.settled_words(claims)) == 1 + settled
    assert early_warning.area_table(areas, 4).loc["markers per 1,000 tokens", "methods within"] == 2


def test_the_claim_that_a_warning_comes_before_the_fall_can_fail():
    """Ten conditions with one failed run each: healthy until step 10, failed at 20."""
    claim = "in most failed runs the warning comes before the score falls"
    areas, detection = auroc_table(RECORDED, RUNS, ["density"], (4,)), detection_table(RECORDED, RUNS)

    def judged(at):
        runs = pandas.DataFrame({"condition": list("abcdefghij"), "failed": True, "at": at})
        warned = runs.assign(last_healthy=10, first_failed=20.0)
        least, most = early_warning.warned_before(warned)
        row = early_warning.alarm_claims(areas, warned, detection, 4, "density")[claim]
        return least.mean, most.mean, row["verdict"]

    assert judged(10.0) == (1, 1, "yes") and judged(15.0) == (0, 1, "not settled")
    assert judged(20.0) == (0, 0, "no") and judged(np.inf) == (0, 0, "no")
    assert judged([5.0] * 2 + [np.inf] * 8)[:2] == (0.2, 0.2)


def test_a_share_of_few_conditions_has_a_wide_interval():
    warned = pandas.DataFrame({"condition": list("aabb"), "failed": True, "at": 1.0, "first_failed": 2.0})
    share = early_warning.warned_share(warned)
    assert (share.mean, share.high) == (1, 1)  # no resample differs, and yet 2 of 2 is not everything
    assert share.low == pytest.approx(stats.binomtest(2, 2).proportion_ci().low)
