"""The losses of the study as pure tensor functions: SFT, GRPO and SDPO, on (B, T) batches or flat (M,) completion tokens.

`logps` are log-probabilities over the vocabulary V, `per_token_logps` those of the tokens that were sampled. Masks are
true at tokens that count. Whatever stands at other places, even NaN, changes neither a loss nor its gradient with
respect to the tensors given (a NaN that came out of a softmax still spoils that softmax's own backward pass).

Sources: SDPO is arXiv 2601.20802 (code: lasgroup/SDPO) as used by arXiv 2603.24472; GRPO is arXiv 2402.03300 with the clip range and
token mean of DAPO (arXiv 2503.14476). Names follow TRL.
"""

import torch

from sdlab.errors import SdlabError, unknown

AGGREGATIONS = ("token_mean", "sequence_mean")
LARGEST_LOG_RATIO = 80.0  # exp of more overflows float32, and the rarer side's e^-80 is no longer seen


def all_logps(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """log softmax(logits / temperature) over the vocabulary, in nats: (..., V) to (..., V). Raises SdlabError unless temperature > 0."""
    if not temperature > 0:
        raise SdlabError(f"temperature {temperature} has no log-probabilities; give a number above 0")
    return (logits / temperature if temperature != 1 else logits).log_softmax(-1)


def token_logps(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """`all_logps` of logits (..., V) at the token ids (...): (...)."""
    return all_logps(logits, temperature).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def token_weights(
    completion_mask: torch.Tensor, how: str = "token_mean", total=None, dtype=torch.float32
) -> torch.Tensor:
    """What each token counts in `aggregate`, as (B, T); `token_weights(mask)[mask]` are the weights of flat tokens (M,).

    how: "token_mean", every token counts alike, or "sequence_mean", every row with a token counts alike. total: the
    tokens or rows of the whole minibatch, when this is one of its micro-batches. Raises SdlabError on another `how`.
    """
    if how not in AGGREGATIONS:
        raise unknown("aggregation", how, AGGREGATIONS)
    mask = completion_mask.bool()
    weights = mask.to(dtype)
    if how == "sequence_mean":
        lengths = mask.sum(-1, keepdim=True)
        weights, count = weights / lengths.clamp(min=1), (lengths > 0).sum()
    else:
        count = mask.sum()
    count = torch.as_tensor(count if total is None else total, device=mask.device)
    return weights / count.clamp(min=1)


def aggregate(
    per_token_loss: torch.Tensor, completion_mask: torch.Tensor, how: str = "token_mean", total=None
) -> torch.Tensor:
    """The mean of (B, T) losses where the mask (B, T) is true, over tokens or over rows (`how`): a scalar.

    "token_mean": sum / number of tokens. "sequence_mean": mean over rows of each row's token mean; empty rows do not
    count. `total` replaces the denominator, so that the losses of micro-batches add up to their minibatch's. Nothing
    masked in gives 0. Raises SdlabError on an unknown `how` or another shape of mask.
    """
    _same_shape(per_token_loss=per_token_loss, completion_mask=completion_mask)
    weights = token_weights(completion_mask, how, total, per_token_loss.dtype)
    return (
        per_token_loss.masked_fill(~completion_mask.bool(), 0) * weights
    ).sum()  # filled first, for NaN * 0 is NaN


def sft_loss(
    per_token_logps: torch.Tensor, completion_mask: torch.Tensor, how: str = "token_mean", total=None
) -> torch.Tensor:
    """Mean negative log-likelihood in nats of the tokens (B, T) where the mask (B, T) is true. Rest: see `aggregate`."""
    return aggregate(-per_token_logps, completion_mask, how, total)


def group_advantages(
    rewards: torch.Tensor, num_generations: int, scale_rewards: bool = False
) -> torch.Tensor:
    """Reward minus the mean of its group: (B,) to (B,), the G = num_generations rewards of a prompt next to each other.

    scale_rewards divides by the group's standard deviation (unbiased, plus 1e-4), as TRL's scale_rewards="group"; the
    paper does not. Raises SdlabError when G < 2, or B is not a multiple of G.
    """
    rewards = torch.as_tensor(rewards)
    rewards = rewards if rewards.is_floating_point() else rewards.float()
    if num_generations < 2:
        raise SdlabError(
            f"num_generations is {num_generations}, and one generation has no group baseline; use num_generations >= 2"
        )
    if rewards.dim() != 1 or len(rewards) % num_generations:
        raise SdlabError(
            f"rewards of shape {tuple(rewards.shape)} do not form groups of {num_generations}; give (B,), B a multiple of it"
        )
    groups = rewards.view(-1, num_generations)
    advantages = groups - groups.mean(1, keepdim=True)
    if scale_rewards:
        advantages = advantages / (groups.std(1, keepdim=True) + 1e-4)
    return advantages.flatten()


def grpo_token_loss(
    per_token_logps: torch.Tensor,
    old_per_token_logps: torch.Tensor,
    advantages: torch.Tensor,
    epsilon_low: float,
    epsilon_high: float,
) -> torch.Tensor:
    """-min(r A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A) per token, r = exp(per_token_logps - old_per_token_logps).

    All three tensors are (B, T) or (M,), or broadcast to that. The old log-probabilities get no gradient.
    """
    ratio = (per_token_logps - old_per_token_logps.detach()).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages)


def grpo_loss(
    per_token_logps: torch.Tensor,
    old_per_token_logps: torch.Tensor,
    advantages: torch.Tensor,
    completion_mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    how: str = "token_mean",
    total=None,
) -> torch.Tensor:
    """The clipped objective (no KL term) over tokens (B, T), to be minimised; advantages (B,) or (B, T). Rest: see `aggregate`."""
    unused = ~completion_mask.bool()
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1)
    new, old = per_token_logps.masked_fill(unused, 0), old_per_token_logps.masked_fill(unused, 0)
    return aggregate(
        grpo_token_loss(new, old, advantages, epsilon_low, epsilon_high), completion_mask, how, total
    )


