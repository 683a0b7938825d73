"""How often the intervals over seeds and problems hold the truth and call null differences significant.

    python tests/benchmarks/bench_intervals.py                      # every world, about three minutes
    python tests/benchmarks/bench_intervals.py --replications 500
    python tests/benchmarks/bench_intervals.py --one-seed           # the intervals over problems alone
    python tests/benchmarks/bench_intervals.py --differences        # those of differences

A world draws two conditions without a difference: the same training seeds' numbers on both sides (each
condition's seeds vary independently), the same problems. `seed SD` is that of a seed's score, on the scale of
the score.

- normal: seed + problem (SD 0.3) + cell (SD 0.25), about what a score of 4 completions per cell varies.
- graded: 4 completions per cell, right or wrong; chances are logistic in seed and problem (SD 1.7), mean 0.6.
- density: markers per token, a ratio of sums: Poisson counts, lengths and rates whose logarithms vary by
  problem (SD 0.15, together) and seed, as in the recorded runs.
- skewed: the same where lengths vary as those of large models do (SD 0.4, rates 0.3). With 30 problems the
  linearised ratio of one condition covers less than 93% here; see `covers`. Differences are not affected. The
  test leaves this world out.

With an interaction every problem also has an effect of its own on each condition (normal: SD 0.15; logits:
0.8; log rates: 0.15, skewed 0.3). Columns, in percent: the truth inside the 95% interval of one condition
(`covers`), of the difference (`difference`); differences called significant with the seeds paired by number
(`false`) and with other seeds on both sides (`unpaired`); equivalence claimed where the true difference is
the margin (`equal`, at most 5 is right, normal worlds only). `width`: mean width of the difference's interval
divided by that of the percentile interval of the pigeonhole bootstrap (Owen 2007), which resamples seeds and
problems independently, and, behind it, that bootstrap's own false positives.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from scipy import stats

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from sdlab.measure.intervals import difference_interval, ratio_interval
from sdlab.measure.shares import share_difference, share_interval
from sdlab.measure.spread import crossed_spread, linearised

SEEDS, SEED_SDS, PROBLEMS = (2, 3, 5, 10), (0.0, 0.03, 0.1), (30, 128)
KINDS, INTERACTIONS = ("normal", "graded", "density", "skewed"), (False, True)
MARGIN = 0.1
PROBLEM_LOGIT, INTERACTION_LOGIT, MEAN = 1.7, 0.8, 0.6
LOGS = {
    "density": (0.15, 0.15, 0.15),
    "skewed": (0.4, 0.3, 0.3),
}  # SD of log length, log rate, their interaction


def worlds():
    """Yield (kind, interaction, seeds, seed SD, problems)."""
    yield from itertools.product(KINDS, INTERACTIONS, SEEDS, SEED_SDS, PROBLEMS)


def draw(rng, kind: str, interaction: bool, seeds: int, seed_sd: float, problems: int, count: int):
    """Return ([(over, under) of two conditions], the truth of each), tables (count, seeds, problems)."""
    shared = rng.normal(size=(count, 1, problems))
    sides = []
    for _ in range(2):
        own = rng.normal(size=(count, 1, problems)) if interaction else 0.0
        seed = rng.normal(size=(count, seeds, 1))
        if kind == "normal":
            cells = rng.normal(size=(count, seeds, problems))
            over = seed_sd * seed + 0.3 * shared + 0.15 * own + 0.25 * cells
            sides.append((over, np.ones_like(over)))
        elif kind == "graded":
            logits = PROBLEM_LOGIT * shared + INTERACTION_LOGIT * own
            chances = _logistic(_middle(interaction) + logits + _seed_logit(interaction, seed_sd) * seed)
            over = rng.binomial(4, chances).astype(float)
            sides.append((over, np.full_like(over, 4)))
        else:
            relative, (by_length, by_rate, apart) = seed_sd / MEAN, LOGS[kind]
            cells = rng.normal(size=(count, seeds, problems))
            lengths = np.exp(5 + by_length * shared + 0.1 * cells + relative * seed)
            rate = 0.06 * np.exp(by_rate * shared + apart * own + relative * seed)
            sides.append((rng.poisson(rate * lengths).astype(float), lengths))
    return sides, _truth(kind, interaction, seed_sd)


def _logistic(x):
    return 1 / (1 + np.exp(-x))


def _expected(function) -> float:
    """Return the mean of function(Z) for a standard normal Z."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    return float((weights * function(points)).sum() / weights.sum())


