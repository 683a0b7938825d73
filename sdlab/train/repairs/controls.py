"""Controls that a repair must beat before its context deserves the credit.

Early stopping, the ninth control, is a protocol and no loss: plain SDPO, whose checkpoint is chosen on other
problems. Grades: code = the authors' code, paper = the paper's text, reconstructed = filled in.
"""

from dataclasses import replace

import torch

from sdlab.train.repairs.advantages import grpo
from sdlab.train.repairs.clip import SDPO
from sdlab.train.repairs.hooks import Repair, Surrogate
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View, other_problem
from sdlab.train.repairs.weighting import top_entropy


def opsa(
    mode: str = "entropy",
    fraction: float = 0.2,
    low: float = -1.0,
    high: float = -0.5,
    fixed: float = -0.5,
    by_row: bool = True,
) -> Repair:
    """Return OPSA (arXiv 2608.31046; code): push down the student's least likely tokens, without any teacher.

        selected = the `fraction` of the batch's tokens with the lowest s;  loss = -r A, mean of each row's
        mean A = high + (low - high) (H_S - min) / (max - min) over the selected tokens (mode "entropy"), or
        `fixed`

    It uses no reward and no context. A row without a selected token counts 0 in the mean.
    """

    def selected(signals: Signals) -> torch.Tensor:
        places = signals.mask.flatten().nonzero()[:, 0]
        count = max(1, int(fraction * len(places)))
        order = signals.s.flatten()[places].sort(stable=True).indices
        chosen = torch.zeros_like(signals.mask.flatten())
        chosen[places[order[:count]]] = True
        return chosen.view_as(signals.mask)

    def advantage(signals: Signals, state: dict):
        chosen, entropy = selected(signals), signals.student_entropy
        if mode == "fixed" or not chosen.any():
            return fixed * chosen.to(entropy.dtype)
        smallest, largest = entropy[chosen].min(), entropy[chosen].max()
        if largest - smallest <= 1e-12:
            return low * chosen.to(entropy.dtype)
        return (high + (low - high) * (entropy - smallest) / (largest - smallest)) * chosen

    def weights(signals: Signals, state: dict):
        chosen = selected(signals)
        mean = signals.row_mean(chosen, signals.included) if by_row else signals.token_mean(chosen)
        return None, mean

    return Repair(
        name="opsa",
        views=(),
        advantage=advantage,
        weights=weights,
        surrogate=Surrogate("ratio", old="student"),
    )


OTHER_PROBLEM = Repair(name="other_problem", views=(View(other_problem),))
"""SDPO whose teacher sees another problem and its demonstration (OP2SD, arXiv 2608.09228; paper)."""


def shuffled(repair: Repair) -> Repair:
    """Return `repair` with its weights and advantages permuted within each row (reconstructed).

    The permutation keeps their histogram and is the same for both, keyed by seed and step.
    """

    own = repair.advantage

    def advantage(signals: Signals, state: dict):
        assert own is not None
        return permuted(signals, own(signals, state))

    def weights(signals: Signals, state: dict):
        return tuple(
            None if each is None else permuted(signals, each) for each in repair.weights(signals, state)
        )

    return replace(
        repair,
        name=f"{repair.name}_shuffled",
        advantage=None if own is None else advantage,
        weights=weights,
    )


def permuted(signals: Signals, values: torch.Tensor) -> torch.Tensor:
    """Return values (B, T) or (B, 1) in a random order among each row's tokens, (B, T)."""
    mask, values = signals.facts.mask.bool(), values.expand_as(signals.old)
    out = torch.zeros_like(values)
    for row in range(len(mask)):
        places = mask[row].nonzero()[:, 0]
        out[row, places] = values[row, places[signals.uniforms[row, places].argsort()]]
    return out


def random_weights(repair: Repair) -> Repair:
    """Return `repair` with random token weights of the same mean in each row (reconstructed).

    The weights of a row are its mean weight times independent draws, uniform from 0 to 2.
    """

    def weights(signals: Signals, state: dict):
        def drawn(weight):
            mask = (weight > 0) if weight is not None else None
            if weight is None or mask is None:
                return None
            mean = weight.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
            return mean * 2 * signals.uniforms.to(weight) * mask

        return tuple(map(drawn, repair.weights(signals, state)))

    return replace(repair, name=f"{repair.name}_random", weights=weights)


def grpo_entropy_bonus(coef: float = 0.01, high: float = 0.28, scale: str = "none") -> Repair:
    """Return GRPO with an entropy bonus (code in TRL): PPO(A) - coef mean H_S, the entropy with gradient."""

    def regulariser(student, base, ids):
        return coef * (student.exp() * student).sum(-1)

    return replace(grpo(scale, high=high), name="grpo_entropy_bonus", regulariser=regulariser)


def grpo_top_entropy(share: float = 0.2, high: float = 0.28, scale: str = "none") -> Repair:
    """Return GRPO on the tokens with the highest entropy (arXiv 2506.01939; code in TRL), the 80/20 rule.

    loss = sum over the top `share` of H_S of PPO(A) / all tokens
    """

    def weights(signals: Signals, state: dict):
        mean = signals.token_mean(signals.mask)
        return None, mean * top_entropy(signals, signals.mask, share)

    return replace(grpo(scale, high=high), name="grpo_top_entropy", weights=weights)


def k3(student: torch.Tensor, base: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return k3, Schulman's estimate of KL(S || 0): exp(d) - d - 1 with d = base - s, (N,)."""
    s, b = (logps.gather(-1, ids[:, None]).squeeze(-1) for logps in (student, base))
    return (b - s).expm1() - (b - s)


def grpo_base_kl(beta: float = 0.04, high: float = 0.28, scale: str = "none") -> Repair:
    """Return GRPO with a penalty towards the base (code in TRL): loss = PPO(A) + beta mean k3."""
    return replace(
        grpo(scale, high=high),
        name="grpo_base_kl",
        regulariser=lambda student, base, ids: beta * k3(student, base, ids),
        reads_base=True,
    )


def sdpo_base_kl(beta: float = 0.1) -> Repair:
    """Return SDPO with beta KL(S || 0) over the whole vocabulary, mean over all tokens (reconstructed)."""

    def regulariser(student, base, ids):
        return beta * (student.exp() * (student - base)).sum(-1)

    return replace(SDPO, name="sdpo_base_kl", regulariser=regulariser, reads_base=True)


def mix(grpo_weight: float) -> Repair:
    """Return (1 - grpo_weight) SDPO + grpo_weight GRPO, each with its own mean over tokens."""

    def weights(signals: Signals, state: dict):
        distil, policy = signals.token_mean(signals.taught), signals.token_mean(signals.mask)
        return (1 - grpo_weight) * distil, grpo_weight * policy

    return replace(
        SDPO, name=f"mix_{grpo_weight:g}", advantage=grpo().advantage, weights=weights, surrogate=Surrogate()
    )
