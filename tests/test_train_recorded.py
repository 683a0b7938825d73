"""The loops still do what they did: steps recorded before they shared a session, and those of `data/runs`.

Whole numbers must be the same, others to a few parts in ten thousand, since processors round differently.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sdlab.rollout.loading import load_engine
from sdlab.runs.questions import training_questions
from sdlab.study.conditions import condition
from sdlab.study.recorded import load_recorded
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig, run_grpo
from sdlab.train.repairs.advantages import grpo
from sdlab.train.repairs.hooks import Repair, TeacherRule
from sdlab.train.repairs.loop import run_repair
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.world.splits import load_split

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

RECORDED = json.loads((Path(__file__).parent / "data" / "first_steps.json").read_text())
SIZES = dict(steps=2, num_problems=4, num_generations=4, warmup_steps=2, learning_rate=1e-3, seed=3)
PROBLEMS = load_split("train", limit=24)
TRACES = [
    Trace(problem, f"<think>\nmaybe {i}, wait.\n</think>\n\n\\boxed{{{problem.answer}}}")
    for i, problem in enumerate(PROBLEMS)
]


def half(signals, state):
    """Half GRPO, half SDPO times the student's entropy, at most 1; one mean over all tokens."""
    each = signals.token_mean(signals.mask)
    return 0.5 * each * signals.taught * signals.student_entropy.clamp(0, 1), 0.5 * each


def route(signals, state):
    """GRPO for right rows, SDPO for wrong ones; one mean over the tokens of both."""
    right = signals.mask & signals.right[:, None]
    wrong = signals.taught & ~right
    each = signals.token_mean(right | wrong)
    return each * wrong, each * right


RUNS = {
    "sft": lambda engine: run_sft(engine, PROBLEMS, TRACES, SFTConfig(**SIZES, batch_size=8)),
    "grpo": lambda engine: run_grpo(engine, PROBLEMS, GRPOConfig(**SIZES)),
    "grpo2": lambda engine: run_grpo(
        engine,
        PROBLEMS,
        GRPOConfig(
            **SIZES, scale_rewards=True, aggregation="sequence_mean", temperature=0.9, num_minibatches=3
        ),
    ),
    "sdpo": lambda engine: run_sdpo(engine, PROBLEMS, SDPOConfig(**SIZES)),
    "sdpo_ema": lambda engine: run_sdpo(
        engine,
        PROBLEMS,
        SDPOConfig(**SIZES, teacher_model_kind="ema", demonstration="random", context="solution_no_think"),
    ),
    "repair_mix": lambda engine: run_repair(
        engine, PROBLEMS, Repair(advantage=grpo().advantage, weights=half), TrainConfig(**SIZES)
    ),
    "repair_route": lambda engine: run_repair(
        engine,
        PROBLEMS,
        Repair(advantage=grpo().advantage, weights=route, teacher=TeacherRule("ema")),
        TrainConfig(**SIZES),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_first_steps_are_those_recorded(name):
    table = RUNS[name](load_engine("organism-blind"))  # those steps are older than organism 3
    check(table.to_dict("records"), RECORDED[name])


@pytest.mark.parametrize("name", ["grpo", "sdpo"])
def test_the_first_steps_of_a_recorded_run_come_out_again(name):
    """At the recorded sizes, 16 problems with 8 completions each: about ten seconds of a core."""
    plan, config = condition(name).plan, replace(condition(name).config, steps=2)
    problems = training_questions(plan.split, plan.num_questions, plan.num_types, 0, plan.candidates)
    table = {"grpo": run_grpo, "sdpo": run_sdpo}[name](load_engine("organism"), problems, config)
    recorded = load_recorded(name).steps.query("seed == 0").iloc[: len(table)]
    check(table.to_dict("records"), recorded[[name for name in recorded if name in table]].to_dict("records"))


def check(rows: list[dict], recorded: list[dict]) -> None:
    assert len(rows) == len(recorded) == 2
    for row, old in zip(rows, recorded, strict=True):
        for name in ("step", "reward", "length", "markers", "used_rows", "updates"):
            assert row[name] == pytest.approx(old[name], abs=1e-6), name
        for name in ("density", "truncated", "entropy", "loss", "grad_norm", "kl_to_base", "learning_rate"):
            assert row[name] == pytest.approx(old[name], rel=3e-4, abs=2e-6), name
