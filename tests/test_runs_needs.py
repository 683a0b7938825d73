"""What training needs, and the warnings before a larger model trains."""

import types

import pytest
import rollout_models as tiny
import torch

from sdlab.runs import needs
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig


@pytest.fixture
def model():
    return tiny.llama()


def test_the_organism_gets_no_warnings_and_larger_models_do(model, monkeypatch):
    assert needs.cautions(model, "sdpo", SDPOConfig()) == []
    monkeypatch.setattr(needs, "SMALL", 1000)
    (sentence,) = needs.cautions(model, "sdpo", SDPOConfig())
    assert "learning_rate=0.0003 suits the organism" in sentence and "1e-5" in sentence
    assert "1e-6" in needs.cautions(model, "grpo", GRPOConfig())[0]
    assert needs.cautions(model, "sdpo", SDPOConfig(learning_rate=1e-5)) == []
    assert needs.cautions(model, "base", SDPOConfig()) == []
    memory = types.SimpleNamespace(available=0)
    monkeypatch.setattr(needs.psutil, "virtual_memory", lambda: memory)
    (sentence,) = needs.cautions(model, "sdpo", SDPOConfig(learning_rate=1e-5))
    assert "GiB are free" in sentence


def test_memory_counts_every_copy(model):
    weights = sum(p.numel() * 4 for p in model.parameters())
    logits = 4 * needs.LOSS_TENSORS * 100 * tiny.VOCAB
    config = SDPOConfig(batch_tokens=100)
    # weights, gradients, two moments of Adam, a frozen copy; before the step: weights and two moments
    assert needs.training_bytes(model, "sdpo", config) == 8 * weights + logits
    moving = SDPOConfig(batch_tokens=100, teacher_model_kind="ema")
    assert needs.training_bytes(model, "sdpo", moving) == 10 * weights + logits
    assert needs.training_bytes(model, "base", config) == weights
    assert needs.parameters(torch.nn.Linear(3, 2)) == 8
