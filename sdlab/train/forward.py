"""Differentiable logits at completion positions; every prompt is computed once for all its completions.

A batch of the study is P prompts with G completions each. Running P*G full rows computes every prompt G
times. Here each layer processes the prompts' tokens once and the completions' tokens once, without padding.
Only attention works row by row.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from sdlab.rollout.packed import supports
from sdlab.rollout.scoring import completion_logits as generic_logits
from sdlab.train.operations import attention, linear, rms_norm, rotate, swiglu

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Qwen3ForCausalLM

LONGEST = 2048  # tokens of a row on the fast path, which stores every attention weight for backward


def completion_logits(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    rows: list[int],
    completions: list[list[int]],
    pad: int = 0,
    bf16: bool = False,
) -> torch.Tensor:
    """Return the logits (M, V) that predict each of the M completion tokens, row after row.

    Row n's completion continues prompts[rows[n]]; both are lists of token ids and not empty. The logits are
    before temperature and differentiable where gradients are enabled. Plain Qwen3 models without biases take
    the fast path on a CPU. Every other causal language model takes the path through its own cache. bf16: the
    layers' matrix products are computed in bfloat16, while weights, residual stream, norms, attention and
    head keep their data type (on the other path torch's autocast decides).
    """
    longest = max(len(prompts[r]) + len(completion) for r, completion in zip(rows, completions, strict=True))
    if (
        model.device.type == "cpu"
        and longest <= LONGEST
        and supports(model)
        and not model.config.attention_bias
    ):
        return _qwen3_logits(model, prompts, rows, completions, bf16)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        logits = generic_logits(model, prompts, rows, completions, pad)
    return logits.float() if bf16 else logits  # small divergences vanish in bfloat16


def _qwen3_logits(
    model: "Qwen3ForCausalLM",
    prompts: list[list[int]],
    rows: list[int],
    completions: list[list[int]],
    bf16: bool,
) -> torch.Tensor:
    """Compute `completion_logits` with the weights of a plain Qwen3 model.

    The last prompt token belongs to the part of the completions.
    """
    config, device = model.config, model.device
    inner: Any = model.model  # torch's stubs do not know the types of its parts
    heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    blocks = [prompt[:-1] for prompt in prompts] + [
        [prompts[r][-1], *completion[:-1]] for r, completion in zip(rows, completions, strict=True)
    ]
    starts = [0] * len(prompts) + [len(prompts[r]) - 1 for r in rows]
    prefixes = [None] * len(prompts) + rows
    lengths = [len(block) for block in blocks]
    shared = sum(lengths[: len(prompts)])  # tokens of the prompts; those of the completions follow
    x = F.embedding(
        torch.tensor([token for block in blocks for token in block], device=device), inner.embed_tokens.weight
    )
    positions = torch.cat(
        [
            torch.arange(start, start + len(block), device=device)
            for start, block in zip(starts, blocks, strict=True)
        ]
    )
    cos, sin = (table[0, :, None] for table in inner.rotary_emb(x, positions[None]))
    for number, layer in enumerate(inner.layers):
        mixer, mlp = layer.self_attn, layer.mlp
        h = _norm(layer.input_layernorm, x)
        qkv = (
            linear(h, mixer.q_proj.weight, mixer.k_proj.weight, mixer.v_proj.weight, bf16=bf16)
            .to(x.dtype)
            .view(len(h), -1, size)
        )
        q, k, v = qkv.split([heads, kv_heads, kv_heads], dim=1)
        q, k = rotate(_norm(mixer.q_norm, q), cos, sin), rotate(_norm(mixer.k_norm, k), cos, sin)
        last = number + 1 == len(inner.layers)  # the last layer's outputs at prompt tokens are not used
        if last:
            x, q = x[shared:], q[shared:]
        mixed = attention(
            q, k, v, lengths, prefixes, mixer.scaling, skipped=len(prompts) if last else 0
        ).flatten(1)
        x = x + linear(mixed, mixer.o_proj.weight, bf16=bf16)
        h = _norm(layer.post_attention_layernorm, x)
        x = x + linear(
            swiglu(linear(h, mlp.gate_proj.weight, mlp.up_proj.weight, bf16=bf16)),
            mlp.down_proj.weight,
            bf16=bf16,
        )
    return linear(_norm(inner.norm, x), model.lm_head.weight)


def _norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    return rms_norm(x, module.weight, module.variance_epsilon)
