"""The losses of the study as pure tensor functions: SFT, GRPO and SDPO.

They work on (B, T) batches or on flat (M,) completion tokens. `logps` are log-probabilities over the
vocabulary V, and `per_token_logps` are those of the sampled tokens. Masks are true at tokens that count.
Values at other places, even NaN, change neither a loss nor its gradient with respect to the given tensors. (A
NaN that came out of a softmax still makes the backward pass of that softmax NaN.)

Source: SDPO is arXiv 2601.20802 (code: lasgroup/SDPO) as used by arXiv 2603.24472. GRPO is arXiv 2402.03300
with the clip range and token mean of DAPO (arXiv 2503.14476). Names follow TRL.
"""

import torch

from sdlab.errors import SdlabError, unknown
from sdlab.train.divergences import check_same_shape, divergence, top_k_logps

AGGREGATIONS = ("token_mean", "sequence_mean")
Total = int | float | torch.Tensor | None  # the denominator of a mean; None: counted from the mask


def all_logps(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return log softmax(logits / temperature) over the vocabulary, in nats: (..., V) to (..., V).

    Raises SdlabError unless temperature > 0.
    """
    if not temperature > 0:
        raise SdlabError(f"temperature={temperature} is not allowed; give a number above 0")
    return (logits / temperature if temperature != 1 else logits).log_softmax(-1)


def token_logps(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return `all_logps` of logits (..., V) at the token ids (...): (...)."""
    return all_logps(logits, temperature).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def token_weights(
    completion_mask: torch.Tensor,
    how: str = "token_mean",
    total: Total = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return the weight of each token in `aggregate`, (B, T).

    `token_weights(mask)[mask]` are the weights of flat tokens (M,). how: "token_mean" gives every token the
    same weight, "sequence_mean" gives every row with a token the same weight. total: the number of tokens or
    rows of the whole minibatch, when this is one of its micro-batches.

    Raises SdlabError on another `how`.
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
    per_token_loss: torch.Tensor, completion_mask: torch.Tensor, how: str = "token_mean", total: Total = None
) -> torch.Tensor:
    """Return the mean of (B, T) losses where the mask (B, T) is true, as a scalar.

    how: "token_mean" is the sum divided by the number of tokens; "sequence_mean" is the mean over rows of
    each row's token mean, without empty rows. `total` replaces the denominator, so that the losses of
    micro-batches add up to the loss of their minibatch. An empty mask gives 0.

    Raises SdlabError on an unknown `how` and when the shapes differ.
    """
    check_same_shape(per_token_loss=per_token_loss, completion_mask=completion_mask)
    weights = token_weights(completion_mask, how, total, per_token_loss.dtype)
    losses = per_token_loss.masked_fill(~completion_mask.bool(), 0)  # before the product: NaN * 0 is NaN
    return (losses * weights).sum()


def sft_loss(
    per_token_logps: torch.Tensor, completion_mask: torch.Tensor, how: str = "token_mean", total: Total = None
) -> torch.Tensor:
    """Return the mean negative log-likelihood in nats of the tokens (B, T) where the mask (B, T) is true.

    See `aggregate` for the other arguments.
    """
    return aggregate(-per_token_logps, completion_mask, how, total)


def group_advantages(
    rewards: torch.Tensor, num_generations: int, scale_rewards: bool = False
) -> torch.Tensor:
    """Return each reward minus the mean of its group: (B,) to (B,).

    The G = num_generations rewards of a prompt are next to each other. scale_rewards divides by the group's
    standard deviation (unbiased, plus 1e-4), as TRL's scale_rewards="group"; the paper does not.

    Raises SdlabError when G < 2 and when B is not a multiple of G.
    """
    rewards = torch.as_tensor(rewards)
    rewards = rewards if rewards.is_floating_point() else rewards.float()
    if num_generations < 2:
        raise SdlabError(
            f"num_generations={num_generations} is not allowed, "
            "because one generation has no group baseline; use at least 2"
        )
    if rewards.dim() != 1 or len(rewards) % num_generations:
        raise SdlabError(
            f"rewards of shape {tuple(rewards.shape)} do not form groups of {num_generations}; "
            f"give shape (B,) with B a multiple of {num_generations}"
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
    """Return -min(r A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A) per token.

    r = exp(per_token_logps - old_per_token_logps). All three tensors are (B, T) or (M,), or broadcast to
    that. The old log-probabilities get no gradient.
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
    total: Total = None,
) -> torch.Tensor:
    """Return the clipped objective without a KL term over tokens (B, T), to be minimised.

    advantages: (B,) or (B, T). See `aggregate` for the other arguments.
    """
    unused = ~completion_mask.bool()
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1)
    new, old = per_token_logps.masked_fill(unused, 0), old_per_token_logps.masked_fill(unused, 0)
    return aggregate(
        grpo_token_loss(new, old, advantages, epsilon_low, epsilon_high), completion_mask, how, total
    )


def importance_weight(
    per_token_logps: torch.Tensor, old_per_token_logps: torch.Tensor, clip: float | None = 2.0
) -> torch.Tensor:
    """Return min(exp(per_token_logps - old_per_token_logps), clip), without gradient.

    The result has the shape of the arguments. The weight corrects for tokens that an older student sampled.
    clip=None gives ones.

    Raises SdlabError unless clip > 0.
    """
    if clip is None:
        return torch.ones_like(per_token_logps)
    if not clip > 0:
        raise SdlabError(
            f"clip={clip} is not allowed, because all importance weights would be 0 or less; "
            "give a number above 0, or None for no weights"
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
    """Return the divergence per token (...) of log-distributions (..., V), times `weight` (...).

    The teacher gets no gradient. See `divergence` and `top_k_logps` for the other arguments.
    """
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
    total: Total = None,
) -> torch.Tensor:
    """Return SDPO's loss: the mean divergence from the teacher on the student's own tokens.

    The mean is over the rows that have a demonstration. student_logps, teacher_logps: (B, T, V)
    log-probabilities over the whole vocabulary. completion_mask, weight: (B, T). distillation_mask: (B,),
    true where the teacher saw a demonstration. See `sdpo_token_loss` and `aggregate` for the other arguments.
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
    total: Total = None,
) -> torch.Tensor:
    """Return SDPO's loss from the sampled tokens (B, T) alone: detach(s - t) * s.

    Its expected gradient is that of KL(student || teacher). The value is not a divergence; only the gradient
    has a meaning. This is TRL's distillation_mode="sampled_token". See `sdpo_loss` for the other arguments.
    """
    used = _distilled(completion_mask, distillation_mask)
    student, teacher = per_token_logps.masked_fill(~used, 0), teacher_per_token_logps.masked_fill(~used, 0)
    loss = (student - teacher).detach() * student
    return aggregate(loss if weight is None else loss * weight, used, how, total)


def _distilled(completion_mask: torch.Tensor, distillation_mask: torch.Tensor) -> torch.Tensor:
    """Return which tokens (B, T) count and are in a distilled row."""
    return completion_mask.bool() & distillation_mask.bool().unsqueeze(-1)
