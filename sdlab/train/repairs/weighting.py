"""Repairs that weigh or mask tokens.

s, t, u, H_S and H_T are defined in `signals`. Grades: code = the authors' code, port = a re-implementer's
code, paper = the paper's text, note = second-hand notes, reconstructed = filled in.
"""

import math

import torch

from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate
from sdlab.train.repairs.mistakes import reflection
from sdlab.train.repairs.rewards import group_means
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View


def gain(signals: Signals, state: dict) -> torch.Tensor:
    """Return u = t - s, the advantage whose policy gradient is that of KL(S || T)."""
    return signals.u[0]


def pw_opsd(
    w_min: float = 0.25,
    tau: float = 0.3,
    s: float = 0.1,
    clip: float | None = 0.05,
    temperature: float = 1.1,
    by_row: bool = True,
    top_k: int | None = None,
) -> Repair:
    """Return PW-OPSD (arXiv 2605.21606; code): OPSD's clipped loss, with more weight on late tokens.

        w_i = w_min + (1 - w_min) sigmoid((x - tau) / s),  x = (i - .5) / n for token i of n

    Mean over the tokens of a row, then over rows (by_row), or over all tokens.
    """

    def weights(signals: Signals, state: dict):
        mask = signals.taught
        count = mask.sum(1, keepdim=True)
        place = (mask.cumsum(1).to(signals.old.dtype) - 0.5) / count.clamp(min=1)
        late = w_min + (1 - w_min) * ((place - tau) / s).sigmoid()
        mean = signals.row_mean(mask, count[:, 0] > 0) if by_row else signals.token_mean(mask)
        return late * mean, None

    rest = "bucket" if top_k is None else "renormalise"
    return Repair(
        name="pw_opsd",
        weights=weights,
        divergence=Divergence(0.0, top_k, support="teacher", rest=rest, clip=clip),
        temperature=temperature,
    )


def eopd(tau: float = 0.8, top_k: int = 16, temperature: float = 1.0) -> Repair:
    """Return EOPD (arXiv 2603.07079; port): sampled reverse KL, and forward KL where the teacher is unsure.

        loss_t = -r sg(u) + 1[H_T > tau] KL(T || S) on the teacher's top k, renormalised there

    The student keeps its probabilities over the whole vocabulary.
    """

    def weights(signals: Signals, state: dict):
        mean = signals.token_mean(signals.taught)
        return mean * (signals.teacher_entropy[0] > tau), mean

    return Repair(
        name="eopd",
        advantage=gain,
        weights=weights,
        divergence=Divergence(0.0, top_k, support="teacher", rest="renormalise_teacher"),
        surrogate=Surrogate("ratio", old="student"),
        temperature=temperature,
    )


def tropd(top_k: int = 64) -> Repair:
    """Return TrOPD (port in lee3296/FIRE) without its rollouts that the teacher begins.

        a token is trusted with probability min(1, exp(t - old))
        trusted: -sg(t - old) s;  other: KL(T || S) on the teacher's top k, not renormalised

    Mean over groups of the group's token mean.
    """

    def advantage(signals: Signals, state: dict):
        return signals.t[0] - signals.old

    def weights(signals: Signals, state: dict):
        trusted = signals.uniforms < (signals.t[0] - signals.old).exp().clamp(max=1)
        mean = group_means(signals, signals.taught)
        return mean * ~trusted, mean * trusted

    return Repair(
        name="tropd",
        advantage=advantage,
        weights=weights,
        divergence=Divergence(0.0, top_k, support="teacher", rest="drop"),
        surrogate=Surrogate("logp"),
    )


def top_entropy(signals: Signals, mask: torch.Tensor, share: float) -> torch.Tensor:
    """Return that share of the tokens of `mask` with the largest H_S, (B, T) bool, threshold included."""
    if not mask.any():
        return mask
    return mask & (signals.student_entropy >= torch.quantile(signals.student_entropy[mask], 1 - share))


def reopold(lam: float = 0.1, beta: float = 0.2, explore: float = 0.5, temperature: float = 1.0) -> Repair:
    """Return REOPOLD (arXiv 2603.11137; port): sampled reverse KL with a floor, then only at unsure tokens.

        reward = max(u, log(lam) / (1 - lam));  loss = -sum(keep reward s) / sum keep
        first phase: keep = u >= floor;  second phase: keep = the top `beta` of H_S

    The first phase lasts for the share `explore` of the steps (the share is reconstructed). The floor acts
    only in the second phase.
    """
    floor = math.log(lam) / (1 - lam)

    def advance(state: dict, signals: Signals) -> dict:
        return {"refine": signals.step >= explore * signals.steps}

    def advantage(signals: Signals, state: dict):
        return signals.u[0].clamp(min=floor)

    def weights(signals: Signals, state: dict):
        mask = signals.taught
        keep = top_entropy(signals, mask, beta) if state["refine"] else mask & (signals.u[0] >= floor)
        return None, signals.token_mean(keep)

    return Repair(
        name="reopold",
        advance=advance,
        advantage=advantage,
        weights=weights,
        surrogate=Surrogate("logp"),
        temperature=temperature,
    )


def rosd(
    alpha: float = 0.5, top_k: int | None = 100, ratio_clip: float | None = 2.0, skip_all_right: bool = False
) -> Repair:
    """Return ROSD (arXiv 2605.28014; code; the view is reconstructed): SDPO from the first error on.

        wrong rows: tokens before the first error are masked; without one the row is kept whole
        rows of groups without a right row are left out (skip_all_right: those of all-right groups too)

    The teacher sees a reflection on the completion instead of a solution.
    """

    def weights(signals: Signals, state: dict):
        error = signals.first_error[:, None]
        places = torch.arange(signals.mask.shape[1], device=signals.mask.device)
        late = signals.right[:, None] | (error <= 0) | (places >= error)
        groups = signals.right.view(-1, signals.num_generations)
        used = groups.any(1) & ~(groups.all(1) & skip_all_right)
        rows = used.repeat_interleave(signals.num_generations)[:, None]
        return signals.token_mean(signals.taught & late & rows), None

    return Repair(
        name="rosd",
        views=(View(reflection),),
        weights=weights,
        divergence=Divergence(alpha, top_k, ratio_clip=ratio_clip),
    )


def choice_gate(grpo_weight: float = 0.5) -> Repair:
    """Return half GRPO, and SDPO only where the teacher is no surer than the student (of this package).

        loss = (1 - g) mean over taught tokens of 1[H_T >= H_S] D_JS(S, T) + g mean over all tokens of PPO(A)

    Tokens at which the context removes the student's doubt are left to GRPO.
    """

    def advantage(signals: Signals, state: dict):
        return signals.advantages()

    def weights(signals: Signals, state: dict):
        gate = signals.taught & (signals.teacher_entropy[0] >= signals.student_entropy)
        distil = signals.token_mean(signals.taught) * gate
        return (1 - grpo_weight) * distil, grpo_weight * signals.token_mean(signals.mask)

    return Repair(name="choice_gate", advantage=advantage, weights=weights)
