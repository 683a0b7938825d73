# pyright: reportIncompatibleMethodOverride=false
# torch declares backward(ctx, *grad_outputs); the functions here have one output.
"""The operations of a decoder layer, with their own backward passes for speed on a CPU.

On a CPU, a small model spends its time on passes over memory. Each function equals the plain torch expression
that its docstring names, in value and gradient, for any memory layout. There is no second derivative.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from sdlab.rollout.operators import onednn_linear, silu_backward, softmax_backward


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return onednn_linear(grad, weight.T), grad.T @ x


class _LinearBF16(torch.autograd.Function):
    """A linear layer with float32 weights and bfloat16 products.

    The gradient of the weights is rounded once, like every result of a bfloat16 product.
    """

    @staticmethod
    def forward(ctx, x, weight):
        x16, weight16 = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x16, weight16)
        return F.linear(x16, weight16)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x16, weight16 = ctx.saved_tensors
        return grad @ weight16, grad.T @ x16  # autograd converts them to the types of x and weight


def linear(x: torch.Tensor, *weights: torch.Tensor, bf16: bool = False) -> torch.Tensor:
    """Return F.linear(x, torch.cat(weights)): x (M, K) and weights (N_i, K) give (M, sum of N_i).

    On a CPU in float32 the product goes through oneDNN. bf16: x and weights, of any data type, are rounded to
    bfloat16, sums are taken in float32, and the result is bfloat16.
    """
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    if bf16:
        return _LinearBF16.apply(x, weight)
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _Linear.apply(x, weight)
    return F.linear(x, weight)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        unit, scale, weight = ctx.saved_tensors
        product = grad * unit
        along = (product @ weight).div_(len(weight)).unsqueeze(-1)
        return (
            (grad * weight).addcmul_(unit, along, value=-1).mul_(scale),
            product.flatten(0, -2).sum(0),
            None,
        )


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return F.rms_norm over the last dimension: x (..., D), weight (D,)."""
    return _RMSNorm.apply(x, weight, eps)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        (first, second), (low, high) = x.chunk(2, -1), sin.chunk(2, -1)
        out = x * cos
        out[..., : x.shape[-1] // 2].addcmul_(second, low, value=-1)
        out[..., x.shape[-1] // 2 :].addcmul_(first, high)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        (first, second), (low, high) = grad.chunk(2, -1), sin.chunk(2, -1)
        out = grad * cos
        out[..., : grad.shape[-1] // 2].addcmul_(second, high)
        out[..., grad.shape[-1] // 2 :].addcmul_(first, low, value=-1)
        return out, None, None


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return rotary positions: x * cos + [-x2, x1] * sin for x = [x1, x2].

    x is (M, H, D); cos and sin are (M, 1, D).
    """
    return _Rotate.apply(x, cos, sin)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, both):
        gate, up = both.chunk(2, dim=-1)
        ctx.save_for_backward(both)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        out = torch.empty_like(both)
        to_gate, to_up = out.chunk(2, dim=-1)
        torch.mul(F.silu(gate), grad, out=to_up)
        silu_backward(grad * up, gate, out=to_gate)
        return out


def swiglu(both: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up for both = [gate, up]: (M, 2F) to (M, F)."""
    return _SwiGLU.apply(both)


class _Attention(torch.autograd.Function):
    """Attention, one row after the other.

    The weights of a row have shape (Hkv, H/Hkv * T, S): the query heads of a key head are stacked, and S
    counts the tokens of the prefix and of the row.
    """

    @staticmethod
    def forward(ctx, q, k, v, lengths, prefixes, scale, skipped):
        rows = _by_heads(q * scale, k.shape[1], lengths[skipped:])
        keys, values = (_with_prefix(x, lengths, prefixes)[skipped:] for x in (k, v))
        later = q.new_full((max(lengths),) * 2, float("-inf")).triu_(1)
        kept, parts, group = [], [], q.shape[1] // k.shape[1]
        for row, key, value, length in zip(rows, keys, values, lengths[skipped:], strict=True):
            scores = torch.bmm(row, key.transpose(1, 2))
            scores.view(len(row), group, length, key.shape[1])[..., key.shape[1] - length :].add_(
                later[:length, :length]
            )
            kept.append(scores.softmax(-1))
            parts.append(torch.bmm(kept[-1], value))
        ctx.save_for_backward(*rows, *keys, *values, *kept)
        ctx.of = lengths, prefixes, scale, skipped
        return _by_tokens(parts, lengths[skipped:], group)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        lengths, prefixes, scale, skipped = ctx.of
        n, saved = len(lengths) - skipped, ctx.saved_tensors
        rows, keys, values, kept = (saved[i * n : (i + 1) * n] for i in range(4))
        to_q, to_k, to_v = [], [], []
        for grad_row, row, key, value, weights in zip(
            _by_heads(grad, len(keys[0]), lengths[skipped:]), rows, keys, values, kept, strict=True
        ):
            to_v.append(torch.bmm(weights.transpose(1, 2), grad_row))
            to_scores = softmax_backward(torch.bmm(grad_row, value.transpose(1, 2)), weights)
            to_q.append(torch.bmm(to_scores, key))
            to_k.append(torch.bmm(to_scores.transpose(1, 2), row))
        to_k, to_v = (_without_prefix(x, lengths, prefixes, skipped) for x in (to_k, to_v))
        return (
            _by_tokens(to_q, lengths[skipped:], grad.shape[1] // len(keys[0])).mul_(scale),
            to_k,
            to_v,
            None,
            None,
            None,
            None,
        )


def _by_heads(x, kv_heads, lengths):
    """Return every row's (Hkv, H/Hkv * T, D) from (M, H, D)."""
    group = x.shape[1] // kv_heads
    rows = x.view(len(x), kv_heads, group, x.shape[2]).permute(1, 2, 0, 3).split(lengths, dim=2)
    return [
        row.reshape(kv_heads, group * length, x.shape[2]) for row, length in zip(rows, lengths, strict=True)
    ]


def _by_tokens(rows, lengths, group):
    """Return (M, H, D) from the rows of `_by_heads`; group = H/Hkv."""
    kv_heads, _, size = rows[0].shape
    return (
        torch.cat(
            [row.view(kv_heads, group, length, size) for row, length in zip(rows, lengths, strict=True)],
            dim=2,
        )
        .permute(2, 0, 1, 3)
        .flatten(1, 2)
    )


def _with_prefix(x, lengths, prefixes):
    """Return every row's (Hkv, S, D) from (M, Hkv, D): the tokens of its prefix row, then its own."""
    rows = x.transpose(0, 1).split(lengths, dim=1)
    return [
        row if prefix is None else torch.cat([rows[prefix], row], dim=1)
        for row, prefix in zip(rows, prefixes, strict=True)
    ]


def _without_prefix(rows, lengths, prefixes, skipped):
    """Return (M, Hkv, D) from the rows of `_with_prefix`, without the first `skipped` rows.

    A row that is a prefix gets the sum over the rows that it precedes.
    """
    heads, _, size = rows[0].shape
    own = [rows[0].new_zeros(heads, length, size) for length in lengths[:skipped]]
    own += [row[:, row.shape[1] - length :] for row, length in zip(rows, lengths[skipped:], strict=True)]
    for row, prefix in zip(rows, prefixes[skipped:], strict=True):
        if prefix is not None:
            own[prefix].add_(row[:, : lengths[prefix]])
    return torch.cat(own, dim=1).transpose(0, 1)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: list[int],
    prefixes: list[int | None],
    scale: float,
    skipped: int = 0,
) -> torch.Tensor:
    """Return causal attention of rows laid end to end: (M, H, D).

    k and v are (M, Hkv, D) with M = sum(lengths); q is (M, H, D). Groups of H/Hkv query heads share a key
    head. A token of row n attends to its own row up to itself, and to all of row prefixes[n], which has no
    prefix itself (None: no prefix). The first `skipped` rows serve as prefixes only: q and the result do not
    contain them. The attention weights are stored for the backward pass. At a few hundred tokens per row this
    is twice as fast as computing them again.
    """
    return _Attention.apply(q, k, v, lengths, prefixes, scale, skipped)
