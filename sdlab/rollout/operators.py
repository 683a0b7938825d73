"""Call torch's private operators, and use a plain expression instead where torch lacks one.

No other module of sdlab calls private functions of torch. Each operator is tried once on a small example. An
operator that is missing, takes other arguments or returns another result is never used again.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

ROWS = 64  # rows that oneDNN expects when it packs a weight; any number of rows works


def onednn_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply x (M, K) by weight (N, K), in any layout, through oneDNN on a CPU in float32: (M, N).

    This is the operator that torch.compile emits. For other devices and types the function calls F.linear.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and _works(_linear):
        return _linear(x, weight)
    return F.linear(x, weight)


def pack_weight(weight: torch.Tensor) -> torch.Tensor | None:
    """Pack a float32 or bfloat16 weight (N, K) on a CPU for `packed_linear`; None where torch cannot.

    torch packs bfloat16 only on processors with the instructions avx512bw, avx512vl and avx512dq.
    """
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    return _pack(weight.contiguous()) if _works(_pack_and_multiply, weight.dtype) else None


def packed_linear(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Multiply x (M, K) by a weight that `pack_weight` packed, and add bias (N,): (M, N)."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def has_fast_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16; False where torch cannot report it."""
    is_supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return is_supported is not None and bool(is_supported())


def silu_backward(grad: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    """Write the gradient of silu at x, times grad, into out; all of one shape."""
    if _works(_silu_backward):
        _silu_backward(grad, x, out)
    else:
        plain_silu_backward(grad, x, out)


def plain_silu_backward(grad: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    """Compute `silu_backward` as a plain expression."""
    sigmoid = torch.sigmoid(x)
    out.copy_(grad * sigmoid * (1 + x * (1 - sigmoid)))


def softmax_backward(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the scores whose softmax over the last dimension is `weights`.

    All tensors have one shape.
    """
    if _works(_softmax_backward):
        return _softmax_backward(grad, weights)
    return plain_softmax_backward(grad, weights)


def plain_softmax_backward(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute `softmax_backward` as a plain expression."""
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
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


@functools.cache
def _works(operator: Callable, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether the operator exists and agrees with its plain expression on one small example."""
    x = torch.linspace(-2, 2, 16 * 8, device="cpu").view(16, 8).to(dtype)
    y = torch.linspace(1, 3, 16 * 8, device="cpu").view(16, 8).to(dtype)
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
    rtol, atol = (1e-4, 1e-5) if dtype == torch.float32 else (0.02, 0.02)
    return torch.allclose(result, expected, rtol=rtol, atol=atol)
