"""The recorded conditions: one name for a method with some changed settings.

The learning rate comes from short runs (`SWEEP`), compared by the quantity that the method itself optimises
(training score for GRPO, divergence for SDPO), averaged over the last five steps. GRPO's training score is
highest at 3e-4, the configs' default. SDPO's divergence is smallest at 1e-3, with no better score on unseen
types (`sdlab.study.rates`). So all conditions keep one rate.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sdlab.errors import unknown
from sdlab.study.arena_conditions import arena_groups
from sdlab.study.condition import PLAN, Condition
from sdlab.study.coverage_conditions import COVERAGE, SMALL
from sdlab.study.exposure_conditions import SEEN
from sdlab.study.organism_conditions import organism_conditions
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig

# half the default batch, so that two cores are enough
SIZES: dict[str, Any] = {"steps": 40, "warmup_steps": 4, "num_problems": 16, "num_generations": 8}
SWEPT = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # the learning rates tried
SWEEP_STEPS = 20


def _conditions() -> dict[str, Condition]:
    """Return the main conditions by name."""
    grpo, sdpo = GRPOConfig(**SIZES), SDPOConfig(**SIZES)
    sft = SFTConfig()
    sft_plan = replace(PLAN, eval_every=0)
    base = Condition("base", "base", "base", TrainConfig(), replace(PLAN, eval_every=0))
    conditions = [
        base,
        replace(base, name="base_off", label="base, thinking off", config=TrainConfig(thinking=False)),
        Condition("sft_unguided", "SFT on unguided traces", "sft", sft, sft_plan),
        Condition("sft_guided", "SFT on guided traces", "sft", sft, replace(sft_plan, traces="guided")),
        Condition("grpo", "GRPO", "grpo", grpo),
        Condition("sdpo", "SDPO, c = s", "sdpo", sdpo),
        Condition(
            "sdpo_no_think", "SDPO, c = s without think", "sdpo", replace(sdpo, context="solution_no_think")
        ),
        Condition(
            "sdpo_ema", "SDPO, moving teacher (EMA 0.05)", "sdpo", replace(sdpo, teacher_model_kind="ema")
        ),
        Condition("grpo_off", "GRPO, thinking off", "grpo", replace(grpo, thinking=False)),
        Condition("sdpo_off", "SDPO, thinking off", "sdpo", replace(sdpo, thinking=False)),
        Condition(
            "sdpo_slower", "SDPO, a tenth of the learning rate", "sdpo", replace(sdpo, learning_rate=3e-5)
        ),
        Condition("sdpo_top20", "SDPO, top-k 20", "sdpo", replace(sdpo, distillation_topk=20)),
    ]
    return {condition.name: condition for condition in conditions}


def _sweep() -> dict[str, Condition]:
    """Return the short runs, one per method and learning rate."""
    runs = {}
    for name in ("grpo", "sdpo"):
        for rate in SWEPT:
            config = replace(CONDITIONS[name].config, learning_rate=rate, steps=SWEEP_STEPS)
            plan = replace(CONDITIONS[name].plan, eval_every=0, final_problems=64)
            runs[f"rate_{name}_{rate:.0e}"] = Condition(
                f"rate_{name}_{rate:.0e}",
                f"{CONDITIONS[name].label}, rate {rate:.0e}",
                CONDITIONS[name].method,
                config,
                plan,
            )
    return runs


def _long() -> dict[str, Condition]:
    """Return the main conditions at the paper's number of steps: has anything changed after step 40?

    They are evaluated on twice the problems and completions.
    """
    runs = {}
    for name in ("grpo", "sdpo", "sdpo_no_think"):
        base = CONDITIONS[name]
        plan = replace(base.plan, eval_every=20, final_problems=256, num_eval_generations=8)
        runs[f"{name}_long"] = replace(
            base,
            name=f"{name}_long",
            label=f"{base.label}, 100 steps",
            config=replace(base.config, steps=100),
            plan=plan,
        )
    return runs


CONDITIONS = _conditions()
SWEEP = _sweep()
LONG = _long()
OTHERS = organism_conditions(CONDITIONS)  # by organism


def groups() -> dict[str, dict[str, Condition]]:
    """Return the groups of conditions by name."""
    return {
        "main": CONDITIONS,
        "rates": SWEEP,
        "long": LONG,
        "coverage": COVERAGE,
        "exposures": SEEN,
        "small": SMALL,
        **OTHERS,
        **arena_groups(),
    }


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of the conditions that `names` (conditions or groups) contain, each once.

    Raises SdlabError on an unknown name.
    """
    known = groups()
    members = (known[name] if name in known else [condition(name).name] for name in names)
    return list(dict.fromkeys(member for group in members for member in group))


def condition(name: str) -> Condition:
    """Return the condition called `name`.

    Raises SdlabError when there is none.
    """
    known = groups()
    everything = {key: member for group in known.values() for key, member in group.items()}
    if name not in everything:
        raise unknown("condition", name, [*known, *everything])
    return everything[name]
