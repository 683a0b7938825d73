"""Repairs that keep GRPO and let the teacher modulate the advantage of each token.

A is the advantage of the completion, u = t - s the teacher's gain at the token, r = exp(s - old).
PPO(A) = max(-r A, -clip(r) A). Grades: code = the authors' code, port = a re-implementer's code, paper = the
paper's text, note = second-hand notes, reconstructed = filled in.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from sdlab.train.repairs.hooks import Repair, Surrogate, TeacherRule, Weights
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import View, solution, wrong_solution


def all_tokens(signals: Signals, state: dict) -> Weights:
    """Return the weights of a policy loss: the mean over all tokens."""
    return None, signals.token_mean(signals.mask)


def grpo(scale: str = "none", low: float = 0.2, high: float = 0.28, dual: float | None = None) -> Repair:
    """Return GRPO (arXiv 2402.03300 with the settings of arXiv 2603.24472): A = R - mean, no teacher."""

    def advantage(signals: Signals, state: dict):
        return signals.advantages(scale)

    return Repair(
        name="grpo",
        views=(),
        advantage=advantage,
        weights=all_tokens,
        surrogate=Surrogate("ppo", low, high, dual),
    )


def falling(start: float, steps: int) -> Callable[[dict, Signals], dict]:
    """Return the state step {"lam": ...} that falls linearly from `start` to 0 over `steps` (0: constant)."""

    def advance(state: dict, signals: Signals) -> dict:
        return {"lam": start * max(0.0, 1 - signals.step / steps) if steps else start}

    return advance


def evidence_factor(
    advantage: torch.Tensor, gain: torch.Tensor, limit: float, largest: float = 60.0
) -> torch.Tensor:
    """Return clip(exp(sign(A) gain), 1 - limit, 1 + limit): more weight where the teacher agrees with A."""
    exponent = (advantage.sign() * gain).clamp(-largest, largest)
    return exponent.exp().clamp(max(0.0, 1 - limit), 1 + limit)


def rlsd(
    lam: float = 0.5,
    limit: float = 0.2,
    decay: int = 50,
    scale: str = "none",
    gain: str = "u",
    dual: float | None = None,
) -> Repair:
    """Return RLSD (arXiv 2604.03128; code): the teacher decides how much a token counts, not which way.

        A' = A [(1 - lam) + lam clip(exp(sign(A) d), 1 - e, 1 + e)],  lam falls to 0 over `decay` steps

    gain: d is "u" = t - s (RLCSD's code), "old" = t - old (SDPG's), or "contrast" = t_right - t_wrong
    (rlsd_ectr). The teacher is a snapshot of the student, taken every 10 steps.
    """

    def advantage(signals: Signals, state: dict):
        A = signals.advantages(scale)
        if gain == "contrast":
            d = (signals.t[0] - signals.t[1]) * signals.informed.all(0)[:, None]
        else:
            d = signals.u[0] if gain == "u" else signals.t[0] - signals.old
        factor = evidence_factor(A, d, limit, largest=20.0 if gain == "old" else 60.0)
        return A * (1 - state["lam"] + state["lam"] * factor)

    return Repair(
        name="rlsd_ectr" if gain == "contrast" else "rlsd",
        views=(View(solution), View(wrong_solution())) if gain == "contrast" else (View(solution),),
        advance=falling(lam, decay),
        advantage=advantage,
        weights=all_tokens,
        surrogate=Surrogate("ppo", 0.2, 0.2, dual),
        teacher=TeacherRule("snapshot", every=10),
    )


def evidence(signals: Signals) -> torch.Tensor:
    """Return RLCSD's e = t_right - log mean_k exp t_wrong,k, (B, T); 0 where a row lacks either side."""
    t, valid = signals.t, signals.facts.informed.bool()[:, :, None]
    count = valid[1:].sum(0).clamp(min=1).to(t.dtype)
    wrong = t[1:].masked_fill(~valid[1:], -math.inf).logsumexp(0) - count.log()
    return (t[0] - wrong).masked_fill(~(valid[0] & valid[1:].any(0)), 0)


