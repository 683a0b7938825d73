"""Divergences between two next-token distributions, over the whole vocabulary or its top k."""

import torch

from sdlab.errors import SdlabError

LARGEST_LOG_RATIO = 80.0  # exp of more overflows float32, and the rarer side's e^-80 is no longer seen


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
    check_same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
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
    check_same_shape(student_logps=student_logps, teacher_logps=teacher_logps)
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


def check_same_shape(**tensors: torch.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:  # broadcasting (M,) against (M, 1) would go on with M * M numbers
        raise SdlabError("shapes differ: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
