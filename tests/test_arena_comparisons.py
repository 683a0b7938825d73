"""p-values, Holm's correction and verdicts, against peers and simulated runs with known truth."""

import itertools
import math

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.measure.crossed import crossed_difference
from sdlab.study.arena import claims_table
from sdlab.study.arena_comparisons import (
    against_method,
    against_untrained,
    compare_with,
    holm,
    p_above,
    p_beyond,
    p_value,
    p_within,
)
from sdlab.study.arena_conditions import UNTRAINED, arena_name
from sdlab.study.recorded import Recorded

GENERATIONS = 8


def simulated(
    scores: dict[str, float], seeds=5, seed_sd=0.02, rng_seed=0, problems=40, split="unseen-types"
) -> Recorded:
    """Hunts in which each method has this true score; problems differ, and seeds of trained models too."""
    rng = np.random.default_rng(rng_seed)
    ease = 0.15 * rng.standard_normal(problems)
    frames = []
    for method, score in scores.items():
        shift = 0 if method == UNTRAINED else seed_sd * rng.standard_normal((seeds, 1))
        sums = rng.binomial(GENERATIONS, np.clip(score + ease + shift, 0.01, 0.99), size=(seeds, problems))
        seed, problem = np.indices(sums.shape)
        frames.append(
            pandas.DataFrame({
                "condition": arena_name(method), "seed": seed.ravel(), "step": 40, "split": split,
                "problem_id": [f"{split}{one}" for one in problem.ravel()], "generations": GENERATIONS,
                "reward": sums.ravel(), "length": 100, "markers": 4, "truncated": 0,
            })
        )  # fmt: skip
    return Recorded(pandas.DataFrame(columns=["condition", "seed"]), pandas.concat(frames), {})


def closed_test(p: np.ndarray) -> list[float]:
    """Adjusted p-values by the closure of Bonferroni's test: the largest p of all families with a member."""
    members = range(len(p))
    families = [some for size in members for some in itertools.combinations(members, size + 1)]
    return [max(min(1, len(some) * p[list(some)].min()) for some in families if i in some) for i in members]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closed_test(seed):
    p = np.random.default_rng(seed).beta(0.4, 2, 6)
    p[seed % 6] = p[0]  # ties
    assert holm(p) == pytest.approx(closed_test(p))


def test_holm_gives_the_published_values_and_leaves_out_what_is_missing():
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    with_gap = holm([0.01, math.nan, 0.04])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.04]) and math.isnan(with_gap[1])
    assert len(holm([])) == 0


def test_p_values_are_those_of_the_paired_t_test_where_there_is_one_problem():
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.3, 2.0):
        a, b = rng.standard_normal((2, 6))
        b = b + shift
        difference = crossed_difference(a[:, None], b[:, None])
        assert p_value(difference) == pytest.approx(stats.ttest_rel(b, a).pvalue, rel=1e-4)
        for at in (-0.5, 0.5):
            expected = stats.ttest_1samp(b - a, at, alternative="greater").pvalue
            assert p_above(difference, at) == pytest.approx(expected, rel=1e-4)
        less, more = (
            stats.ttest_1samp(b - a, at, alternative=side).pvalue
            for at, side in ((0.4, "less"), (-0.4, "greater"))
        )
        assert p_within(difference, 0.4) == pytest.approx(max(less, more), rel=1e-4)


def test_the_interval_at_one_minus_p_ends_at_zero():
    rng = np.random.default_rng(1)
    difference = crossed_difference(rng.random((4, 30)), rng.random((4, 30)) + 0.05)
    interval = difference.at(1 - p_value(difference))
    assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-6)


def test_one_seed_and_equal_seeds_have_no_p_value():
    table = np.random.default_rng(0).random((1, 9))
    assert math.isnan(p_value(crossed_difference(table, table + 0.3)))
    same = np.zeros((2, 1))
    assert math.isnan(p_value(crossed_difference(same, same + 0.3)))


TRUTH = {UNTRAINED: 0.5, "sdpo": 0.2, "grpo": 0.7, "srpo": 0.5, "rlsd": 0.7, "veto": 0.2, "opsa": 0.35}


def test_verdicts_are_the_truth_of_the_simulated_runs():
    recorded = simulated(TRUTH, seed_sd=0.003, problems=128)
    methods = [*TRUTH][1:]

    def verdicts(other):
        return compare_with(recorded, methods, other).set_index("method")["verdict"].to_dict()

    assert verdicts(UNTRAINED) == {
        "sdpo": "loses", "grpo": "gains", "srpo": "keeps", "rlsd": "gains", "veto": "loses", "opsa": "loses",
    }  # fmt: skip
    assert verdicts("sdpo") == {
        "grpo": "better", "srpo": "better", "rlsd": "better", "veto": "equal", "opsa": "better",
    }  # fmt: skip
    against_grpo = verdicts("grpo")
    assert against_grpo.pop("rlsd") in ("equal", "not worse", "not settled")
    assert set(against_grpo.values()) == {"worse"}


