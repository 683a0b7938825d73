"""The table of steps: one row per step, with the same columns for every method."""

import math
import time
import warnings

import pandas
import torch

from sdlab.rollout.types import Engine
from sdlab.text.markers import total_markers
from sdlab.train import signals
from sdlab.train.batch import Batch, learning_rate
from sdlab.train.config import TrainConfig

COLUMNS = (
    "step", "reward", "pass_at_g", "length", "markers", "density", "truncated", "entropy", "loss",
    "grad_norm", "kl_to_base", *signals.COLUMNS, "idle_groups", "used_rows", "updates", "learning_rate",
    "tokens_per_second", "seconds", "seconds_sampling", "seconds_update",
)  # fmt: skip
TIMED = ("tokens_per_second", "seconds", "seconds_sampling", "seconds_update")  # differ between equal runs
PATIENCE = 5  # consecutive steps without an update before the one warning


def with_all_columns(steps: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table of steps with all columns; those that an older version did not write are nan.

    A table without steps is returned as it is.
    """
    if steps.empty:
        return steps
    return steps.reindex(columns=[*steps.columns, *(name for name in COLUMNS if name not in steps.columns)])


class Clock:
    """Measures seconds since its creation, in total and by stage."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """Add the time since the last call to the stage `name`."""
        now = time.perf_counter()
        self.stages[f"seconds_{name}"] = self.stages.get(f"seconds_{name}", 0.0) + now - self.last
        self.last = now

    def columns(self) -> dict[str, float]:
        """Return the seconds so far, in total and by stage, as columns of a row."""
        return {"seconds": time.perf_counter() - self.start, **self.stages}


def step_row(
    config: TrainConfig,
    step: int,
    batch: Batch,
    base: Engine,
    *,
    losses: list[float],
    norms: list[float],
    used_rows: int,
    clock: Clock,
    collected: signals.Signals,
    idle_groups: float = math.nan,
) -> dict:
    """Return the row of a step: measures of its rollouts, sampled before the update, and of the update.

    reward: share of right completions. pass_at_g: share of problems with a right completion among the G.
    length: tokens. markers: all ten, whole words, per completion; density: markers per 1,000 tokens.

    entropy: nats per token, the mean of -log p of the sampled tokens, an unbiased estimate of the policy's
    entropy. kl_to_base: nats per token, KL(policy || base) estimated from one completion per problem by
    Schulman's k3, which is never negative.

    losses and norms hold one number per update. loss and grad_norm are their means, nan without an update.
    idle_groups: share of the groups that contribute nothing to the loss, nan where the loss has no groups.
    tokens_per_second: completion tokens of the rollouts divided by the seconds of the whole step.

    The columns of `collected` are means over the tokens in the loss (`sdlab.train.signals`); u_spread is a
    standard deviation. They are nan where the method has no such quantity: teacher_entropy, u_mean, u_spread
    and divergence without a teacher; clip_fraction, ratio_mean and ratio_max without rollouts in the loss.
    """
    rollouts = batch.rollouts
    lengths, counts = (
        rollouts.lengths.float(),
        torch.tensor([float(total_markers(text)) for text in rollouts.texts]),
    )
    time = clock.columns()
    return {
        "step": step,
        "reward": batch.rewards.mean().item(),
        "pass_at_g": signals.pass_at_g(batch.rewards, rollouts.num_generations),
        "length": lengths.mean().item(),
        "markers": counts.mean().item(),
        "density": 1000 * (counts.sum() / lengths.sum()).item(),
        "truncated": rollouts.truncated.float().mean().item(),
        "entropy": -(rollouts.per_token_logps.sum() / lengths.sum()).item(),
        "loss": sum(losses) / len(losses) if losses else math.nan,
        "grad_norm": sum(norms) / len(norms) if norms else math.nan,
        "kl_to_base": kl_to_base(batch, base, config.temperature),
        **collected.columns(),
        "idle_groups": idle_groups,
        "used_rows": used_rows,
        "updates": len(losses),
        "learning_rate": learning_rate(config, step),
        "tokens_per_second": lengths.sum().item() / time["seconds"],
        **time,
    }


def kl_to_base(batch: Batch, base: Engine, temperature: float) -> float:
    """Estimate KL(policy || base) in nats per token from the first completion of every problem.

    The estimate is k3: the mean of r - 1 - log r with r = base / policy. `base` is a rollout engine with the
    weights that training started from.

    Source: Schulman, http://joschu.net/blog/kl-approx.html
    """
    rollouts = batch.rollouts
    first = slice(None, None, rollouts.num_generations)
    scores = base.score(rollouts.prompts, rollouts.completions()[first], temperature=temperature)
    width = scores.per_token_logps.shape[1]
    log_ratio = scores.per_token_logps - rollouts.per_token_logps[first, :width]
    return ((log_ratio.expm1() - log_ratio) * scores.completion_mask).sum().item() / int(
        scores.completion_mask.sum()
    )


def samples(step: int, batch: Batch, count: int = 4) -> list[dict]:
    """Return the first completion of `count` problems of a step, as rows for samples.jsonl."""
    kept = []
    for index, problem in enumerate(batch.problems[:count]):
        row = index * batch.rollouts.num_generations
        kept.append(
            {
                "step": step,
                "problem_id": problem.id,
                "prompt": problem.prompt,
                "completion": batch.rollouts.texts[row],
                "reward": batch.rewards[row].item(),
            }
        )
    return kept


class Idle:
    """Counts consecutive steps without an update, and warns once when there are PATIENCE of them."""

    def __init__(self, reason: str) -> None:
        self.reason, self.count, self.warned = reason, 0, False

    def step(self, updates: int) -> None:
        """Record the number of updates of a step."""
        self.count = 0 if updates else self.count + 1
        if self.count >= PATIENCE and not self.warned:
            self.warned = True
            warnings.warn(f"{PATIENCE} steps in a row changed nothing: {self.reason}", stacklevel=4)
