"""What training a model needs: memory, a learning rate of its size, and when to say so."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import psutil
import torch
from torch import nn

from sdlab.rollout.forecast import SMALL, Speed, clock, measured_speed, needs_forecast
from sdlab.rollout.types import TrainableEngine
from sdlab.runs.plan import Plan
from sdlab.text.plural import plural
from sdlab.text.prompt import render_prompt
from sdlab.train.config import TrainConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGE = 100_000_000  # parameters up to which checkpoints hold the optimizer unless told otherwise
PAPER_RATES = {"sdpo": "1e-5", "grpo": "1e-6", "repair": "1e-5"}
# Passes over the tokens of a step, in units of scoring them once (see `training_seconds`).
PASSES = {"base": 0, "sft": 4, "grpo": 4, "sdpo": 5, "repair": 6}
LOSS_TENSORS = 8  # tensors of tokens x vocabulary that a loss and its gradient hold at the same time


def parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def training_bytes(model: "PreTrainedModel", method: str, config: TrainConfig) -> int:
    """Return an estimate of the bytes that training takes: weights, copies, optimizer and next-token logits.

    Copies: the frozen base (and an EMA teacher), and the state to which an unfinished step returns. The
    activations of a micro-batch and the cache of the sampling come in addition.
    """
    from sdlab.rollout.memory import head_tokens, weight_bytes

    weights = weight_bytes(model)
    optimizer = 2 * weights
    moving = isinstance(config, SDPOConfig) and config.teacher_model_kind == "ema"
    frozen = weights * (2 if moving else 1)
    returned = weights + optimizer + (weights if moving else 0)
    head: nn.Module = model.get_output_embeddings()  # type: ignore[assignment]  # a causal model has one
    vocab = int(head.weight.shape[0])  # type: ignore[union-attr]
    tokens = min(config.batch_tokens, head_tokens(vocab))
    trains = method != "base"
    return weights + trains * (weights + optimizer + frozen + returned + 4 * LOSS_TENSORS * tokens * vocab)


def available_bytes(model: "PreTrainedModel") -> int:
    """Return the memory that is free on the model's device, with what the model itself takes."""
    from sdlab.rollout.memory import weight_bytes

    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0] + weight_bytes(model)
    return psutil.virtual_memory().available + weight_bytes(model)


def cautions(model: "PreTrainedModel", method: str, config: TrainConfig) -> list[str]:
    """Return what a user should know before a model larger than the organism trains, one sentence each."""
    count = parameters(model)
    if count <= SMALL or method == "base":
        return []
    needed, free = training_bytes(model, method, config), available_bytes(model)
    sentences = []
    default = next(field.default for field in fields(config) if field.name == "learning_rate")
    if config.learning_rate == default:
        paper = PAPER_RATES.get(method)
        example = f"; the paper uses {paper} for 7-8 billion" if paper else ""
        sentences.append(
            f"learning_rate={default:g} suits the organism of a million parameters, and this model has "
            f"{count / 1e6:,.0f} million{example}; set --learning-rate"
        )
    if needed > free:
        sentences.append(
            f"training needs about {needed / 2**30:.1f} GiB and activations, and {free / 2**30:.1f} GiB are "
            "free; use a smaller model, a machine with more memory, or `sdlab recipe`"
        )
    return sentences


def training_seconds(speed: Speed, method: str, config: TrainConfig, plan: Plan, prompt: int) -> float:
    """Return an estimate of the seconds of a training whose completions all reach the limit of tokens.

    prompt: tokens of a prompt. A step samples its completions, and then passes over them: forward and
    backward count as three passes of scoring, and every other model (teacher, base, the log's base) as one.
    Evaluations only sample. The traces of SFT are sampled once, two for each.
    """
    limit, rows = config.max_completion_length, config.num_problems * config.num_generations
    step = (
        speed.sampling(rows, limit, config.num_problems)
        + PASSES[method] * rows * (prompt + limit) * speed.scored
    )
    times = len(range(0, config.steps, plan.eval_every)) if plan.eval_every else 0
    evaluated = times * plan.eval_problems * len(plan.evaluated(False))
    evaluated += plan.final_problems * len(plan.evaluated(True))
    traces = 2 * plan.num_traces if method == "sft" else 0
    sampled = speed.sampling(evaluated * plan.num_eval_generations + traces, limit, evaluated + traces)
    return (0 if method == "base" else config.steps * step) + sampled


def training_forecast(
    engine: TrainableEngine, method: str, config: TrainConfig, plan: Plan, problems: Sequence[Problem]
) -> str | None:
    """Return a sentence on the time and memory of a training; None for a model of the organism's size."""
    if not needs_forecast(engine):
        return None
    few, limit = problems[:32], config.max_completion_length
    prompts = [render_prompt(engine.tokenizer, problem, thinking=config.thinking) for problem in few]
    speed = measured_speed(engine, prompts, config.num_problems * config.num_generations, limit)
    lengths = [len(ids) for ids in engine.encode(prompts, 1)]
    seconds = training_seconds(speed, method, config, plan, sum(lengths) // len(lengths))
    memory = training_bytes(engine.model, method, config) / 2**30
    work = "the evaluations" if method == "base" else f"{plural(config.steps, 'step')} and the evaluations"
    return (
        f"{work} take about {clock(seconds)} if all completions reach "
        f"the limit of {limit:,} tokens ({speed.rate} in a trial); "
        f"about {memory:.1f} GiB of memory and activations"
    )
