"""The recorded conditions of the coverage study (paper Section 6): number of questions and types, domain.

The batch is half that of the other recorded runs (8 problems of 8 completions, 40 steps, so 320 problems are
drawn), at the learning rate that the sweep selected before. Every seed draws its own questions. SMALL is the
same on the small organism, a quarter of the size and without intuition.
"""

from dataclasses import replace
from typing import Any

from sdlab.runs.plan import TRACES, Plan
from sdlab.study import condition
from sdlab.study.condition import Condition
from sdlab.text.plural import plural
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig

COUNTS = (1, 8, 64, 128, 512, None)  # training questions, as in the paper; None: all 4,096
SIZES: dict[str, Any] = {"steps": 40, "warmup_steps": 4, "num_problems": 8, "num_generations": 8}
PLAN = replace(condition.PLAN, eval_every=0, final_splits=("in-domain", "unseen-types"))
METHODS = {
    "grpo": ("GRPO", "grpo", GRPOConfig(**SIZES)),
    "sdpo": ("SDPO, c = s", "sdpo", SDPOConfig(**SIZES)),
    "sdpo_no_think": ("SDPO, c = s without think", "sdpo", SDPOConfig(**SIZES, context="solution_no_think")),
}
# the training split and the test split
DOMAINS = {"chemistry": ("chemistry-train", "chemistry-test"), "kata": ("kata", "kata")}
# Completions are short here. Chemistry converges sooner.
DOMAIN_SIZES = {
    "chemistry": {"steps": 20, "num_problems": 16},
    "kata": {"steps": 40, "num_problems": 16},
}
NUM_TRACES = {"chemistry": 800, "kata": 160}  # the maximum for 131 tasks


def coverage_name(method: str, num_questions: int | None, num_types: int | None = None) -> str:
    """Return the recorded condition's name, for example cover_sdpo_64 or cover_sdpo_128_of_1."""
    return f"cover_{method}_{num_questions or 'all'}" + (f"_of_{num_types}" if num_types else "")


def _cover(method: str, num_questions: int | None, num_types: int | None = None) -> Condition:
    label, loop, config = METHODS[method]
    questions = plural(num_questions, "problem") if num_questions else "all problems"
    types = f" of {plural(num_types, 'type')}" if num_types else ""
    return Condition(
        coverage_name(method, num_questions, num_types),
        f"{label}, {questions}{types}",
        loop,
        config,
        replace(PLAN, num_questions=num_questions, num_types=num_types),
        series=method,
    )


def _domain(name: str, key: str, label: str, config: TrainConfig, plan: Plan = PLAN) -> Condition:
    train, test = DOMAINS[name]
    plan = replace(plan, split=train, final_splits=(test, "in-domain", "unseen-types"))
    return Condition(f"{name}_{key}", f"{name}: {label}", key.partition("_")[0], config, plan)


def _conditions() -> dict[str, Condition]:
    conditions = [_cover(method, count) for method in METHODS for count in COUNTS]
    conditions += [_cover(method, count, 1) for method in ("grpo", "sdpo") for count in (8, 128)]
    for name, sizes in DOMAIN_SIZES.items():
        conditions += [
            _domain(name, key, METHODS[key][0], replace(METHODS[key][2], **sizes)) for key in ("grpo", "sdpo")
        ]
        conditions += [
            _domain(
                name,
                f"sft_{kind}",
                f"SFT on {kind} traces",
                SFTConfig(),
                replace(PLAN, traces=kind, num_traces=NUM_TRACES[name]),
            )
            for kind in TRACES
        ]
    sdpo = replace(METHODS["sdpo"][2], **DOMAIN_SIZES["kata"])
    conditions += [
        _domain("kata", "sdpo_feedback", "SDPO, feedback", replace(sdpo, context="feedback")),
        _domain("kata", "sdpo_both", "SDPO, c = s and feedback", replace(sdpo, context="solution_feedback")),
        Condition(
            "base_domains",
            "base, every domain",
            "base",
            TrainConfig(),
            replace(PLAN, final_splits=("chemistry-test", "kata", "in-domain", "unseen-types")),
        ),
    ]
    return {condition.name: condition for condition in conditions}


def small_name(method: str, num_questions: int | None) -> str:
    """Return the recorded condition's name on the small organism, for example small_sdpo_64."""
    return coverage_name(method, num_questions).replace("cover_", "small_")


def _small() -> dict[str, Condition]:
    large = [
        (small_name(method, count), COVERAGE[coverage_name(method, count)])
        for method in ("grpo", "sdpo")
        for count in COUNTS
    ]
    large.append(("small_base", Condition("", "base", "base", TrainConfig(), PLAN)))
    return {
        name: replace(
            base,
            name=name,
            label=f"small organism: {base.label}",
            model="organism-small",
            series=base.series and f"{base.series}_small",
        )
        for name, base in large
    }


COVERAGE = _conditions()
SMALL = _small()
