"""torch's private operators against their plain expressions, and sdlab where torch lacks them."""

import ast
import re
from pathlib import Path

import pytest
import rollout_models as tiny
import torch
import torch.nn.functional as F

from sdlab.rollout import operators
from sdlab.rollout.packed import PackedLinear
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.train.operations import attention, linear, swiglu

PACKAGE = Path(operators.__file__).parents[1]
PRIVATE = re.compile(r"torch(\.\w+)*\._[a-z]\w*|torch\.ops\.\w+\.\w+")
OPERATORS = ("_linear", "_pack_and_multiply", "_silu_backward", "_softmax_backward")


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def without(monkeypatch):
    """A torch that has none of the private operators."""

    def missing(*arguments, **named):
        raise AttributeError("'_OpNamespace' object has no attribute")

    for name in OPERATORS:
        monkeypatch.setattr(operators, name, missing)


def test_this_torch_has_every_operator():
    """Otherwise sdlab is right but slow, and the tests below compare an expression with itself."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch is built without oneDNN")
    assert [operators._works(getattr(operators, name)) for name in OPERATORS] == [True] * len(OPERATORS)


@pytest.mark.parametrize("rows", [1, 16, 300])
def test_linear_equals_the_plain_product(rows):
    x, weight, bias = draw(rows, 24), draw(40, 24, seed=1), draw(40, seed=2)
    wanted = x.double() @ weight.double().T
    torch.testing.assert_close(operators.onednn_linear(x, weight).double(), wanted, rtol=1e-5, atol=1e-5)
    packed = operators.pack_weight(weight)
    if packed is None:
        pytest.skip("this torch packs no weights")
    got = operators.packed_linear(x, packed, bias).double()
    torch.testing.assert_close(got, wanted + bias.double(), rtol=1e-5, atol=1e-5)


def test_a_processor_that_cannot_pack_bfloat16_multiplies_without_packing(monkeypatch):
    """torch raises a RuntimeError there; float32 is packed as before."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch is built without oneDNN")
    pack = operators._pack

    def refuse(weight):
        if weight.dtype == torch.bfloat16:
            raise RuntimeError("bf16 path needs the cpu support avx512bw, avx512vl and avx512dq")
        return pack(weight)

    monkeypatch.setattr(operators, "_pack", refuse)
    operators._works.cache_clear()
    try:
        weight, x = draw(40, 24, seed=1), draw(20, 24)
        assert operators.pack_weight(weight) is not None
        assert operators.pack_weight(weight.bfloat16()) is None
        product = PackedLinear(weight, None, bf16=True)(x)
        torch.testing.assert_close(product, F.linear(x.bfloat16(), weight.bfloat16()))
    finally:
        operators._works.cache_clear()


def test_silu_backward_equals_autograd_and_the_plain_expression():
    x, grad = draw(7, 12, dtype=torch.float64), draw(7, 12, seed=1, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(F.silu(leaf), leaf, grad)
    for compute in (operators.silu_backward, operators.plain_silu_backward):
        out = torch.empty_like(x)
        compute(grad, x, out)
        torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)


def test_softmax_backward_equals_autograd_and_the_plain_expression():
    scores, grad = draw(3, 5, 9, dtype=torch.float64), draw(3, 5, 9, seed=1, dtype=torch.float64)
    scores[0, 0, 4:] = -torch.inf  # as a causal mask leaves them
    leaf = scores.clone().requires_grad_()
    weights = leaf.softmax(-1)
    (wanted,) = torch.autograd.grad(weights, leaf, grad)
    for compute in (operators.softmax_backward, operators.plain_softmax_backward):
        torch.testing.assert_close(compute(grad, weights.detach()), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("error", [AttributeError, TypeError, RuntimeError, NotImplementedError])
def test_an_operator_that_fails_or_is_wrong_is_not_used(monkeypatch, error):
    def fail(grad, weights):
        raise error("no such operator")

    monkeypatch.setattr(operators, "_softmax_backward", fail)
    assert not operators._works(fail)
    assert not operators._works(lambda grad, weights: grad)
    grad, weights = draw(2, 4), draw(2, 4, seed=1).softmax(-1)
    got = operators.softmax_backward(grad, weights)
    assert torch.equal(got, operators.plain_softmax_backward(grad, weights))


def test_training_operations_without_the_private_operators(without):
    x, weight = draw(30, 24).requires_grad_(), draw(16, 24, seed=1).requires_grad_()
    both = draw(6, 8, seed=2).requires_grad_()
    q, k, v = (draw(9, heads, 8, seed=seed).requires_grad_() for seed, heads in ((3, 4), (4, 2), (5, 2)))
    cases = [
        (linear(x, weight), x @ weight.T, (x, weight)),
        (swiglu(both), F.silu(both[:, :4]) * both[:, 4:], (both,)),
        (
            attention(q, k, v, [9], [None], 0.3),
            F.scaled_dot_product_attention(
                *(one.transpose(0, 1)[None] for one in (q, k, v)), is_causal=True, scale=0.3, enable_gqa=True
            )[0].transpose(0, 1),
            (q, k, v),
        ),
    ]
    for got, wanted, inputs in cases:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        weights = draw(*wanted.shape, seed=9)
        for a, b in zip(
            torch.autograd.grad(got, inputs, weights),
            torch.autograd.grad(wanted, inputs, weights),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_engine_samples_what_its_model_says_without_the_private_operators(tokenizer, without):
    model, prompts = tiny.qwen3(layers=2), tiny.prompts(20)
    assert PackedLinear(draw(8, 8), None).packed is None
    drawn = TorchEngine(model, tokenizer).generate(prompts, SamplingParams(max_completion_length=12, seed=3))
    scored = TorchEngine(model, tokenizer, fast=False).score(drawn.prompts, drawn.completions())
    off = (scored.per_token_logps - drawn.per_token_logps)[drawn.completion_mask].abs()
    assert off.numel() > 100 and off.max() < 1e-4


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.word_tokenizer()


def private_uses(source: str) -> list[str]:
    """Every expression in `source` that names something torch keeps private."""
    tree = ast.parse(source)
    written = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return sorted({text for text in written if PRIVATE.fullmatch(text)})


def test_private_operators_live_in_one_module():
    assert private_uses(
        "import torch\ntorch.ops.mkldnn._x(1)\ntorch._y(2)\ntorch.nn.z(torch.__version__)"
    ) == [
        "torch._y",
        "torch.ops.mkldnn._x",
    ]
    elsewhere = {
        path.name: uses
        for path in PACKAGE.rglob("*.py")
        if path != Path(operators.__file__) and (uses := private_uses(path.read_text()))
    }
    assert elsewhere == {}