def divergence(student_logps: torch.Tensor, teacher_logps: torch.Tensor, alpha: float) -> torch.Tensor:
    """Generalised Jensen-Shannon divergence in nats of two log-distributions (..., V): (...).

    alpha 0: KL(teacher || student). alpha 1: KL(student || teacher). Between: (1 - alpha) KL(student || M) + alpha
    KL(teacher || M) with M = (1 - alpha) student + alpha teacher, which is not the limit of either end. Differentiable
    in both (once). Entries without probability, -inf among them, add nothing; a KL whose second argument lacks
    them is inf. Raises SdlabError when alpha is outside [0, 1] or the shapes differ.
    """
    if not 0 <= alpha <= 1:
        raise SdlabError(
            f"alpha {alpha} is outside [0, 1]: 0 is KL(teacher || student), 1 KL(student || teacher), .5 Jensen-Shannon"
        )
    _same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
    if alpha == 0:
        return _kl(teacher_logps, student_logps)
    if alpha == 1:
        return _kl(student_logps, teacher_logps)
    return _JensenShannon.apply(student_logps, teacher_logps, float(alpha))


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of log-probabilities (..., V): (...)."""
    empty = p.detach().exp() == 0  # filled before the product: 0 * inf would be NaN, in the gradient too
    p, q = p.masked_fill(empty, 0), q.masked_fill(empty, 0)
    return (p.exp() * (p - q)).sum(-1)


class _JensenShannon(torch.autograd.Function):
    """The sum over v of (1-a) p (log p - log m) + a q (log q - log m), m = (1-a) p + a q.

    Its derivative by log p is the first term itself, and by log q the second: the derivatives through m cancel the rest. So the
    terms are kept and nothing else, equal arguments give exactly zero, and no gradient can be NaN.
    """

    @staticmethod
    def forward(ctx, student_logps, teacher_logps, alpha):
        p, q = student_logps.exp(), teacher_logps.exp()
        log_ratio = (teacher_logps - student_logps).clamp_(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
        student = _log_mixture(log_ratio, alpha).mul_(p).mul_(alpha - 1).masked_fill_(p == 0, 0)
        teacher = _log_mixture(log_ratio.neg_(), 1 - alpha).mul_(q).mul_(-alpha).masked_fill_(q == 0, 0)
        ctx.save_for_backward(student, teacher)
        return (student + teacher).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        student, teacher = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return (
            grad * student if ctx.needs_input_grad[0] else None,
            grad * teacher if ctx.needs_input_grad[1] else None,
            None,
        )


def _log_mixture(log_ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    """log(1 - alpha + alpha exp(log_ratio)): the mixture relative to one of its parts, precise where the parts are close."""
    return log_ratio.expm1().mul_(alpha).log1p_()


def top_k_logps(
    student_logps: torch.Tensor, teacher_logps: torch.Tensor, k: int | None, tail: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both log-distributions (..., V) on the student's k most likely tokens, in no particular order: two (..., k[+1]).

    tail=True adds all other tokens as one more, log(1 - sum p) (with at least 1e-7, as in the paper's code); tail=False makes
    the k sum to one again, so the divergence is between what each says given that it is one of them. k=None returns
    the arguments. The choice of tokens has no gradient. Raises SdlabError when k is not in 1 ... V.
    """
    if k is None:
        return student_logps, teacher_logps
    _same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
    vocabulary = student_logps.shape[-1]
    if not 1 <= k <= vocabulary:
        raise SdlabError(
            f"top_k {k} of a vocabulary of {vocabulary} tokens; choose 1 to {vocabulary}, or None for all"
        )
    student, ids = student_logps.topk(k, dim=-1, sorted=False)
    teacher = teacher_logps.gather(-1, ids)
    bound = _with_tail if tail else _renormalised
    return bound(student), bound(teacher)


