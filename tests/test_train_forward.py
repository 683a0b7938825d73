"""Logits and gradients at completion positions, against the Hugging Face model run on one full row at a
time.
"""

import pytest
import rollout_models as tiny
import torch
import torch.nn.functional as F
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from sdlab.rollout.packed import supports
from sdlab.train import forward

# lengths of the prompts, the prompt that each row continues, lengths of the completions
SHAPES = {
    "shared": ([6, 19, 11], [0, 0, 0, 1, 1, 2], [7, 1, 12, 3, 9, 5]),
    "unshared": ([6, 19, 11], [0, 1, 2], [7, 3, 12]),
    "any order": ([6, 19, 1, 11], [3, 0, 2, 0, 3, 1, 2], [4, 8, 6, 2, 9, 1, 3]),
    "prompts of one token": ([1, 1, 1], [1, 0, 1, 2], [5, 9, 1, 4]),
    "one row": ([13], [0], [10]),
    "one token each": ([1, 2], [1, 0], [1, 1]),
    "a prompt nobody continues": ([4, 15, 9], [1, 1], [3, 6]),
}
MODELS = {"qwen3": lambda: tiny.qwen3(layers=2), "llama": tiny.llama, "gpt2": tiny.gpt2}
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def make(shape: str, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def tokens(length):
        return torch.randint(3, tiny.VOCAB, (length,), generator=generator).tolist()

    lengths, rows, sizes = SHAPES[shape]
    return [tokens(n) for n in lengths], rows, [tokens(n) for n in sizes]


def plain_logits(model, prompts, rows, completions) -> torch.Tensor:
    """(M, V) without padding, cache or sharing: what the words "logits at completion positions" mean."""
    full = [(prompts[row], completion) for row, completion in zip(rows, completions, strict=True)]
    return torch.cat(
        [model(torch.tensor([prompt + done])).logits[0, len(prompt) - 1 : -1] for prompt, done in full]
    )


def gradients(model, logits, completions, seed: int = 0) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the completions' log-probabilities and entropies."""
    ids = torch.tensor([token for completion in completions for token in completion])
    weights = torch.randn(2, len(ids), generator=torch.Generator().manual_seed(seed)).to(logits.dtype)
    logps = logits.log_softmax(-1)
    entropy = -(logps.exp() * logps).sum(-1)
    loss = (weights[0] * logps.gather(-1, ids[:, None]).squeeze(-1) + weights[1] * entropy).sum()
    names, parameters = zip(
        *((name, p) for name, p in model.named_parameters() if p.requires_grad), strict=True
    )
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def compare(got: dict, wanted: dict, tolerance: float) -> None:
    """Every parameter's gradient, relative to that parameter's largest entry."""
    assert list(got) == list(wanted)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        assert (got[name] - gradient).abs().max() <= tolerance * gradient.abs().max(), name


@pytest.fixture
def double_norms(monkeypatch):
    """transformers' Qwen3 norms go through float32 whatever the model's type; here they keep to it, to be
    exact in float64.
    """

    def norm(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.variance_epsilon)

    monkeypatch.setattr(Qwen3RMSNorm, "forward", norm)


@pytest.fixture(scope="module")
def qwen3():
    return MODELS["qwen3"]()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fast_path_is_the_models_own_forward(qwen3, shape, dtype, double_norms, monkeypatch):
    model, (prompts, rows, completions) = qwen3.to(dtype), make(shape)
    with torch.no_grad():
        generic = forward.generic_logits(model, prompts, rows, completions, tiny.PAD)
        monkeypatch.setattr(forward, "generic_logits", None)  # the fast path it must be
        got = forward.completion_logits(model, prompts, rows, completions, tiny.PAD)
        wanted = plain_logits(model, prompts, rows, completions)
    assert got.shape == (sum(map(len, completions)), tiny.VOCAB) and got.dtype == dtype
    assert wanted.abs().max() > 1  # sharp enough for a mistake to show
    assert (got - wanted).abs().max() < TOLERANCE[dtype]
    assert (got - generic).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fast_path_has_the_gradients_of_the_models_own_forward(qwen3, shape, dtype, double_norms):
    model, (prompts, rows, completions) = qwen3.to(dtype), make(shape)
    got = gradients(model, forward.completion_logits(model, prompts, rows, completions), completions)
    wanted = gradients(model, plain_logits(model, prompts, rows, completions), completions)
    compare(got, wanted, {torch.float32: 1e-4, torch.float64: 1e-8}[dtype])


@pytest.mark.parametrize("changes", [
    {"attention_bias": True},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "head_dim": 64},
    {"tie_word_embeddings": False, "rms_norm_eps": 1e-3},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"num_hidden_layers": 1},
    {"attn_implementation": "eager"},
    {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8, "use_sliding_window": True},
], ids=lambda changes: next(iter(changes)))  # fmt: skip
def test_every_configuration_is_followed(changes):
    model = tiny.qwen3(
        layers=changes.get("num_hidden_layers", 2),
        **{k: v for k, v in changes.items() if k != "num_hidden_layers"},
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    prompts, rows, completions = make("any order")
    logits, wanted = (
        forward.completion_logits(model, prompts, rows, completions),
        plain_logits(model, prompts, rows, completions),
    )
    assert (logits - wanted).abs().max() < 1e-4
    got, wanted = (gradients(model, x, completions) for x in (logits, wanted))
    compare(got, wanted, 1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_another_architecture_takes_the_generic_path(kind, shape, monkeypatch):
    monkeypatch.setattr(forward, "_qwen3_logits", None)
    model, (prompts, rows, completions) = MODELS[kind]().double(), make(shape)
    assert not supports(model)
    logits = forward.completion_logits(model, prompts, rows, completions, tiny.PAD)
    wanted = plain_logits(model, prompts, rows, completions)
    assert (logits - wanted).abs().max() < 1e-4
    got, wanted = (gradients(model, x, completions) for x in (logits, wanted))
    compare(got, wanted, 1e-4)


def test_prompts_are_computed_once_and_nothing_is_padded(qwen3, monkeypatch):
    seen, norm = [], forward._norm
    monkeypatch.setattr(forward, "_norm", lambda module, x: seen.append(len(x)) or norm(module, x))
    prompts, rows, completions = make("shared")
    forward.completion_logits(qwen3.float(), prompts, rows, completions)
    answers = sum(map(len, completions))
    assert (
        max(seen) == sum(map(len, prompts)) - len(prompts) + answers
    )  # a prompt's last token predicts, so it belongs to each row
    assert seen[-1] == answers  # the head sees nothing else


def test_the_company_of_a_row_changes_nothing(qwen3):
    model, (prompts, rows, completions) = qwen3.double(), make("any order")
    with torch.no_grad():
        together = forward.completion_logits(model, prompts, rows, completions)
        alone = [
            forward.completion_logits(model, [prompts[row]], [0], [done])
            for row, done in zip(rows, completions, strict=True)
        ]
    assert (together - torch.cat(alone)).abs().max() < 1e-9


@pytest.mark.parametrize("kind", MODELS)
def test_without_gradients_the_logits_are_constants(kind):
    """As for a live teacher: the same weights, once as student and once without gradients."""
    model, (prompts, rows, completions) = MODELS[kind](), make("shared")
    with torch.no_grad():
        teacher = forward.completion_logits(model, prompts, rows, completions)
    assert not teacher.requires_grad
    student = forward.completion_logits(model, prompts, rows, completions)
    assert student.requires_grad and (student - teacher).abs().max() < 1e-4
    plain = plain_logits(model, prompts, rows, completions)
    compare(
        gradients(model, student * teacher, completions),
        gradients(model, plain * plain.detach(), completions),
        2e-4,
    )
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
def test_frozen_weights_get_no_gradient_and_the_others_theirs(kind):
    model, (prompts, rows, completions) = MODELS[kind]().double(), make("shared")
    wanted = gradients(model, plain_logits(model, prompts, rows, completions), completions)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 2 == 1)
    got = gradients(model, forward.completion_logits(model, prompts, rows, completions), completions)
    assert 0 < len(got) < len(wanted)
    compare(got, {name: wanted[name] for name in got}, 1e-4)


def test_a_gradient_of_any_layout_will_do(qwen3):
    """A plain sum hands the product's backward pass an expanded tensor, a column slice one with gaps."""
    model, (prompts, rows, completions) = qwen3.float(), make("shared")
    for reduce in (torch.sum, lambda x: x[:, ::3].sum(), lambda x: (x.T @ x).diagonal().sum() / x.numel()):
        got, wanted = (
            torch.autograd.grad(reduce(logits), list(model.parameters()))
            for logits in (
                forward.completion_logits(model, prompts, rows, completions),
                plain_logits(model, prompts, rows, completions),
            )
        )
        for (name, _), a, b in zip(model.named_parameters(), got, wanted, strict=True):
            assert (a - b).abs().max() <= 2e-4 * b.abs().max(), name


def test_low_precision_is_close(qwen3):
    prompts, rows, completions = make("shared")
    model = tiny.sharpen(MODELS["qwen3"](), 1.0, 1.0)
    with torch.no_grad():
        wanted = plain_logits(model, prompts, rows, completions)
        got = forward.completion_logits(model.to(torch.bfloat16), prompts, rows, completions).float()
    assert (got - wanted).abs().mean() < 0.02 * wanted.abs().max()
