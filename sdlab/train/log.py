"""One row per step, the same columns for every method, so that any two runs overlay."""

import math
import time
import warnings

import torch

from sdlab.measure.markers import total_markers
from sdlab.train.batch import Batch, learning_rate

COLUMNS = (
    "step", "reward", "length", "markers", "density", "truncated", "entropy", "loss", "grad_norm", "kl_to_base",
    "used_rows", "updates", "learning_rate", "seconds", "seconds_sampling", "seconds_update",
)  # fmt: skip
PATIENCE = 5  # steps in a row that teach nothing, after which the user is warned once


class Clock:
    """Seconds since it was made, and by stage."""

    def __init__(self):
        self.start = self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """The time since the last call belongs to `name`."""
        now = time.perf_counter()
        self.stages[f"seconds_{name}"] = self.stages.get(f"seconds_{name}", 0.0) + now - self.last
        self.last = now

    def columns(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self.start, **self.stages}


def step_row(
    config,
    step: int,
    batch: Batch,
    base,
    *,
    losses: list[float],
    norms: list[float],
    used_rows: int,
    clock: Clock,
) -> dict:
    """The row of a step: what the rollouts, sampled before the update, were like, and what the update was.

    reward: share of right completions. length in tokens. markers: all ten, whole words, per completion; density: per
    1,000 tokens. entropy in nats per token: mean of -log p of the sampled tokens, an unbiased estimate of the policy's.
    kl_to_base in nats per token: KL(policy || base) estimated from one completion per problem by Schulman's k3, never
    negative. losses and norms hold one number per update; loss and grad_norm are their means, nan when nothing was learnt.
    """
    rollouts = batch.rollouts
    lengths, counts = (
        rollouts.lengths.float(),
        torch.tensor([float(total_markers(text)) for text in rollouts.texts]),
    )
    return {
        "step": step,
        "reward": batch.rewards.mean().item(),
        "length": lengths.mean().item(),
        "markers": counts.mean().item(),
        "density": 1000 * (counts.sum() / lengths.sum()).item(),
        "truncated": rollouts.truncated.float().mean().item(),
        "entropy": -(rollouts.per_token_logps.sum() / lengths.sum()).item(),
        "loss": sum(losses) / len(losses) if losses else math.nan,
        "grad_norm": sum(norms) / len(norms) if norms else math.nan,
        "kl_to_base": kl_to_base(batch, base, config.temperature),
        "used_rows": used_rows,
        "updates": len(losses),
        "learning_rate": learning_rate(config, step),
        **clock.columns(),
    }


def kl_to_base(batch: Batch, base, temperature: float) -> float:
    """KL(policy || base) in nats per token on the first completion of every problem, by k3: mean of r - 1 - log r, r = base / policy.

    `base` is a rollout engine with the weights training started from. http://joschu.net/blog/kl-approx.html
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
    """The first completion of `count` problems of a step, to read later."""
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
    """Counts steps in a row that taught nothing and warns once when there are PATIENCE of them."""

    def __init__(self, why: str):
        self.why, self.count, self.warned = why, 0, False

    def step(self, updates: int) -> None:
        self.count = 0 if updates else self.count + 1
        if self.count >= PATIENCE and not self.warned:
            self.warned = True
            warnings.warn(f"{PATIENCE} steps in a row changed nothing: {self.why}", stacklevel=4)