@pytest.mark.parametrize(
    "mean, p, p_least, p_within, verdict, untrained",
    [
        (0.2, 0.01, 0.001, 1.0, "better", "gains"),
        (-0.2, 0.01, 1.0, 1.0, "worse", "loses"),
        (-0.02, 0.01, 0.01, 0.01, "worse", "keeps"),  # a little lower, by less than the margin
        (0.01, 0.6, 0.01, 0.01, "equal", "keeps"),
        (0.04, 0.06, 0.01, 0.2, "not worse", "keeps"),
        (-0.04, 0.06, 0.4, 0.4, "not settled", "not settled"),
        (0.3, math.nan, math.nan, math.nan, "one seed", "one seed"),
    ],
)
def test_the_verdict_of_each_case(mean, p, p_least, p_within, verdict, untrained):
    assert against_method(mean, p, p_least, p_within) == verdict
    assert against_untrained(mean, p, p_least, p_within) == untrained


def test_what_is_missing_is_listed():
    recorded = simulated({UNTRAINED: 0.5, "sdpo": 0.2})
    table = compare_with(recorded, ["sdpo", "grpo", "srpo"], UNTRAINED).set_index("method")
    assert table["verdict"].to_dict() == {"sdpo": "loses", "grpo": "not recorded", "srpo": "not recorded"}
    assert set(compare_with(recorded, ["sdpo", "srpo"], "grpo")["verdict"]) == {"not recorded"}
    alone = compare_with(simulated({UNTRAINED: 0.5, "sdpo": 0.2}, seeds=1), ["sdpo"], UNTRAINED)
    assert alone["verdict"].item() == "one seed"
    with pytest.raises(SdlabError, match="unknown repair 'spdo'"):
        compare_with(recorded, ["sdpo"], "spdo")


def test_among_many_methods_without_an_effect_a_verdict_is_rare():
    names = "grpo srpo rlsd veto opsa eopd scope drift".split()
    wrong = uncorrected = 0
    for trial in range(25):
        recorded = simulated({UNTRAINED: 0.5} | dict.fromkeys(names, 0.5), 3, rng_seed=trial)
        table = compare_with(recorded, names, UNTRAINED)
        wrong += table["verdict"].isin(["gains", "loses"]).any()
        uncorrected += (np.sign(table["low"]) == np.sign(table["high"])).any()
    assert wrong <= 5  # 5% of 25 is 1.25; more than 5 has a chance of about 1 in 800
    assert uncorrected > wrong  # so the correction does something here


def test_pass_at_k_of_recorded_sums_is_the_share_of_all_subsets_with_a_right_one():
    recorded = simulated({"sdpo": 0.3}, seeds=2)
    counts = recorded.evaluations["reward"].to_numpy()
    for k in (1, 4, 8):
        expected = []
        for right in counts:
            completions = [1] * right + [0] * (GENERATIONS - right)
            subsets = list(itertools.combinations(completions, k))
            expected.append(sum(any(some) for some in subsets) / len(subsets))
        over, under = recorded.table(arena_name("sdpo"), f"pass@{k}", "unseen-types")
        interval = recorded.interval(arena_name("sdpo"), f"pass@{k}", "unseen-types")
        assert interval.mean == pytest.approx(np.mean(expected))
        assert over.to_numpy().sum() == pytest.approx(sum(expected)) and (under == 1).all(axis=None)
        assert 0 <= interval.low <= interval.mean <= interval.high <= 1


@pytest.mark.parametrize(
    "metric, message",
    [
        ("pass@9", "1 <= k <= samples per problem; k=9, samples=8"),
        ("pass@0", "'pass@0' is not allowed; write pass@k with a number"),
        ("pass@x", "'pass@x' is not allowed"),
        ("right_if_unhedged", "recorded without 'unhedged_right'"),
    ],
)
def test_a_metric_that_the_record_does_not_have_is_refused(metric, message):
    with pytest.raises(SdlabError, match=message):
        simulated({"sdpo": 0.3}).table(arena_name("sdpo"), metric, "unseen-types")


def test_a_difference_beyond_the_margin_is_tested_at_its_nearer_end():
    values = np.random.default_rng(3).standard_normal(6) + 2
    for sign in (1, -1):
        difference = crossed_difference(np.zeros((6, 1)), sign * values[:, None])
        for margin in (0.1, 0.5, 1.5):
            expected = stats.ttest_1samp(values, margin).pvalue
            assert p_beyond(difference, margin) == pytest.approx(expected, rel=1e-4)
        assert p_beyond(difference, 2 * values.mean()) == 1
    assert math.isnan(p_beyond(crossed_difference(np.zeros((1, 9)), np.ones((1, 9))), 0.05))


@pytest.mark.parametrize(
    "gap, verdict", [(0.0, "agrees"), (0.025, "agrees"), (0.05, "not settled"), (0.3, "disagrees")]
)
def test_a_claim_of_equality_is_refuted_by_a_difference_beyond_the_margin_only(gap, verdict):
    """A difference of 0.025 is significant here, and yet it is less than the margin of 0.05, as claimed."""
    truth = {"opsd_clip": 0.4, "pw_opsd": 0.4 + gap, "grpo": 0.4, UNTRAINED: 0.4}
    parts = [
        simulated(truth, seed_sd=0.0, problems=1500, split=split) for split in ("in-domain", "unseen-types")
    ]
    recorded = Recorded(parts[0].steps, pandas.concat([part.evaluations for part in parts]), {})
    names = arena_name("opsd_clip"), arena_name("pw_opsd")
    assert recorded.difference(*names, "reward", "unseen-types").significant == (gap > 0)
    table = claims_table(recorded).set_index(["claim", "split"])
    assert table.loc[("pw_opsd equal to opsd_clip", "unseen-types"), "verdict"] == verdict
