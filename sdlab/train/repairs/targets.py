"""Repairs that change the target: another distribution than the teacher's is distilled.

p, q and l are probabilities and log-probabilities; S, T and 0 are student, teacher and the base model without
context; lsm is the log-softmax. Grades: code = the authors' code, port = a re-implementer's code, paper = the
paper's text, note = second-hand notes, reconstructed = filled in.
"""

import torch

from sdlab.train.divergences import divergence
from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate, Weights
from sdlab.train.repairs.signals import Signals
from sdlab.train.repairs.views import (
    View,
    fields,
    half_solution,
    reference_only,
    sibling_answer,
    solution,
    wrong_solution,
)


def row_means(signals: Signals, state: dict) -> Weights:
    """Return the weights of the mean over rows of each row's mean."""
    return signals.row_mean(signals.taught), None


def opsd_ectr(
    guidance: float = 0.5,
    floor: float = -5.0,
    weight_tau: float = 1.0,
    clip: float | None = 0.05,
    top_k: int = 100,
    alpha: float = 0.0,
) -> Repair:
    """Return OPSD with a contrast of a right and a wrong demonstration (arXiv 2606.11709; code).

    target = lsm((1 + g) l_right - g max(l_wrong, floor)) on the right teacher's top k and a tail
    weight = KL(right || wrong) / (KL(right || wrong) + tau)
    """

    def target(student, views, base, state):
        right, wrong = views
        return ((1 + guidance) * right - guidance * wrong.clamp(min=floor)).log_softmax(-1)

    def weights(signals: Signals, state: dict):
        weight = signals.token_mean(signals.taught)
        if weight_tau > 0:
            contrast = signals.kl(0, 1, top_k).clamp(min=0)
            weight = weight * contrast / (contrast + weight_tau)
        return weight, None

    return Repair(
        name="opsd_ectr",
        views=(View(solution), View(wrong_solution())),
        target=target,
        weights=weights,
        divergence=Divergence(alpha, top_k, support="teacher", clip=clip),
    )


def purified_opsd(cap: float = 10.0, beta: float = 1.0, alpha: float = 0.5) -> Repair:
    """Return Purified OPSD (arXiv 2607.02234; note: the divergence's alpha is not known).

        D = l_T - l_reference, minus its mean over the vocabulary;  D' = cap tanh(D / cap)
        target = lsm(l_0 + D' / beta)

    The reference alone says what the demonstration makes likely without the problem. All three passes are the
    base model's.
    """

    def target(student, views, base, state):
        gain = views[0] - views[1]
        gain = gain - gain.mean(-1, keepdim=True)
        return (base + cap * (gain / cap).tanh() / beta).log_softmax(-1)

    return Repair(
        name="purified_opsd",
        views=(View(solution, "base"), View(reference_only, "base")),
        target=target,
        divergence=Divergence(alpha, top_k=None),
        reads_base=True,
    )


def veto(beta: float = 0.8, backward: bool = False) -> Repair:
    """Return Veto (port in lee3296/FIRE): the target is a product with the student itself.

        target = lsm(l_T + beta l_S),  beta falls to 0 linearly;  KL(target || S), mean over rows

    Without a division by 1 + beta the product is sharper than both.
    """

    def advance(state: dict, signals: Signals) -> dict:
        return {"beta": beta * (1 - signals.step / signals.steps)}

    def target(student, views, base, state):
        return (views[0] + state["beta"] * student.detach()).log_softmax(-1)

    return Repair(
        name="veto",
        advance=advance,
        target=target,
        weights=row_means,
        divergence=Divergence(float(backward), top_k=None),
    )


def attenuation(
    base: torch.Tensor, teacher: torch.Tensor, beta: float = 50.0, most: float = 0.15
) -> torch.Tensor:
    """Return DemoPSD's share of the base, (N, 1): a = (sigmoid(beta JSD(0, T)) - .5) 2 most."""
    disagreement = divergence(base, teacher, 0.5).clamp(min=0)[:, None]
    return ((beta * disagreement).sigmoid() - 0.5) * 2 * most


def demopsd(beta: float = 50.0, most: float = 0.15) -> Repair:
    """Return DemoPSD (arXiv 2607.02502; paper, values of a port): less teacher where it disagrees.

        target = lsm((1 - a) l_T + a l_0),  a = `attenuation`;  KL(S || target), mean over rows

    The paper's demonstration is a random right sibling. Its 0 and T are one moving average; here 0 is the
    base.
    """

    def target(student, views, base, state):
        share = attenuation(base, views[0], beta, most)
        return ((1 - share) * views[0] + share * base).log_softmax(-1)

    return Repair(
        name="demopsd",
        target=target,
        weights=row_means,
        divergence=Divergence(1.0, top_k=None),
        reads_base=True,
    )


