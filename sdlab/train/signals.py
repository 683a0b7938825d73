"""Measures of a step's tokens from its own forward passes: columns that warn before the score falls.

s and t are the log-probabilities of a sampled token under the student and the informed teacher, and u = t -
s. All measures use distributions that the loss computes anyway, without a gradient and without another
forward pass.
"""

import math
from collections.abc import Collection, Sequence

import torch

FORK = 0.5  # nats of student entropy; a token above it is a fork: several next tokens are likely
MEASURES = ("teacher_entropy", "u", "divergence", "fork", "clipped", "ratio")
COLUMNS = (
    "teacher_entropy", "u_mean", "u_spread", "divergence", "fork_rate", "clip_fraction", "ratio_mean",
    "ratio_max",
)  # fmt: skip


def entropy(logps: torch.Tensor) -> torch.Tensor:
    """Return the entropy in nats of finite log-distributions (M, V): (M,)."""
    blocks = logps.split(128)  # a block fits a core's cache; this halves the time
    return -torch.cat([torch.linalg.vecdot(block.exp(), block) for block in blocks])


def teacher_gain(student_logps: torch.Tensor, teacher_logps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return u = t - s in nats at the sampled tokens: log-distributions (M, V) and ids (M,) to (M,)."""
    at = ids.unsqueeze(-1)
    return (teacher_logps.gather(-1, at) - student_logps.gather(-1, at)).squeeze(-1)


def policy_ratio(per_token_logps: torch.Tensor, old_per_token_logps: torch.Tensor) -> torch.Tensor:
    """Return exp(now - old) at the sampled tokens, before any clip, (M,)."""
    return (per_token_logps.detach() - old_per_token_logps).exp()


def policy_clipped(ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return where PPO's clip removes the gradient, (M,): the ratio has passed the bound in its direction.

    `ratio` and `advantages` are (M,). A ratio beyond the other bound is not clipped, because the minimum
    takes the raw term.
    """
    return ((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))


class Signals:
    """Collects the measures of a step's tokens, micro-batch by micro-batch.

    Micro-batches may arrive in any order, from any thread: sums are taken in the order of their rows.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    @torch.no_grad()
    def add(self, part: Sequence[int], loss: str = "", **measures: torch.Tensor) -> None:
        """Add `measures` of one micro-batch, each (M,): names from MEASURES, any subset.

        `part` holds the micro-batch's row numbers. `loss` distinguishes two losses on the same rows.
        """
        self._parts[loss, part[0]] = {name: _moments(value) for name, value in measures.items()}

    def add_forks(self, part: Sequence[int], student_logps: torch.Tensor, loss: str = "") -> None:
        """Add whether each token is a fork, from the student's log-distributions (M, V)."""
        self.add(part, loss, fork=entropy(student_logps.detach()) > FORK)

    def add_policy(
        self,
        part: Sequence[int],
        student_logps: torch.Tensor,
        now: torch.Tensor,
        old: torch.Tensor,
        advantages: torch.Tensor,
        low: float,
        high: float,
    ) -> None:
        """Add the measures of a clipped policy loss at its tokens.

        student_logps (M, V); now, old and advantages (M,), where now and old are the log-probabilities of the
        sampled tokens.
        """
        ratio = policy_ratio(now, old)
        self.add(
            part,
            "policy",
            fork=entropy(student_logps.detach()) > FORK,
            clipped=policy_clipped(ratio, advantages, low, high),
            ratio=ratio,
        )

    def add_distillation(
        self,
        part: Sequence[int],
        student_logps: torch.Tensor,
        teacher_logps: torch.Tensor,
        ids: torch.Tensor,
        old: torch.Tensor,
        divergence: torch.Tensor,
        clip: float | None,
    ) -> None:
        """Add the measures of a distillation loss at its tokens.

        student_logps and teacher_logps (M, V); ids, old and divergence (M,), the divergence before any
        weight. `clip` is the bound of the importance weight. None means no such weight, so nothing is
        clipped.
        """
        student_logps = student_logps.detach()
        ratio = policy_ratio(student_logps.gather(-1, ids.unsqueeze(-1)).squeeze(-1), old)
        self.add(
            part,
            "distillation",
            teacher_entropy=entropy(teacher_logps),
            u=teacher_gain(student_logps, teacher_logps, ids),
            divergence=divergence,
            fork=entropy(student_logps) > FORK,
            clipped=ratio > (math.inf if clip is None else clip),
            ratio=ratio,
        )

    def columns(self) -> dict[str, float]:
        """Return the step's numbers by COLUMNS, over all tokens added; nan for what was not measured."""
        totals = {name: self._total(name) for name in MEASURES}
        mean = {name: total / count if count else math.nan for name, (count, total, _, _) in totals.items()}
        count, _, squares, _ = totals["u"]
        spread = math.sqrt(max(0.0, squares / count - mean["u"] ** 2)) if count else math.nan
        return {
            "teacher_entropy": mean["teacher_entropy"],
            "u_mean": mean["u"],
            "u_spread": spread,
            "divergence": mean["divergence"],
            "fork_rate": mean["fork"],
            "clip_fraction": mean["clipped"],
            "ratio_mean": mean["ratio"],
            "ratio_max": totals["ratio"][3] if totals["ratio"][0] else math.nan,
        }

    def _total(self, name: str) -> tuple[float, float, float, float]:
        """Return count, sum, sum of squares and maximum of a measure."""
        count = total = squares = 0.0
        largest = -math.inf
        for key in sorted(self._parts):
            if name in self._parts[key]:
                n, s, q, high = self._parts[key][name].tolist()
                count, total, squares, largest = count + n, total + s, squares + q, max(largest, high)
        return count, total, squares, largest


def _moments(value: torch.Tensor) -> torch.Tensor:
    """Return count, sum, sum of squares and maximum of (M,) values, M >= 1, as a float64 tensor (4,)."""
    value = value.detach().double()
    return torch.stack([value.new_tensor(value.numel()), value.sum(), value.square().sum(), value.max()])


def idle_groups(rows: Collection[int], num_groups: int, num_generations: int) -> float:
    """Return the share of groups without a row in the loss.

    `rows` are the rows in the loss, numbered prompt by prompt.
    """
    return (num_groups - len({row // num_generations for row in rows})) / num_groups


def pass_at_g(rewards: torch.Tensor, num_generations: int) -> float:
    """Return the share of problems with a right completion.

    rewards: (P*G,), prompt by prompt. A completion is right when its reward is above 0.5.
    """
    return (rewards.view(-1, num_generations) > 0.5).any(1).float().mean().item()