def rlcsd(
    tau: float = 0.02,
    beta: float = 1.0,
    lam: float = 0.5,
    delta: float = 0.02,
    eta: float = 1.0,
    clip: tuple[float, float] = (-2.0, 2.0),
    scale: str = "std",
    negatives: int = 4,
) -> Repair:
    """Return RLCSD (arXiv 2606.11709; code): one right demonstration against several wrong ones.

        res = clip(beta lam tanh(e / tau)),  e = t_right - log mean_k exp t_wrong,k
        A' = A + res where |res| > delta, but never of another sign than A
        loss = mean over other tokens of PPO(A) + eta * mean over these tokens of PPO(A')

    Each mean has its own count, so a small class of tokens weighs as much as the large one. e is `evidence`.
    The teacher is a snapshot of the student, taken every 10 steps.
    """

    def residual(signals: Signals):
        return (beta * lam * (evidence(signals) / tau).tanh()).clamp(*clip)

    def advantage(signals: Signals, state: dict):
        A, res = signals.advantages(scale), residual(signals)
        moved = A.sign() * (A.sign() * (A + res)).clamp(min=0)
        return torch.where(res.abs() > delta, moved, A)

    def weights(signals: Signals, state: dict):
        selected = (residual(signals).abs() > delta) & signals.mask
        rest = signals.token_mean(~selected & signals.mask)
        return None, rest + eta * signals.token_mean(selected)

    return Repair(
        name="rlcsd",
        views=(View(solution), *(View(wrong_solution(k), needs=k + 2) for k in range(negatives))),
        advantage=advantage,
        weights=weights,
        surrogate=Surrogate("ppo", 0.2, 0.2),
        teacher=TeacherRule("snapshot", every=10),
    )


def entropy_gate(most: float = 0.5, warmup: int = 5, down: float = 0.93) -> Callable[[dict, Signals], dict]:
    """Return AntiSD's gate as a state step: lam is 0 or `most`, by the median teacher entropy h of the step.

    The first `warmup` steps have lam 0 and give H_warm, the median of their h. Then the gate is open, closes
    when h < down * H_warm, and opens again when h >= H_warm.
    """

    def advance(state: dict, signals: Signals) -> dict:
        entropies = signals.teacher_entropy[0][signals.taught]
        h = entropies.median().item() if entropies.numel() else math.nan
        seen = [*state.get("seen", []), h]
        if len(seen) <= warmup:
            return {"lam": 0.0, "seen": seen, "open": True}
        warm = torch.tensor([x for x in seen[:warmup] if not math.isnan(x)], dtype=torch.float64)
        level = warm.median().item() if len(warm) else -math.inf
        is_open = (state["open"] and not h < down * level) or h >= level
        return {"lam": most * is_open, "seen": seen[:warmup], "open": is_open, "h_warm": level}

    return advance


def disbelief(u: torch.Tensor) -> torch.Tensor:
    """Return AntiSD's phi = (softplus(u) - log 2) / 2 of the teacher's gain u."""
    return (F.softplus(u) - math.log(2)) / 2


def antisd(
    lam: float = 0.5, scale: str = "popstd", surrogate: str = "ppo", warmup: int = 5, down: float = 0.93
) -> Repair:
    """Return AntiSD (arXiv 2605.11609; paper and port): push against the teacher while it is unsure enough.

    A' = A - lam (softplus(u) - log 2) / 2,  lam from `entropy_gate`
    """

    def advantage(signals: Signals, state: dict):
        return signals.advantages(scale) - state["lam"] * disbelief(signals.u[0])

    def weights(signals: Signals, state: dict):
        return None, signals.token_mean(signals.mask, eps=1e-8 if surrogate == "logp" else 0.0)

    return Repair(
        name="antisd",
        advance=entropy_gate(lam, warmup, down),
        advantage=advantage,
        weights=weights,
        surrogate=Surrogate(surrogate, 0.2, 0.2),
    )


def rlrt(lam: float = 0.5, limit: float = 1.0, scale: str = "none", right_only: bool = True) -> Repair:
    """Return RLRT (arXiv 2605.10781; port): RLSD with the sign of the gain turned, on right rows only.

        A' = A [(1 - lam) + lam clip(exp(sign(A) (old - t)), 1 - e, 1 + e)] where R = 1, else A

    right_only=False is the ablation without the gate, which diverges in the paper.
    """

    def advantage(signals: Signals, state: dict):
        A = signals.advantages(scale)
        factor = evidence_factor(A, signals.old - signals.t[0], limit, largest=20.0)
        changed = A * (1 - lam + lam * factor)
        return torch.where(signals.right[:, None], changed, A) if right_only else changed

    return Repair(
        name="rlrt" if right_only else "rlrt_ungated",
        advantage=advantage,
        weights=all_tokens,
        surrogate=Surrogate("ppo", 0.2, 0.2),
    )