def fisher(p: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return g(x) = p (x - sum_v p x), the gradient that a step of size x on the logits stands for."""
    return p * (x - (p * x).sum(-1, keepdim=True))


def fire_target(
    student: torch.Tensor, views: torch.Tensor, step_scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return FIRE's target (N, V), the weights of the fields (M - 1, N, 1) and the trust (N, 1).

    excess = max(|g(l_S - q)|^2 - nu^2 / k^2, 0) / |g(l_S - q)|^2,  nu^2 = 1 - sum p^2
    w_j = |g(q_j - q)|^2 excess;  attr = lsm(q + sum_j w_j (q_j - q) / (nu^2 / k^2 + sum_j w_j))
    trust = min(1, (nu / k) / |g(l_S - attr)|);  target = lsm((1 - trust) l_S + trust attr)
    """
    student = student.detach()
    p, whole, without = student.exp(), views[0], views[1:]
    tiny = torch.finfo(p.dtype).tiny
    bound = (1 - p.square().sum(-1, keepdim=True)).clamp(min=0) / step_scale**2
    size = fisher(p, student - whole).square().sum(-1, keepdim=True)
    excess = (size - bound).clamp(min=0) / size.clamp(min=tiny)
    weights = fisher(p, without - whole).square().sum(-1, keepdim=True) * excess
    shift = (weights * (without - whole)).sum(0) / (bound + weights.sum(0)).clamp(min=tiny)
    attributed = (whole + shift).log_softmax(-1)
    distance = fisher(p, student - attributed).square().sum(-1, keepdim=True).sqrt()
    trust = (bound.sqrt() / distance.clamp(min=tiny)).clamp(max=1)
    return ((1 - trust) * student + trust * attributed).log_softmax(-1), weights, trust


def fire(step_scale: float = 1.0) -> Repair:
    """Return FIRE (lee3296/FIRE; code): a teacher per left-out field, and a step no larger than a bound.

    Wrong rows: KL(S || target) with `fire_target`. Right rows: the log-probability of the sampled token, with
    weight min(1, (nu / k) / sqrt(1 + sum p^2 - 2 p(y))). Mean over rows.
    """

    def target(student, views, base, state):
        return fire_target(student, views, step_scale)[0]

    def advantage(signals: Signals, state: dict):
        return torch.ones_like(signals.old)

    def weights(signals: Signals, state: dict):
        mean = signals.row_mean(signals.taught)
        right = signals.right[:, None]
        gradient = (1 + signals.collision - 2 * signals.s.exp()).clamp(min=0).sqrt()
        bound = (1 - signals.collision).clamp(min=0).sqrt() / step_scale
        factor = torch.where(gradient > 0, bound / gradient.clamp(min=1e-30), torch.ones_like(bound)).clamp(
            max=1
        )
        return mean * ~right, mean * right * factor

    return Repair(
        name="fire",
        views=(View(fields("solution", "feedback")), View(fields("feedback")), View(fields("solution"))),
        target=target,
        advantage=advantage,
        weights=weights,
        divergence=Divergence(1.0, top_k=None),
        surrogate=Surrogate("logp"),
    )


def agreement(gains: torch.Tensor, excess: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Return AVSD's gate |mean d| / mean |d| * |mean d| / (|mean d| + J), with d (M, ...) and J (...)."""
    mean = gains.mean(0).abs()
    return mean / (gains.abs().mean(0) + eps) * mean / (mean + excess + eps)


AVSD_VIEWS = (View(solution), View(half_solution), View(sibling_answer))


def avsd_full(
    alpha: float = 0.0, token_clip: float | None = None, temperature: float = 0.7, detach_gate: bool = False
) -> Repair:
    """Return AVSD over the whole vocabulary (arXiv 2605.20643; code), with three views of the solution.

        l_G = lsm(mean_m l_m);  l_A = log mean_m p_m;  J = max(l_A - l_G, 0);  d_m = l_m - l_S
        target = lsm(l_G + gate J),  gate = `agreement`

    In the code the gate has a gradient, so the target follows the student (detach_gate=False).
    """

    def target(student, views, base, state):
        student = student.detach() if detach_gate else student
        geometric = views.mean(0).log_softmax(-1)
        arithmetic = views.exp().mean(0).clamp(min=1e-8).log()
        excess = (arithmetic - geometric).clamp(min=0)
        return (geometric + agreement(views - student, excess) * excess).log_softmax(-1)

    return Repair(
        name="avsd_full",
        views=AVSD_VIEWS,
        target=target,
        divergence=Divergence(alpha, top_k=None, clip=token_clip, clip_at="token"),
        temperature=temperature,
    )
