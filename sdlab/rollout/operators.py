"""torch's private operators, each with the plain expression that takes its place where torch lacks it.

Nothing else in sdlab calls what torch keeps private. An operator is tried once, on a small example: one that is
missing, takes other arguments or returns something else is never used again.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

ROWS = 64  # rows that oneDNN expects when it packs a weight; any number of rows works


def onednn_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply x (M, K) by weight (N, K), in any layout, through oneDNN on a CPU in float32: (M, N).

    The operator is the one that torch.compile emits. Elsewhere it is F.linear.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and _works(_linear):
        return _linear(x, weight)
    return F.linear(x, weight)


def pack_weight(weight: torch.Tensor) -> torch.Tensor | None:
    """Pack a float32 or bfloat16 weight (N, K) on a CPU for `packed_linear`; None where torch cannot."""
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and _works(_pack_and_multiply):
        return _pack(weight.contiguous())
    return None


def packed_linear(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Multiply x (M, K) by a weight that `pack_weight` packed, and add bias (N,): (M, N)."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def has_fast_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; False where torch cannot tell."""
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return known is not None and bool(known())


def silu_backward(grad: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    """Write the gradient of silu at x, times grad, into out; all of one shape."""
    if _works(_silu_backward):
        _silu_backward(grad, x, out)
    else:
        plain_silu_backward(grad, x, out)


def plain_silu_backward(grad: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    """What `silu_backward` computes, as a plain expression."""
    sigmoid = torch.sigmoid(x)
    out.copy_(grad * sigmoid * (1 + x * (1 - sigmoid)))


def softmax_backward(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the scores whose softmax over the last dimension is `weights`, all of one shape."""
    if _works(_softmax_backward):
        return _softmax_backward(grad, weights)
    return plain_softmax_backward(grad, weights)


def plain_softmax_backward(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """What `softmax_backward` computes, as a plain expression."""
    product = grad * weights
    return product - weights * product.sum(-1, keepdim=True)


def _linear(x, weight):
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def _pack(weight):
    return torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)


def _pack_and_multiply(x, weight):
    return packed_linear(x, _pack(weight), None)


def _silu_backward(grad, x, out):
    torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=out)


def _softmax_backward(grad, weights):
    return torch._softmax_backward_data(grad, weights, -1, weights.dtype)


@functools.cache
def _works(operator: Callable) -> bool:
    """Whether the operator exists and gives what its plain expression gives, on one small example."""
    x = torch.linspace(-2, 2, 16 * 8, device="cpu").view(16, 8)
    y = torch.linspace(1, 3, 16 * 8, device="cpu").view(16, 8)
    with torch.inference_mode():
        try:
            if operator in (_linear, _pack_and_multiply):
                result, expected = operator(x, y), F.linear(x, y)
            elif operator is _silu_backward:
                result, expected = torch.empty_like(x), torch.empty_like(x)
                operator(y, x, result)
                plain_silu_backward(y, x, expected)
            else:
                result, expected = operator(y, x.softmax(-1)), plain_softmax_backward(y, x.softmax(-1))
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
    return torch.allclose(result, expected, rtol=1e-4, atol=1e-5)
