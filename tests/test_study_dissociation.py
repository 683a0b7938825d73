"""The ratio of two relative losses: known values, Fieller's closed form, and its coverage."""

import numpy as np
import pandas
import pytest
from scipy import stats

from sdlab.errors import SdlabError
from sdlab.study.dissociation import dissociation, loss_change
from sdlab.study.recorded import Recorded

GENERATIONS = 4


def recorded(scores: dict[tuple[str, str], np.ndarray]) -> Recorded:
    """Recorded runs from (condition, split) -> sums of rewards (seeds, problems)."""
    rows = [
        {"condition": name, "seed": seed, "step": 40, "split": split, "problem_id": f"{split}{problem}"}
        | {"generations": GENERATIONS, "reward": value, "length": 1, "markers": 0, "truncated": 0}
        for (name, split), table in scores.items()
        for seed, line in enumerate(table)
        for problem, value in enumerate(line)
    ]
    return Recorded(pandas.DataFrame(columns=["seed"]), pandas.DataFrame(rows), {})


def draw(rng, near=(0.8, 0.6), far=(0.5, 0.2), seeds=5, problems=60, seed_sd=0.02) -> Recorded:
    """Runs whose true scores are `near` and `far`, before and after training."""
    shift = seed_sd * rng.standard_normal(seeds)
    scores = {}
    for split, (before, after) in (("in-domain", near), ("unseen-types", far)):
        ease = 0.15 * rng.standard_normal(problems)
        for name, mean, moved in (("base", before, 0 * shift), ("sdpo", after, shift)):
            chance = np.clip(mean + ease + moved[:, None], 0.01, 0.99)
            scores[name, split] = rng.binomial(GENERATIONS, chance)
    return recorded(scores)


def test_the_losses_and_their_ratio_are_those_of_the_mean_scores():
    table = {
        ("base", "in-domain"): np.full((3, 10), 4), ("sdpo", "in-domain"): np.tile([3, 3, 3, 3, 3], (3, 2)),
        ("base", "unseen-types"): np.full((3, 8), 2), ("sdpo", "unseen-types"): np.tile([0, 1, 1, 2], (3, 2)),
    }  # fmt: skip
    result = dissociation(recorded(table), "base", "sdpo")
    assert result.loss_near.mean == pytest.approx(0.25)
    assert result.loss_far.mean == pytest.approx(0.5)
    assert result.ratio.mean == pytest.approx(2.0)


def test_the_interval_is_fiellers_closed_form_where_only_problems_vary():
    rng = np.random.default_rng(0)
    after = {split: rng.integers(1, 4, size=40) for split in ("in-domain", "unseen-types")}
    table = {}
    for split, sums in after.items():
        table["base", split] = np.full((1, 40), 4)
        table["sdpo", split] = sums[None]
    result = dissociation(recorded(table), "base", "sdpo")
    x, y = (1 - after[split] / 4 for split in ("in-domain", "unseen-types"))
    # Fieller: the roots in f of (mean_y - f mean_x)^2 = t^2 (var_y + f^2 var_x) for independent x and y. Here
    # t has the degrees of freedom of all problems together, and the variances are about their own means.
    t2 = stats.t.ppf(0.975, 79) ** 2
    var_x, var_y = ((v - v.mean()).dot(v - v.mean()) / 40**2 * 80 / 79 for v in (x, y))
    roots = np.roots([
        x.mean() ** 2 - t2 * var_x, -2 * x.mean() * y.mean(), y.mean() ** 2 - t2 * var_y
    ])  # fmt: skip
    assert [result.ratio.low, result.ratio.high] == pytest.approx(sorted(roots), rel=1e-6)
    assert not result.exceeds(0.01)  # one seed shows nothing about other seeds


def test_the_interval_covers_the_true_ratio_and_a_factor_is_rarely_exceeded_when_it_is_the_truth():
    rng = np.random.default_rng(1)
    truth = (1 - 0.2 / 0.5) / (1 - 0.6 / 0.8)
    results = [dissociation(draw(rng, seeds=3), "base", "sdpo").ratio for _ in range(150)]
    covered = np.mean([one.low < truth < one.high for one in results])
    above = np.mean([one.low > truth for one in results])
    assert covered > 0.9
    assert above < 0.06


def test_without_a_loss_in_domain_every_factor_is_possible():
    rng = np.random.default_rng(2)
    result = dissociation(draw(rng, near=(0.7, 0.7)), "base", "sdpo")
    assert (result.ratio.low, result.ratio.high) == (-np.inf, np.inf)
    # yet the loss elsewhere is shown to be larger than any multiple of a loss that is near 0
    assert result.exceeds(1.5) and not dissociation(draw(rng, near=(0.8, 0.4)), "base", "sdpo").exceeds(1.5)


def test_a_loss_that_is_exactly_a_factor_larger_is_called_larger_at_most_as_often_as_the_level_says():
    rng = np.random.default_rng(3)
    truth = (1 - 0.2 / 0.5) / (1 - 0.6 / 0.8)
    found = [dissociation(draw(rng, seeds=3), "base", "sdpo") for _ in range(100)]
    assert sum(one.exceeds(truth) for one in found) <= 8  # 2.5 expected at one side of a 95% interval
    assert all((one.excess(one.ratio.mean).mean) == pytest.approx(0, abs=1e-9) for one in found)


def test_runs_without_common_problems_and_a_score_of_zero_are_refused():
    table = {("base", "in-domain"): np.ones((2, 3)), ("sdpo", "in-domain"): np.ones((2, 3))}
    other = recorded(table)
    other.evaluations.loc[other.evaluations["condition"] == "sdpo", "problem_id"] += "x"
    with pytest.raises(SdlabError, match="on 'in-domain' have no seeds or no problems in common"):
        dissociation(other, "base", "sdpo")
    table = {
        (name, split): np.zeros((2, 3))
        for name in ("base", "sdpo")
        for split in ("in-domain", "unseen-types")
    }
    with pytest.raises(SdlabError, match="is 0; a share of it cannot be lost"):
        dissociation(recorded(table), "base", "sdpo")


def test_the_change_of_a_loss_is_the_difference_of_the_two_losses_and_significant_where_they_differ():
    rng = np.random.default_rng(4)
    one, other = draw(rng, near=(0.8, 0.3)), draw(rng, near=(0.8, 0.6))
    renamed = other.evaluations.assign(condition=other.evaluations["condition"] + "_1")
    both = Recorded(one.steps, pandas.concat([one.evaluations, renamed]), {})
    change = loss_change(both, ("base", "sdpo"), ("base_1", "sdpo_1"), "in-domain")
    apart = [dissociation(runs, "base", "sdpo").loss_near.mean for runs in (one, other)]
    assert change.interval.mean == pytest.approx(apart[1] - apart[0])
    assert change.significant and change.interval.high < 0
    same = loss_change(both, ("base", "sdpo"), ("base", "sdpo"), "in-domain")
    assert same.interval.mean == 0 and not same.significant


def test_a_change_of_a_loss_is_called_significant_without_one_at_most_as_often_as_the_level_says():
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(100):
        one, other = draw(rng, seeds=3), draw(rng, seeds=3)
        renamed = other.evaluations.assign(condition=other.evaluations["condition"] + "_1")
        both = Recorded(one.steps, pandas.concat([one.evaluations, renamed]), {})
        wrong += loss_change(both, ("base", "sdpo"), ("base_1", "sdpo_1"), "in-domain").significant
    assert wrong <= 10  # 5 expected at the level of 5%; 11 or more come with a probability of 1%
