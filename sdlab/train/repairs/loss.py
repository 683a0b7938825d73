"""The loss of a repair at the tokens of a micro-batch; `Repair` in `hooks` says what each part means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sdlab.errors import SdlabError
from sdlab.train.divergences import divergence, renormalised, top_k_logps, with_tail
from sdlab.train.losses import grpo_token_loss
from sdlab.train.repairs.hooks import Divergence, Repair, Surrogate


@dataclass
class Tokens:
    """N tokens of a micro-batch, with what the loss needs at each; None where the repair has no such part."""

    student: torch.Tensor  # (N, V), log-probabilities, with gradient
    ids: torch.Tensor  # (N,), the sampled tokens
    old: torch.Tensor  # (N,), their log-probabilities at sampling
    views: torch.Tensor | None = None  # (M, N, V)
    base: torch.Tensor | None = None  # (N, V)
    distil: torch.Tensor | None = None  # (N,), weights
    policy: torch.Tensor | None = None  # (N,), weights
    advantage: torch.Tensor | None = None  # (N,)
    mean: torch.Tensor | None = None  # (N,), weights of the mean over all tokens, for the regulariser

    @property
    def now(self) -> torch.Tensor:
        """Return the student's log-probabilities of the sampled tokens, (N,), with gradient."""
        return self.student.gather(-1, self.ids[:, None]).squeeze(-1)


@dataclass
class Terms:
    """The three parts of the loss at every token (N,), before their weights; None where there is no part."""

    divergence: torch.Tensor | None = None  # before the importance weight
    distil: torch.Tensor | None = None
    policy: torch.Tensor | None = None
    regulariser: torch.Tensor | None = None


def token_terms(repair: Repair, tokens: Tokens, state: dict) -> Terms:
    """Return the parts of the loss at every token.

    Raises SdlabError, naming the repair and the hook, for a result of the wrong shape or not finite.
    """
    terms, now = Terms(), tokens.now
    if tokens.distil is not None and tokens.views is not None:
        rule = repair.divergence
        student, views, base = on_support(rule, tokens.student, tokens.views, tokens.base)
        target = checked(repair, "target", repair.target(student, views, base, state), student.shape)
        terms.divergence = token_divergence(rule, student, target)
        weight = 1.0
        if rule.ratio_clip is not None:
            weight = (now - tokens.old).detach().clamp(-20, 20).exp().clamp(max=rule.ratio_clip)
        terms.distil = terms.divergence * weight
    if tokens.policy is not None and tokens.advantage is not None:
        terms.policy = token_surrogate(repair.surrogate, now, tokens.old, tokens.advantage)
    if tokens.mean is not None and repair.regulariser is not None:
        values = repair.regulariser(tokens.student, tokens.base, tokens.ids)
        terms.regulariser = checked(repair, "regulariser", values, tokens.ids.shape)
    return terms


def total(terms: Terms, tokens: Tokens) -> torch.Tensor:
    """Return sum distil * D + sum policy * surrogate + mean regulariser, a scalar."""
    parts = (
        (tokens.distil, terms.distil),
        (tokens.policy, terms.policy),
        (tokens.mean, terms.regulariser),
    )
    sums = [(weight * term).sum() for weight, term in parts if weight is not None and term is not None]
    return sum(sums[1:], sums[0])


def on_support(
    rule: Divergence, student: torch.Tensor, views: torch.Tensor, base: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return student (N, K), views (M, N, K) and base (N, K) on the support of the divergence."""
    if rule.top_k is None:
        return student, views, base
    k = min(rule.top_k, student.shape[-1])
    if rule.support == "student" and rule.rest in ("bucket", "renormalise"):  # SDPO's own function
        tail = rule.rest == "bucket"
        pairs = [top_k_logps(student, view, k, tail) for view in views]
        base = None if base is None else top_k_logps(student, base, k, tail)[1]
        return pairs[0][0], torch.stack([view for _, view in pairs]), base
    ids = (student.detach() if rule.support == "student" else views[0]).topk(k, dim=-1).indices
    bound = {"bucket": with_tail, "renormalise": renormalised}.get(rule.rest, lambda logps: logps)
    of_views = renormalised if rule.rest == "renormalise_teacher" else bound
    base = None if base is None else bound(base.gather(-1, ids))
    views = of_views(views.gather(-1, ids.expand(len(views), *ids.shape)))
    return bound(student.gather(-1, ids)), views, base


def token_divergence(rule: Divergence, student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return D(student, target) at every token: log-probabilities (N, K) to (N,)."""
    if rule.clip is not None and rule.clip_at == "element":
        return elements(student, target, rule.alpha).clamp(max=rule.clip).sum(-1)
    if isinstance(rule.alpha, tuple):
        forward, backward = rule.alpha
        value = forward * divergence(student, target, 0) + backward * divergence(student, target, 1)
    else:
        value = divergence(student, target, rule.alpha)
    return value if rule.clip is None else value.clamp(max=rule.clip)


def elements(student: torch.Tensor, target: torch.Tensor, alpha: float | tuple[float, ...]) -> torch.Tensor:
    """Return the terms (N, K) whose sum over K is the divergence of `alpha`; they can be negative."""
    p, q = student.exp(), target.exp()
    if isinstance(alpha, tuple):
        forward, backward = alpha
        return forward * q * (target - student) + backward * p * (student - target)
    if alpha in (0, 1):
        return p * (student - target) if alpha else q * (target - student)
    # not log(p + q), which is -inf where both are too small to be represented, and 0 * inf is NaN
    mixture = torch.logaddexp(student + math.log(1 - alpha), target + math.log(alpha))
    return (1 - alpha) * p * (student - mixture) + alpha * q * (target - mixture)


def token_surrogate(
    rule: Surrogate, now: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor
) -> torch.Tensor:
    """Return the policy loss at every token (N,), from log-probabilities and advantages (N,)."""
    old = now.detach() if rule.old == "student" else old
    if rule.kind == "logp":
        return -advantage * now
    if rule.kind == "ratio":
        return -advantage * (now - old).exp()
    loss = grpo_token_loss(now, old, advantage, rule.low, rule.high)
    if rule.dual is not None:
        loss = torch.where(advantage < 0, torch.minimum(loss, -advantage * rule.dual), loss)
    return loss


def checked(repair: Repair, hook: str, values: object, *shapes: Sequence[int]) -> torch.Tensor:
    """Return `values` if it is a finite tensor of one of the shapes.

    Raises SdlabError, which names the repair and the hook.
    """
    names = " or ".join(str(tuple(shape)) for shape in shapes)
    if not isinstance(values, torch.Tensor):
        raise SdlabError(
            f"repair {repair.name!r}: {hook} gave a {type(values).__name__}; it must give a tensor of shape "
            f"{names}; change the hook"
        )
    if tuple(values.shape) not in {tuple(shape) for shape in shapes}:
        raise SdlabError(
            f"repair {repair.name!r}: {hook} gave shape {tuple(values.shape)}; it must be {names}; "
            "change the hook"
        )
    if not values.isfinite().all():
        raise SdlabError(
            f"repair {repair.name!r}: {hook} gave numbers that are not finite; all must be finite; "
            "change the hook, or train with a smaller learning rate"
        )
    return values
