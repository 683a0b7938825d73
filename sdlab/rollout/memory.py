"""Sizes that follow from a model's vocabulary, weights and cache, so that large models fit the memory."""

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound=nn.Module)

# Logits that exist at the same time: 256 MB in float32. With the 650 tokens of the organism this is no limit.
HEAD_NUMBERS = 64_000_000
CACHES = 400_000_000  # bytes of the caches of the rows that are sampled together on a CPU


def head_tokens(vocab: int) -> int:
    """Return the number of tokens whose next-token distributions may be in memory at the same time."""
    return max(1, HEAD_NUMBERS // vocab)


def cache_bytes(model: "PreTrainedModel") -> int:
    """Return the bytes that one token of one row takes in the cache of keys and values."""
    config = model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * kv_heads * head_dim * model.dtype.itemsize


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def sampling_bytes(model: "PreTrainedModel", rows: int, length: int) -> int:
    """Return an estimate of the bytes of sampling: weights, caches of a unit of rows, next-token logits.

    length: tokens of the longest prompt with its completion. A unit's caches are limited, but hold one row.
    """
    row = cache_bytes(model) * length
    vocab = int(model.config.get_text_config().vocab_size)
    at_once = max(1, min(rows, CACHES // max(1, row), 256))
    # A cache that grows is copied, and choosing a token sorts a copy of its logits.
    return weight_bytes(model) + 2 * row * at_once + 12 * vocab * at_once


def half_copy(model: Model) -> Model:
    """Return a copy of `model` with weights in bfloat16 and buffers as they are.

    Only the bfloat16 weights are new in memory. The copy does not train.
    """
    shared: dict[int, nn.Parameter] = {}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)
    with torch.no_grad():
        return copy.deepcopy(model, shared)
