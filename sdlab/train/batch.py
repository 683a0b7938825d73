"""Shared steps of the training loops: draw problems, hold rollouts as a batch, take an optimizer step."""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from sdlab.errors import SdlabError
from sdlab.grading.score import grade
from sdlab.rollout.loop import run_all
from sdlab.rollout.memory import head_tokens
from sdlab.rollout.torch_engine import worker_threads
from sdlab.rollout.types import Engine, Rollouts, SamplingParams, TrainableEngine
from sdlab.seeds import stable_int, stream
from sdlab.text.prompt import render_prompt
from sdlab.train.config import TrainConfig
from sdlab.train.forward import completion_logits
from sdlab.train.losses import token_weights
from sdlab.train.signals import idle_groups
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MinibatchSettings(Protocol):
    """The settings that `weighted_minibatches` reads, of a GRPOConfig or an SDPOConfig."""

    @property
    def num_minibatches(self) -> int:
        """Return the number of optimizer updates per step."""
        ...

    @property
    def aggregation(self) -> str:
        """Return one of `sdlab.train.losses.AGGREGATIONS`."""
        ...


@dataclass(frozen=True)
class Batch:
    """B = P*G graded rollouts, prompt-major: row = problem index * G + generation."""

    problems: list[Problem]  # P
    rollouts: Rollouts
    rewards: torch.Tensor  # (B,) float32, 1 or 0

    @property
    def prompts(self) -> list[str]:
        """Return the rendered prompt of every row: B strings."""
        return [prompt for prompt in self.rollouts.prompts for _ in range(self.rollouts.num_generations)]

    def idle_groups(self, taught: Collection[int]) -> float:
        """Return the share of groups without a row in `taught`, the rows that contribute to the loss."""
        return idle_groups(taught, len(self.problems), self.rollouts.num_generations)

    def at_tokens(
        self, part: Sequence[int], device: torch.device, *values: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return each of `values` at the completion tokens of the rows in `part`: (M,) tensors on `device`.

        Each value has shape (B,) or (B, T). M is the number of completion tokens of these rows, row after
        row.
        """
        mask = self.rollouts.completion_mask
        tables = (value if value.dim() == 2 else value[:, None].expand(mask.shape) for value in values)
        return [table[part][mask[part]].to(device) for table in tables]


class Rows:
    """B completions and the prompt that each continues; every distinct prompt is stored once.

    prompts: B rendered prompts. completions: B lists of token ids.

    Raises SdlabError when a prompt is empty, and when a prompt with its completion is too long for the model.
    """

    def __init__(self, engine: TrainableEngine, prompts: Sequence[str], completions: list[list[int]]) -> None:
        places = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        self.prompt_ids = engine.encode(list(places), max(map(len, completions), default=0))
        self.prompt_of = [places[text] for text in prompts]
        self.completions, self.pad_id, self.bf16 = completions, engine.pad_id, engine.bf16
        self.head_tokens = head_tokens(engine.model.get_output_embeddings().weight.shape[0])

    def logits(self, model: "PreTrainedModel", part: Sequence[int]) -> torch.Tensor:
        """Return logits (M, V) at the M completion tokens of the rows in `part`, row after row."""
        used = {prompt: n for n, prompt in enumerate(dict.fromkeys(self.prompt_of[i] for i in part))}
        prompts, order = [self.prompt_ids[p] for p in used], [used[self.prompt_of[i]] for i in part]
        return completion_logits(
            model, prompts, order, [self.completions[i] for i in part], self.pad_id, self.bf16
        )

    def plan(self, rows: Sequence[int], batch_tokens: int) -> list[list[int]]:
        """Return `rows` split into micro-batches of nearly equal size.

        A micro-batch has at most `batch_tokens` tokens, or a single row; with a large vocabulary fewer,
        because the loss needs several next-token distributions of every token. Rows with the same prompt are
        next to each other, and a prompt counts once in each micro-batch. More than one micro-batch usually
        means an even number of them, so that two cores finish together. The plan does not depend on the
        number of cores, so neither does any sum.
        """
        batch_tokens = min(batch_tokens, self.head_tokens)
        order = sorted(
            rows,
            key=lambda i: (
                len(self.prompt_ids[self.prompt_of[i]]),
                self.prompt_of[i],
                len(self.completions[i]),
            ),
        )
        own = [len(self.completions[i]) for i in order]
        shared = [len(self.prompt_ids[self.prompt_of[i]]) for i in order]
        new = [n == 0 or self.prompt_of[i] != self.prompt_of[order[n - 1]] for n, i in enumerate(order)]
        left = sum(own) + sum(size for size, first in zip(shared, new, strict=True) if first)
        count = -(-left // batch_tokens)
        count += count % 2 if count > 1 else 0
        parts, size, target = [], 0, 0
        for n, i in enumerate(order):
            more = own[n] + (shared[n] if new[n] else 0)
            if not parts or size + more > batch_tokens or size + more / 2 > target:
                more = own[n] + shared[n]
                left += 0 if new[n] else shared[n]
                target, size = left / max(1, count - len(parts)), 0
                parts.append([])
            parts[-1].append(i)
            size, left = size + more, left - more
        return parts


def draw(items: Sequence, count: int, seed: int, step: int, key: str = "epoch") -> list:
    """Return the `count` items of a step.

    Every epoch goes through all items once, in its own order. `key` names the random stream: a loop that
    draws two kinds of items draws them independently.

    Raises SdlabError when there are no items.
    """
    if not len(items):
        raise SdlabError("nothing to train on; give at least one problem (and, for SFT, one trace)")
    chosen, orders = [], {}
    for place in range(step * count, (step + 1) * count):
        epoch, index = divmod(place, len(items))
        if epoch not in orders:
            orders[epoch] = list(range(len(items)))
            stream(key, seed, epoch).shuffle(orders[epoch])
        chosen.append(items[orders[epoch][index]])
    return chosen


def sample_batch(engine: Engine, problems: Sequence[Problem], config: TrainConfig, step: int) -> Batch:
    """Draw the step's problems, sample `num_generations` completions of each, and grade them."""
    drawn = draw(problems, config.num_problems, config.seed, step)
    prompts = [render_prompt(engine.tokenizer, problem, thinking=config.thinking) for problem in drawn]
    seed = stable_int("rollouts", config.seed, step)
    params = SamplingParams(
        config.num_generations, config.max_completion_length, config.temperature, seed=seed
    )
    rollouts = engine.generate(prompts, params)
    truths = [problem.answer for problem in drawn for _ in range(config.num_generations)]
    return Batch(drawn, rollouts, torch.tensor(grade(rollouts.texts, truths)))


def minibatches(rows: Sequence[int], count: int) -> list[list[int]]:
    """Return `rows` in `count` parts of nearly equal size, in order, without empty parts."""
    ends = [len(rows) * i // count for i in range(count + 1)]
    return [list(rows[a:b]) for a, b in itertools.pairwise(ends) if a < b]


def weighted_minibatches(
    batch: Batch, rows: Sequence[int], config: MinibatchSettings
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield each minibatch of `rows` with the weights of its tokens.

    The weights have shape (B, T). They form the minibatch's mean and are zero outside the minibatch.
    """
    mask = batch.rollouts.completion_mask
    for minibatch in minibatches(rows, config.num_minibatches):
        weights = batch.rollouts.per_token_logps.new_zeros(mask.shape)
        weights[minibatch] = token_weights(mask[minibatch], config.aggregation)
        yield minibatch, weights


def accumulate(
    model: "PreTrainedModel",
    parts: Sequence[list[int]],
    loss_of: Callable[[list[int]], torch.Tensor],
) -> float:
    """Add the gradients of all micro-batches to the parameters' .grad and return the summed loss.

    loss_of(part) is the loss of one micro-batch of `parts`. A small model on a CPU runs one micro-batch per
    core. Gradients are added in the order of `parts`, so the result does not depend on which core was faster.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]

    def job(part: list[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = loss_of(part)
        return loss.detach(), torch.autograd.grad(loss, parameters)

    threads = worker_threads(model)
    total = 0.0
    # With one thread (a large model), the gradients of only one micro-batch are in memory at a time.
    at_once = len(parts) if threads > 1 else 1
    for start in range(0, len(parts), max(1, at_once)):
        for loss, gradients in run_all(
            [lambda part=part: job(part) for part in parts[start : start + at_once]], threads
        ):
            total += loss.item()
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return total


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW without weight decay, which is TRL's default.

    Also clears the model's gradients, because an interrupted run may have left some.
    """
    model.zero_grad(set_to_none=True)
    return torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.999), weight_decay=0.0
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: linear over `warmup_steps`, then constant.

    The paper warms up over 10 of 100 steps.
    """
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


def apply_update(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, loss: float
) -> float:
    """Clip the gradient, take one optimizer step, and return the gradient's norm before clipping.

    Raises SdlabError when the loss or the gradient is not finite; the weights then stay as they were.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()
    if not (abs(loss) < float("inf") and norm < float("inf")):  # false for NaN
        optimizer.zero_grad(set_to_none=True)
        raise SdlabError(
            f"step {step}: loss {loss:.4g} or gradient norm {norm:.4g} is not finite; "
            f"train with a learning rate below {config.learning_rate:g} "
            "(a run folder keeps every finished step)"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
