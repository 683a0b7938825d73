"""The recorded conditions of the arena: every repair and control of the catalogue on equal terms.

All are trained from the same organism with 16 problems x 8 completions for 40 steps; the last checkpoint
counts. The teacher has the weights that training started from, and a sibling's solution is the context,
unless a method is about these. A method's learning rate is chosen by its tuning runs
(`sdlab.study.arena_rates`). A method without a chosen rate has a condition that cannot be run.

Three rounds: "hunts" (evaluated in-domain, on unseen types and on deeper problems), "chemistry" (trained
there; evaluated there and on the hunts that it was not trained on), "narrow" (8 problems of the hunts). The
winners of the hunts are repeated on the other organisms of the same recipe, at the rate of the first.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sdlab.errors import unknown
from sdlab.paths import ORGANISM
from sdlab.runs.plan import Plan
from sdlab.study.arena_rates import (
    GROUP,
    TUNING_PROBLEMS,
    TUNING_SEEDS,
    rate_name,
    rates_path,
    read_rates,
    shipped_weights,
    tried,
    why_not_tuned,
)
from sdlab.study.condition import Condition
from sdlab.study.organism_conditions import ORGANISMS, organism_name
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.named import RepairConfig

SIZES: dict[str, Any] = {"steps": 40, "warmup_steps": 4, "num_problems": 16, "num_generations": 8}
DEFAULT_RATE = 3e-4  # of a condition that cannot be run yet
HUNTS = Plan(
    eval_every=10,
    eval_problems=32,
    final_problems=128,
    num_eval_generations=8,
    commitments=True,
)
ROUNDS: dict[str, Plan] = {
    "hunts": HUNTS,
    "chemistry": replace(
        HUNTS,
        split="chemistry-train",
        eval_splits=("chemistry-test", "unseen-types"),
        final_splits=("chemistry-test", "in-domain", "unseen-types"),
    ),
    "narrow": replace(HUNTS, num_questions=8),
}
SEEDS = {"hunts": (0, 1, 2, 3, 4), "chemistry": (0, 1, 2, 3, 4), "narrow": (0, 1, 2)}
OTHER_SEEDS = (0, 1, 2)  # on the other organisms
TUNING = replace(
    HUNTS, eval_every=0, final_splits=("in-domain",), eval_seed=TUNING_PROBLEMS, commitments=False
)
UNTRAINED = "base"
EARLY = "sdpo"  # the method that is also stopped early, so it is evaluated more often
EARLY_EVERY = 5
TEACHER_FREE = "opsa"  # the control that a repair must beat before its context gets credit
ELSEWHERE = (ORGANISM, "organism-1", "organism-2")  # they differ in the pretraining seed only
# Repeated on the other organisms: the baselines, the teacher-free control, and the winners of the recorded
# hunts (`sdlab.study.arena.winners`).
REPEATED: tuple[str, ...] = ("sdpo", "grpo", TEACHER_FREE)


def arena_name(method: str, round_name: str = "hunts", organism: str = ORGANISM) -> str:
    """Return the name of a condition, for example arena_srpo, arena_srpo_narrow or arena_srpo_1.

    method: a name of the catalogue, or "base" for the untrained model. Only the hunts are repeated on other
    organisms.

    Raises SdlabError for an unknown method, round or organism.
    """
    if method != UNTRAINED and method not in CATALOGUE:
        raise unknown("repair", method, [UNTRAINED, *CATALOGUE])
    if round_name not in ROUNDS:
        raise unknown("round of the arena", round_name, ROUNDS)
    if organism not in ELSEWHERE:
        raise unknown("organism of the arena", organism, ELSEWHERE)
    if method == UNTRAINED and round_name == "narrow":
        round_name = "hunts"  # it is evaluated on the same problems
    name = f"arena_{method}" + ("" if round_name == "hunts" else f"_{round_name}")
    return name if organism == ORGANISM else organism_name(name, organism)


def _untrained(round_name: str) -> Condition:
    name, what = arena_name(UNTRAINED, round_name), "" if round_name == "hunts" else f", {round_name}"
    plan = replace(ROUNDS[round_name], eval_every=0)
    settings = {field: getattr(plan, field) for field in ("final_splits", "final_problems", "commitments")}
    plan = Plan(eval_every=0, num_eval_generations=plan.num_eval_generations, **settings)
    return Condition(name, f"arena: untrained{what}", "base", TrainConfig(), plan, seeds=SEEDS[round_name])


def _trained(method: str, round_name: str, learning_rate: float | None, blocked: str) -> Condition:
    rate = "rate not tuned" if learning_rate is None else f"rate {learning_rate:.0e}"
    plan = ROUNDS[round_name]
    if method == EARLY and round_name == "hunts":
        plan = replace(plan, eval_every=EARLY_EVERY)
    return Condition(
        arena_name(method, round_name),
        f"arena: {method}{'' if round_name == 'hunts' else f', {round_name}'}, {rate}",
        "repair",
        RepairConfig(**SIZES, learning_rate=learning_rate or DEFAULT_RATE, repair=method),
        plan,
        seeds=SEEDS[round_name],
        blocked=blocked,
    )


def _elsewhere(base: Condition, organism: str) -> Condition:
    name = organism_name(base.name, organism)
    label = f"{base.label}, {ORGANISMS[organism]}"
    return replace(base, name=name, label=label, model=organism, seeds=OTHER_SEEDS)


def tuning_conditions() -> dict[str, Condition]:
    """Return the tuning runs by name, one for each method and rate."""
    runs = [
        Condition(
            rate_name(method, rate),
            f"arena: {method}, tuning, rate {rate:.0e}",
            "repair",
            RepairConfig(**SIZES, learning_rate=rate, repair=method),
            TUNING,
            seeds=TUNING_SEEDS,
        )
        for method in CATALOGUE
        for rate in tried(method)
    ]
    return {run.name: run for run in runs}


def arena_groups() -> dict[str, dict[str, Condition]]:
    """Return the groups of the arena by name: arena-rates, and one per round and other organism.

    Raises SdlabError when the file of chosen rates is damaged.
    """
    path = rates_path()
    return _groups(str(path), path.read_text(encoding="utf-8") if path.is_file() else "", shipped_weights())


@lru_cache(maxsize=8)
def _groups(path: str, text: str, weights: str) -> dict[str, dict[str, Condition]]:
    """Return the groups for a file of chosen rates with this text and for an organism with these weights."""
    content = read_rates(path) if text else {"weights": "", "methods": {}}
    rates = learning_rates(content, weights)
    groups: dict[str, dict[str, Condition]] = {GROUP: tuning_conditions()}
    for round_name in ROUNDS:
        base = [] if round_name == "narrow" else [_untrained(round_name)]
        blocked = {method: why_not_tuned(method, content, weights) for method in CATALOGUE}
        runs = [_trained(method, round_name, rates.get(method), blocked[method]) for method in CATALOGUE]
        key = "arena" if round_name == "hunts" else f"arena-{round_name}"
        groups[key] = {run.name: run for run in [*base, *runs]}
    for organism in ELSEWHERE[1:]:
        runs = [
            _elsewhere(groups["arena"][arena_name(method)], organism) for method in (UNTRAINED, *REPEATED)
        ]
        groups[f"arena-{organism}"] = {run.name: run for run in runs}
    return groups


def learning_rates(content: Mapping[str, Any], weights: str) -> dict[str, float]:
    """Return method -> chosen learning rate, without the methods that are not tuned on these weights."""
    return {
        method: content["methods"][method]["learning_rate"]
        for method in CATALOGUE
        if not why_not_tuned(method, content, weights)
    }