def _logit_sd(interaction: bool) -> float:
    return float(np.hypot(PROBLEM_LOGIT, INTERACTION_LOGIT if interaction else 0.0))


def _middle(interaction: bool) -> float:
    """Return the logit around which the mean chance is near MEAN (the usual scaling of a logistic-normal)."""
    return float(np.log(MEAN / (1 - MEAN)) * np.sqrt(1 + 0.346 * _logit_sd(interaction) ** 2))


def _seed_logit(interaction: bool, seed_sd: float) -> float:
    """Return the seeds' SD in logits that is `seed_sd` on the scale of the mean chance (to first order)."""
    spread, middle = _logit_sd(interaction), _middle(interaction)
    slope = _expected(lambda z: (p := _logistic(middle + spread * z)) * (1 - p))
    return seed_sd / slope


def _truth(kind: str, interaction: bool, seed_sd: float) -> float:
    if kind == "normal":
        return 0.0
    if kind == "graded":
        spread = np.hypot(_logit_sd(interaction), _seed_logit(interaction, seed_sd))
        return _expected(lambda z: _logistic(_middle(interaction) + spread * z))
    relative, (by_length, by_rate, apart) = seed_sd / MEAN, LOGS[kind]
    # lengths and rates share their problem's and their seed's effect; exp(sd * Z) has the mean exp(sd^2 / 2)
    over = (by_length + by_rate) ** 2 + (2 * relative) ** 2 + (apart**2 if interaction else 0.0)
    return float(0.06 * np.exp((over - by_length**2 - relative**2) / 2))


def rates(rng, kind: str, interaction: bool, seeds: int, seed_sd: float, problems: int, count: int) -> dict:
    """Return the shares of `count` draws: covers, difference, false, unpaired, equal; and the mean width."""
    (a, b), truth = draw(rng, kind, interaction, seeds, seed_sd, problems, count)
    (mean_a, values_a), (mean_b, values_b) = linearised(*a), linearised(*b)
    change = mean_b - mean_a
    paired, unpaired = crossed_spread(values_b - values_a), crossed_spread(values_b, -values_a)
    half = paired.half_width(0.95)
    inside = np.abs(mean_a - truth) <= crossed_spread(values_a).half_width(0.95)
    equal = np.abs(change + MARGIN) + paired.half_width(0.9) < MARGIN
    return {
        "covers": inside.mean(),
        "difference": (np.abs(change) <= half).mean(),
        "false": (np.abs(change) > half).mean(),
        "unpaired": (np.abs(change) > unpaired.half_width(0.95)).mean(),
        "equal": equal.mean() if kind == "normal" else np.nan,
        "width": 2 * half.mean(),
    }


def bootstrap(rng, sides, resamples: int = 1000) -> tuple[float, float]:
    """Return mean width and false positives of the pigeonhole bootstrap's interval of the difference."""
    widths, alarms = [], []
    (over_a, under_a), (over_b, under_b) = sides
    for a, m, b, n in zip(over_a, under_a, over_b, under_b, strict=True):
        seeds, problems = (
            rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(float) for size in a.shape
        )
        sums = [((seeds @ table) * problems).sum(1) for table in (a, m, b, n)]
        low, high = np.percentile(sums[2] / sums[3] - sums[0] / sums[1], [2.5, 97.5])
        widths.append(high - low)
        alarms.append(low > 0 or high < 0)
    return float(np.mean(widths)), float(np.mean(alarms))


