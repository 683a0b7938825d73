# pyright: reportIncompatibleMethodOverride=false
# torch declares backward(ctx, *grad_outputs); the functions here have one output.
"""Divergences between two next-token distributions, over the whole vocabulary or its top k."""

import torch

from sdlab.errors import SdlabError

LARGEST_LOG_RATIO = 80.0  # exp of more overflows float32; e^-80 is negligible


def divergence(student_logps: torch.Tensor, teacher_logps: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the generalised Jensen-Shannon divergence in nats of two log-distributions (..., V): (...).

    alpha 0 is KL(teacher || student), and alpha 1 is KL(student || teacher). In between it is (1 - alpha)
    KL(student || M) + alpha KL(teacher || M) with M = (1 - alpha) student + alpha teacher. Its limits at 0
    and 1 are not these two KLs. The result is differentiable once in both arguments. Entries without
    probability, -inf among them, add nothing. A KL is inf when its second argument has no probability where
    the first has some.

    Raises SdlabError when alpha is outside [0, 1] and when the shapes differ.
    """
    if not 0 <= alpha <= 1:
        raise SdlabError(
            f"alpha {alpha} is outside [0, 1]; 0 is KL(teacher || student), 1 is KL(student || teacher), "
            "0.5 is Jensen-Shannon; choose a number in between"
        )
    check_same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
    if alpha == 0:
        return _kl(teacher_logps, student_logps)
    if alpha == 1:
        return _kl(student_logps, teacher_logps)
    return _JensenShannon.apply(student_logps, teacher_logps, float(alpha))


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) of log-probabilities (..., V): (...)."""
    empty = p.detach().exp() == 0  # set to 0 before the product: 0 * inf is NaN, also in the gradient
    p, q = p.masked_fill(empty, 0), q.masked_fill(empty, 0)
    return (p.exp() * (p - q)).sum(-1)


class _JensenShannon(torch.autograd.Function):
    """Compute the sum over v of (1-a) p (log p - log m) + a q (log q - log m), with m = (1-a) p + a q.

    The derivative by log p is the first term itself, and the derivative by log q is the second term, because
    the derivatives through m cancel. Only these terms are stored. Equal arguments give exactly zero, and no
    gradient can be NaN.
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
    """Return log(1 - alpha + alpha exp(log_ratio)), the mixture relative to one of its parts.

    The result is precise where the two parts are close.
    """
    return log_ratio.expm1().mul_(alpha).log1p_()


def top_k_logps(
    student_logps: torch.Tensor, teacher_logps: torch.Tensor, k: int | None, tail: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both log-distributions (..., V) on the student's k most likely tokens.

    The result is two tensors (..., k), or (..., k + 1) with a tail. The tokens are in no particular order,
    and their choice has no gradient. tail=True adds all other tokens as one more entry, log(1 - sum p), where
    1 - sum p is at least 1e-7 as in the paper's code. tail=False normalises the k probabilities to sum to
    one, so the divergence is between the two distributions conditional on the k tokens. k=None returns the
    arguments.

    Raises SdlabError when k is not in 1 ... V.
    """
    if k is None:
        return student_logps, teacher_logps
    check_same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
    vocabulary = student_logps.shape[-1]
    if not 1 <= k <= vocabulary:
        raise SdlabError(
            f"top_k {k} of a vocabulary of {vocabulary} tokens; choose 1 to {vocabulary}, or None for all"
        )
    student, ids = student_logps.topk(k, dim=-1, sorted=False)
    teacher = teacher_logps.gather(-1, ids)
    bound = with_tail if tail else renormalised
    return bound(student), bound(teacher)


def with_tail(logps: torch.Tensor) -> torch.Tensor:
    """Return k log-probabilities (..., k) and that of all other tokens, (..., k + 1)."""
    captured = logps.logsumexp(-1, keepdim=True).clamp(max=-1e-7)  # rounding can bring it to 0 and above
    return torch.cat([logps, torch.log(-torch.expm1(captured))], dim=-1)


def renormalised(logps: torch.Tensor) -> torch.Tensor:
    """Return k log-probabilities (..., k) divided by the sum of their probabilities."""
    return logps.log_softmax(-1)


def check_same_shape(**tensors: torch.Tensor) -> None:
    """Raise SdlabError unless all tensors, passed by name, have the same shape.

    Broadcasting (M,) against (M, 1) would silently compute M * M numbers.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise SdlabError("shapes differ: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
