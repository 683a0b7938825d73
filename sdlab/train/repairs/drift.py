"""DRIFT: rows are weighed by how hard their problem is, from a pass rate that decays over the steps.

arXiv 2606.30345. The row weights are the authors' published pseudocode. The rhythm multipliers and the last
normalisation are not readable there; without them the loss is reconstructed.
"""

from dataclasses import dataclass

import torch

from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.signals import Signals

LEVELS = ("hard", "medium", "easy")


@dataclass(frozen=True)
class Settings:
    """DRIFT's numbers, the defaults of its code; triples are for hard, medium and easy problems."""

    decay: float = 0.85  # of the counts, per step
    prior: tuple[float, float] = (1.0, 1.0)
    confidence: float = 8.0
    neutral: float = 0.5  # the pass rate of a problem never seen
    hard: float = 0.3
    easy: float = 0.7
    soft_temperature: float = 0.08
    fail: tuple[float, float, float] = (1.0, 0.0, 0.35)  # SDPO's weight of wrong rows
    success: tuple[float, float, float] = (0.3, 1.0, 0.05)  # GRPO's weight of right rows
    hard_success: float = 0.7  # SDPO's weight of right rows of hard problems, unless binary
    binary: bool = True
    rebellious: tuple[float, float, float] = (0.0, 1.0, 0.0)  # the bonus of right rows
    margin: float = 0.2  # nats
    gamma: float = 1.0
    most: float = 2.0  # the largest token weight


def pass_rates(state: dict, signals: Signals, settings: Settings) -> tuple[dict, torch.Tensor]:
    """Return the counts (right, wrong, last step) of every problem, and the pass rate of each row's, (B,).

    counts decay by decay^(steps since last seen);  raw = (right + prior) / (all + priors)
    rate = sure raw + (1 - sure) neutral,  sure = all / (all + confidence)
    """
    counts = dict(state.get("counts", {}))
    verdicts: dict[str, list[bool]] = {}
    for problem, right in zip(signals.problem_ids, signals.right.tolist(), strict=True):
        verdicts.setdefault(problem, []).append(right)
    for problem, new in verdicts.items():
        right, wrong, last = counts.get(problem, (0.0, 0.0, signals.step))
        fade = settings.decay ** (signals.step - last)
        counts[problem] = (right * fade + sum(new), wrong * fade + len(new) - sum(new), signals.step)
    table = torch.tensor([counts[problem][:2] for problem in signals.problem_ids], dtype=torch.float64)
    total = table.sum(1)
    raw = (table[:, 0] + settings.prior[0]) / (total + sum(settings.prior))
    sure = total / (total + settings.confidence)
    return counts, sure * raw + (1 - sure) * settings.neutral


def gates(rate: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return how hard, medium and easy a problem is, (3, B) with sum one, from its pass rate (B,)."""
    hard = ((settings.hard - rate) / settings.soft_temperature).sigmoid()
    easy = ((rate - settings.easy) / settings.soft_temperature).sigmoid()
    raw = torch.stack([hard, (1 - hard) * (1 - easy), easy])
    return raw / raw.sum(0)


def row_weights(
    level: torch.Tensor, right: torch.Tensor, taught: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return SDPO's weight, GRPO's weight and the bonus of each row, (B,) each.

    level: (3, B), from `gates`. right and taught: (B,) bool; taught rows have a teacher with its context.

        sdpo = taught wrong (fail . level), and if not binary + taught right hard_success hard
        grpo = right (success . level), but 1 for rows without a teacher;  bonus = taught right (rebellious .
        level)
    """
    lost, won, rebel = (
        level.new_tensor(factors) @ level
        for factors in (settings.fail, settings.success, settings.rebellious)
    )
    sdpo = taught * ~right * lost
    if not settings.binary:
        sdpo = sdpo + taught * right * settings.hard_success * level[0]
    return sdpo, torch.where(taught, right * won, torch.ones_like(won)), taught * right * rebel


def token_weights(
    s: torch.Tensor,
    t: torch.Tensor,
    bonus: torch.Tensor,
    settings: Settings,
    openness: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Return GRPO's weight of each token, (B, T): more where the student is surer than the teacher.

    1 + bonus open (clip(exp(gamma max(s - t - margin, 0)), 1, most) - 1)
    """
    extra = (settings.gamma * (s - t - settings.margin).clamp(min=0)).exp().clamp(1, settings.most) - 1
    return 1 + bonus[:, None] * openness * extra


def rhythm(
    multipliers: torch.Tensor, most: float = 2.0, power: float = 1.0, floor: float = 0.0
) -> torch.Tensor:
    """Return how far a rhythm opens the bonus, (B, T), from its multipliers, which the loop does not have."""
    return floor + (1 - floor) * ((multipliers - 1) / (most - 1)).clamp(0, 1) ** power


def drift(settings: Settings = Settings()) -> Repair:
    """Return DRIFT (arXiv 2606.30345; row weights: code; normalisation: reconstructed).

    The normalisation is the mean over all tokens, and there is no rhythm.
    """

    def advance(state: dict, signals: Signals) -> dict:
        counts, rate = pass_rates(state, signals, settings)
        return {"counts": counts, "rate": rate, "gates": gates(rate, settings)}

    def advantage(signals: Signals, state: dict):
        return signals.advantages("none")

    def weights(signals: Signals, state: dict):
        taught = signals.facts.informed[0].bool()
        rows = row_weights(state["gates"], signals.right, taught, settings)
        sdpo, grpo, bonus = (weight.to(signals.old.dtype) for weight in rows)
        mean = signals.token_mean(signals.mask)
        tokens = token_weights(signals.s, signals.t[0], bonus, settings)
        return mean * sdpo[:, None] * signals.taught, mean * grpo[:, None] * tokens

    return Repair(name="drift", advance=advance, advantage=advantage, weights=weights)