def one_seed(replications: int) -> None:
    """Print how often intervals by problem hold the truth.

    There are 8 completions per problem, whose chances are beta distributed. The intervals are
    `ratio_interval` and `share_interval`.
    """
    rng = np.random.default_rng(0)
    for problems, score in itertools.product((4, 8, 20, 60), (0.7, 0.95, 0.98)):
        inside = np.zeros(2)
        for trial in range(replications):
            right, ones = completions(rng, score, problems), np.ones(problems)
            found = [one(right, ones, seed=trial) for one in (ratio_interval, share_interval)]
            inside += [one.low <= score <= one.high for one in found]
        print_covered(f"{problems} problems, score {score}", inside / replications)


def differences(replications: int) -> None:
    """Print how often `difference_interval` and `share_difference` hold the truth, drawn as in `one_seed`."""
    rng = np.random.default_rng(0)
    for problems, before, after in itertools.product((6, 20, 60), (0.0,), (0.05, 0.3, 0.95)):
        inside = np.zeros(2)
        for _ in range(replications):
            sides = (completions(rng, score, problems) for score in (before, after))
            given = [part for right in sides for part in (right, np.ones(problems))]
            found = [one(*given) for one in (difference_interval, share_difference)]
            inside += [one.low <= after - before <= one.high for one in found]
        print_covered(f"{problems} problems, score {before} before, {after} after", inside / replications)


def completions(rng, score: float, problems: int) -> np.ndarray:
    """Return the shares of right completions of `problems` problems, whose chances have the mean `score`."""
    chances = rng.beta(score * 2, (1 - score) * 2, problems) if 0 < score < 1 else np.full(problems, score)
    return rng.binomial(8, chances) / 8


def print_covered(name: str, rates: np.ndarray) -> None:
    print(f"{name}: {100 * rates[0]:.1f}% covered, as a share {100 * rates[1]:.1f}%", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replications", type=int, default=4000)
    parser.add_argument("--bootstraps", type=int, default=300, help="draws for the old interval's width")
    parser.add_argument("--one-seed", action="store_true", help="over problems alone, 400 draws a line")
    parser.add_argument("--differences", action="store_true", help="differences over problems alone")
    options = parser.parse_args()
    if options.differences:
        return differences(min(400, options.replications))
    if options.one_seed:
        return one_seed(min(400, options.replications))
    print(
        "world              seeds  SD    problems  covers difference  false unpaired  equal  width  old false"
    )
    worst = {}
    for world in worlds():
        kind, interaction, seeds, seed_sd, problems = world
        found = rates(np.random.default_rng(stable(world)), *world, options.replications)
        rng = np.random.default_rng(stable(world) + 1)
        old_width, old_false = bootstrap(rng, draw(rng, *world, options.bootstraps)[0])
        width = found.pop("width") / old_width
        name = kind + (", interaction" if interaction else "")
        shares = "  ".join(f"{100 * found[key]:7.1f}" for key in found)
        print(
            f"{name:<20}{seeds:>4}  {seed_sd:.2f}  {problems:>7}  {shares}  {width:5.2f}"
            f"  {100 * old_false:6.1f}",
            flush=True,
        )
        for key, share in found.items():
            pick = min if key in ("covers", "difference") else max
            worst[key] = pick(worst.get(key, share), share)
        if seed_sd == 0:
            worst.setdefault(f"width, {seeds} equal seeds", []).append(width)
    for key, value in worst.items():
        print(
            f"{key}: "
            + (
                f"{np.mean(value):.2f} times the bootstrap's"
                if "width" in key
                else f"worst {100 * value:.1f}"
            )
        )
    limit = stats.binom.ppf(0.99, options.replications, 0.05) / options.replications
    print(f"(a true 5% is above {100 * limit:.1f} in one of a hundred worlds)")


def stable(world) -> int:
    """Return a seed of the world's own."""
    kind, interaction, seeds, seed_sd, problems = world
    return (
        KINDS.index(kind) * 10**7
        + interaction * 10**6
        + seeds * 10**4
        + int(100 * seed_sd) * 10**3
        + problems
    )


if __name__ == "__main__":
    main()
