"""The coverage of a set of problems: distinct problems, effective number of types, exposures under a plan.

One formula is used throughout. Draw n of M rows without replacement. A property that m of the rows have is
met with probability 1 - C(M - m, n) / C(M, n). Summed over distinct problems this is how many are seen after
n draws; summed over types it is the accumulation curve (rarefaction: Hurlbert 1971, Ecology 52:577).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar, overload

import numpy as np

from sdlab.benchmarks.duplicates import normalised
from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.settings import Count, Range, Seed, check_settings, checked
from sdlab.world.problems import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class SamplingPlan:
    """A sampling plan: `num_problems` rows per step for `steps` steps, `num_generations` completions of each.

    replacement False means epochs, as in sdlab's own loops and verl's (every row once before any is
    repeated).
    """

    steps: Count
    num_problems: Count
    num_generations: Count = 8
    replacement: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def draws(self) -> int:
        """Return the number of rows drawn in all steps."""
        return self.steps * self.num_problems


PAPER_PLAN = SamplingPlan(steps=100, num_problems=256, num_generations=8)  # arXiv 2603.24472: 25,600 draws


def copies_of(problems: Sequence[Problem]) -> np.ndarray:
    """Return how many rows each distinct question has, (distinct,), in order of first appearance.

    Raises SdlabError without problems.
    """
    return np.array(list(Counter(normalised([problem.prompt for problem in _some(problems)])).values()))


def types_of(problems: Sequence[Problem]) -> dict[str, float]:
    """Return type -> weight.

    A problem of several types ("remainder x half; between x letters") counts 1/number for each of them.

    Raises SdlabError without problems, and when a problem has no kind; then cluster the questions
    (`sdlab.benchmarks.clusters`).
    """
    weights: dict[str, float] = {}
    for problem in _some(problems):
        if not problem.kind:
            raise SdlabError(
                f"problem {problem.id} has no kind; find types in the text with "
                "sdlab.benchmarks.clusters.find_types"
            )
        for part in problem.types:
            weights[part] = weights.get(part, 0.0) + 1 / len(problem.types)
    return weights


@checked
def hill_number(weights: Iterable[float], order: Annotated[float, Range(0)] = 1) -> float:
    """Return the effective number of types: how many equally common types would be as diverse.

    weights: one non-negative number per type. Order 0 counts the types; order 1 is exp(Shannon entropy);
    order 2 is one over the probability that two random problems have the same type.

    Raises SdlabError when weights are negative, not finite or all zero.

    Source: Hill 1973; Jost 2006.
    """
    counts = np.asarray(list(weights), dtype=float)
    if not counts.size or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise SdlabError(
            "an effective number of types needs non-negative weights, at least one above 0; "
            f"got {counts[:5].tolist()}"
        )
    shares = counts[counts > 0] / counts.sum()
    if abs(order - 1) < 1e-9:
        return float(np.exp(-(shares * np.log(shares)).sum()))
    return float((shares**order).sum() ** (1 / (1 - order)))


@overload
def expected_met(
    copies: Iterable[int], draws: int, replacement: bool = False, rows: int | None = None
) -> float: ...


@overload
def expected_met(
    copies: Iterable[int], draws: Sequence[int], replacement: bool = False, rows: int | None = None
) -> np.ndarray: ...


def expected_met(
    copies: Iterable[int], draws: int | Sequence[int], replacement: bool = False, rows: int | None = None
) -> np.ndarray | float:
    """Return how many distinct things are met, on average, in so many draws.

    copies[i] of the `rows` rows have thing i. rows: M, by default the sum of `copies` (each row has one
    thing). Without replacement the rows are drawn in epochs. draws: a number, or several.

    Raises SdlabError when there is nothing to draw and when draws are negative.
    """
    from scipy.special import gammaln

    weights = np.asarray(list(copies), dtype=float)
    total = float(weights.sum() if rows is None else rows)
    counts = np.atleast_1d(np.asarray(draws, dtype=float))[:, None]
    if not weights.size or (weights < 1).any() or weights.max() > total:
        raise SdlabError(
            f"nothing to draw from: {weights.size} distinct things in {total:g} rows; "
            "every one needs between 1 row and all of them"
        )
    if (counts < 0).any():
        raise SdlabError(f"{counts.min():g} draws are not allowed; the number of draws is at least 0")
    if replacement:
        missed = (1 - weights / total) ** counts
    else:
        n = np.minimum(counts, total)
        possible = total - weights - n >= 0  # else some copy must have been drawn
        left = np.where(possible, total - weights - n, 0)
        logs = gammaln(total - weights + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - n + 1)
        missed = np.where(possible, np.exp(logs), 0.0)
    met = (1 - missed).sum(1)
    return float(met[0]) if np.ndim(draws) == 0 else met


def accumulation(kinds: Sequence[Sequence[str]], sizes: Sequence[int]) -> np.ndarray:
    """Return how many distinct types are met, on average, in n problems drawn without replacement.

    n takes the values of `sizes`: (len(sizes),). kinds: the types of each problem (one or more).

    Raises SdlabError when a size is larger than the number of problems.
    """
    if not len(kinds):
        raise SdlabError("the set of problems is empty; give at least one problem")
    if max(sizes) > len(kinds) or min(sizes) < 1:
        wrong = max(sizes) if max(sizes) > len(kinds) else min(sizes)
        raise SdlabError(f"{wrong} problems asked of a set of {len(kinds)}; choose 1 to {len(kinds)}")
    counts = Counter(kind for types in kinds for kind in set(types))
    return expected_met(counts.values(), list(sizes), rows=len(kinds))


def exposures(copies: Iterable[int], plan: SamplingPlan) -> np.ndarray:
    """Return P(a distinct problem is drawn k times), k = 0, 1, ..., averaged over the distinct problems.

    The mean is draws / distinct. With replacement the distribution is binomial; without replacement it is
    full epochs plus a hypergeometric rest.

    Raises SdlabError when there is nothing to draw.
    """
    from scipy.stats import binom, hypergeom

    numbers = np.asarray(list(copies), dtype=int)
    if not numbers.size:
        raise SdlabError("the set of problems is empty; give at least one problem")
    total, having = int(numbers.sum()), Counter(numbers.tolist())
    epochs, rest = divmod(plan.draws, total)
    shares = np.zeros(1)
    for size, times in having.items():
        k = np.arange((plan.draws if plan.replacement else size * (epochs + 1)) + 1)
        probs = (
            binom.pmf(k, plan.draws, size / total)
            if plan.replacement
            else hypergeom.pmf(k - size * epochs, total, size, rest)
        )
        shares = np.pad(shares, (0, max(0, len(probs) - len(shares))))
        shares[: len(probs)] += probs * times / len(numbers)
    last = np.flatnonzero(shares > 1e-12)[-1]
    return shares[: last + 1]


@checked
def draw_plan(items: Sequence[T], plan: SamplingPlan, seed: Seed = 0) -> list[T]:
    """Return the items that one run of the plan sees, in order.

    Epochs are those of `sdlab.train.batch.draw`.

    Raises SdlabError without items.
    """
    if not len(items):
        raise SdlabError("the set of problems is empty; give at least one problem")
    if plan.replacement:
        rng = stream("plan", seed)
        return [items[rng.randrange(len(items))] for _ in range(plan.draws)]
    from sdlab.train.batch import draw  # torch comes with it

    return draw(items, plan.draws, seed, 0)


def measure_coverage(problems: Sequence[Problem], plan: SamplingPlan = PAPER_PLAN) -> dict:
    """Return one row of Table 3 for problems with known or unknown types: plain numbers, JSON-ready.

    questions (rows) and distinct; for the plan: draws, touched (expected distinct questions met) and its
    share, exposures per distinct question; types (None where no kind is given): richness, effective numbers
    of order 1 and 2, and combinations of types.

    Raises SdlabError without problems.
    """
    copies = copies_of(problems)
    touched = expected_met(copies, plan.draws, plan.replacement)
    row = {
        "questions": len(problems),
        "distinct": len(copies),
        "draws": plan.draws,
        "touched": touched,
        "touched_share": touched / len(copies),
        "exposures": plan.draws / len(copies),
        "answers": plan.draws * plan.num_generations / len(copies),
        "types": None,
        "effective_types": None,
        "effective_types_2": None,
        "combinations": None,
        "effective_combinations": None,
    }
    if all(problem.kind for problem in problems):
        weights = types_of(problems)
        combinations = Counter("; ".join(sorted(problem.types)) for problem in problems)
        row |= {
            "types": len(weights),
            "effective_types": hill_number(weights.values()),
            "effective_types_2": hill_number(weights.values(), 2),
            "combinations": len(combinations),
            "effective_combinations": hill_number(combinations.values()),
        }
    return row


def _some(problems: Sequence[Problem]) -> Sequence[Problem]:
    """Return the problems; raise SdlabError when there are none."""
    if not len(problems):
        raise SdlabError("the set of problems is empty; give at least one problem")
    return problems
