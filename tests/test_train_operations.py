"""The operations with hand-written backward passes against the plain torch expressions they stand for."""

import pytest
import torch
import torch.nn.functional as F

from sdlab.train.operations import attention, linear, rms_norm, rotate, swiglu


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def same(got, wanted, inputs, tolerance=1e-12):
    """Values, and the gradients of a sum with random weights, some of them handed over with gaps between the
    numbers.
    """
    weights = draw(*wanted.shape, 2, seed=9, dtype=wanted.dtype).detach()[..., 0]
    assert not weights.is_contiguous() and (got - wanted).abs().max() <= tolerance * wanted.abs().max()
    for a, b in zip(
        torch.autograd.grad(got, inputs, weights), torch.autograd.grad(wanted, inputs, weights), strict=True
    ):
        assert b.abs().max() > 0 and (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_linear(rows, dtype, tolerance):
    x, first, second = (
        draw(rows, 24, dtype=dtype),
        draw(16, 24, seed=1, dtype=dtype),
        draw(40, 24, seed=2, dtype=dtype),
    )
    same(linear(x, first), x @ first.T, [x, first], tolerance)
    same(
        linear(x, first, second), torch.cat([x @ first.T, x @ second.T], dim=1), [x, first, second], tolerance
    )
    gaps = draw(24, rows, seed=3, dtype=dtype)
    same(linear(gaps.T, first), gaps.T @ first.T, [gaps, first], tolerance)


def test_linear_in_bfloat16_rounds_inputs_and_result_once():
    """Against float64: products of rounded numbers are exact there, so that only the result's own rounding
    is left.
    """
    x, first, second = (
        draw(50, 24, dtype=torch.float32),
        draw(16, 24, seed=1, dtype=torch.float32),
        draw(40, 24, seed=2, dtype=torch.float32),
    )
    got = linear(x, first, second, bf16=True)
    rounded = [part.detach().bfloat16().double().requires_grad_() for part in (x, first, second)]
    wanted = torch.cat([rounded[0] @ rounded[1].T, rounded[0] @ rounded[2].T], dim=1)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), wanted, rtol=2**-8, atol=1e-5)
    weights = draw(50, 56, seed=9).detach().bfloat16()
    mine = torch.autograd.grad(got, (x, first, second), weights)
    for a, b in zip(mine, torch.autograd.grad(wanted, rounded, weights.double()), strict=True):
        assert a.dtype == torch.float32 and b.abs().max() > 0
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 8), (3, 2, 6), (4, 1)])
def test_rms_norm(shape):
    x, weight = draw(*shape), draw(shape[-1], seed=1)
    same(rms_norm(x, weight, 1e-3), F.rms_norm(x, shape[-1:], weight, 1e-3), [x, weight])
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 1e-3), (x, weight))


def test_rotate_turns_each_pair_by_its_angle():
    x, angles = draw(5, 3, 8), draw(5, 1, 4, seed=1).detach()
    cos, sin = angles.cos().repeat(1, 1, 2), angles.sin().repeat(1, 1, 2)
    turned = torch.view_as_real(
        torch.view_as_complex(torch.stack(x.chunk(2, -1), -1)) * torch.polar(torch.ones_like(angles), angles)
    )
    same(rotate(x, cos, sin), torch.cat([turned[..., 0], turned[..., 1]], -1), [x])


def test_swiglu():
    both = draw(6, 10)
    same(swiglu(both), F.silu(both[:, :5]) * both[:, 5:], [both])
    assert torch.autograd.gradcheck(swiglu, (both,))


def full_attention(q, k, v, lengths, prefixes, scale):
    """Every token against every other of the run, with a mask that says who may see whom."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    spans = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    seen = torch.zeros(len(k), len(k), dtype=torch.bool)
    for row, prefix in zip(spans, prefixes, strict=True):
        for place in row:
            seen[place, row.start : place + 1] = True
            if prefix is not None:
                seen[place, spans[prefix].start : spans[prefix].stop] = True
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("mhd,nhd->hmn", q, k) * scale
    return torch.einsum("hmn,nhd->mhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v)


@pytest.mark.parametrize("heads,kv_heads", [(4, 2), (3, 3), (4, 1)])
@pytest.mark.parametrize("lengths,prefixes", [
    ([5], [None]),
    ([3, 4, 1, 6], [None, None, None, None]),
    ([4, 2, 3, 5, 1], [None, None, 0, 0, 1]),
    ([3, 0, 2, 4], [None, None, 1, 0]),
], ids=["one row", "no prefix", "shared prefixes", "an empty prefix"])  # fmt: skip
def test_attention(heads, kv_heads, lengths, prefixes):
    tokens = sum(lengths)
    q, k, v = draw(tokens, heads, 8), draw(tokens, kv_heads, 8, seed=1), draw(tokens, kv_heads, 8, seed=2)
    wanted = full_attention(q, k, v, lengths, prefixes, 0.3)
    same(attention(q, k, v, lengths, prefixes, 0.3), wanted, [q, k, v])
    packed = (
        torch.cat([q, k, v], dim=1).detach().requires_grad_()
    )  # as one product leaves them: parts of each token's numbers
    parts = packed.split([heads, kv_heads, kv_heads], dim=1)
    same(attention(*parts, lengths, prefixes, 0.3), full_attention(*parts, lengths, prefixes, 0.3), [packed])


def test_attention_without_the_results_of_the_prefixes():
    lengths, prefixes = [4, 2, 3, 5], [None, None, 0, 1]
    q, k, v = draw(14, 4, 8), draw(14, 2, 8, seed=1), draw(14, 2, 8, seed=2)
    same(
        attention(q[6:], k, v, lengths, prefixes, 0.3, skipped=2),
        full_attention(q, k, v, lengths, prefixes, 0.3)[6:],
        [q, k, v],
    )


def test_a_second_derivative_is_refused_not_wrong():
    x = draw(3, 8)
    (first,) = torch.autograd.grad(swiglu(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