def _with_tail(logps: torch.Tensor) -> torch.Tensor:
    captured = logps.logsumexp(-1, keepdim=True).clamp(max=-1e-7)  # rounding can bring it to 0 and above
    return torch.cat([logps, torch.log(-torch.expm1(captured))], dim=-1)


def _renormalised(logps: torch.Tensor) -> torch.Tensor:
    return logps.log_softmax(-1)


def importance_weight(
    per_token_logps: torch.Tensor, old_per_token_logps: torch.Tensor, clip: float | None = 2.0
) -> torch.Tensor:
    """min(exp(per_token_logps - old_per_token_logps), clip), without gradient, in their shape; ones when clip is None.

    Corrects for tokens that an older student sampled. Raises SdlabError unless clip > 0.
    """
    if clip is None:
        return torch.ones_like(per_token_logps)
    if not clip > 0:
        raise SdlabError(
            f"importance weights clipped at {clip} would all be gone; give a number above 0, or None for no weights"
        )
    return (per_token_logps - old_per_token_logps).detach().exp().clamp(max=clip)


def sdpo_token_loss(
    student_logps: torch.Tensor,
    teacher_logps: torch.Tensor,
    alpha: float = 0.5,
    top_k: int | None = 100,
    tail: bool = True,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Divergence per token (...) of log-distributions (..., V), teacher detached, times `weight` (...). See `divergence`, `top_k_logps`."""
    loss = divergence(*top_k_logps(student_logps, teacher_logps.detach(), top_k, tail), alpha)
    return loss if weight is None else loss * weight


def sdpo_loss(
    student_logps: torch.Tensor,
    teacher_logps: torch.Tensor,
    completion_mask: torch.Tensor,
    distillation_mask: torch.Tensor,
    alpha: float = 0.5,
    top_k: int | None = 100,
    tail: bool = True,
    weight: torch.Tensor | None = None,
    how: str = "token_mean",
    total=None,
) -> torch.Tensor:
    """SDPO: the teacher's divergence on the student's own tokens, a mean over the rows that have a demonstration.

    student_logps, teacher_logps: (B, T, V) log-probabilities over the whole vocabulary. completion_mask, weight: (B, T).
    distillation_mask: (B,), true where the teacher saw a demonstration. Rest: see `sdpo_token_loss` and `aggregate`.
    """
    used = _distilled(completion_mask, distillation_mask)
    weight = None if weight is None else weight[used]
    losses = sdpo_token_loss(student_logps[used], teacher_logps[used], alpha, top_k, tail, weight)
    return aggregate(losses.new_zeros(used.shape).masked_scatter(used, losses), used, how, total)


def sampled_sdpo_loss(
    per_token_logps: torch.Tensor,
    teacher_per_token_logps: torch.Tensor,
    completion_mask: torch.Tensor,
    distillation_mask: torch.Tensor,
    weight: torch.Tensor | None = None,
    how: str = "token_mean",
    total=None,
) -> torch.Tensor:
    """SDPO from the sampled tokens (B, T) alone, detach(s - t) * s: its gradient is that of KL(student || teacher) in expectation.

    TRL's distillation_mode="sampled_token". The value is no divergence; only the gradient means something. Rest: see `sdpo_loss`.
    """
    used = _distilled(completion_mask, distillation_mask)
    student, teacher = per_token_logps.masked_fill(~used, 0), teacher_per_token_logps.masked_fill(~used, 0)
    loss = (student - teacher).detach() * student
    return aggregate(loss if weight is None else loss * weight, used, how, total)


def _distilled(completion_mask: torch.Tensor, distillation_mask: torch.Tensor) -> torch.Tensor:
    """Tokens (B, T) that count and whose row is distilled."""
    return completion_mask.bool() & distillation_mask.bool().unsqueeze(-1)


def _same_shape(**tensors: torch.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:  # broadcasting (M,) against (M, 1) would go on with M * M numbers
        raise SdlabError("shapes differ: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
