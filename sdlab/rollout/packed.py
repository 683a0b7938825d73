"""Pack the weights of a Qwen3 model for speed, and run the forward pass that decoding and scoring share.

For a small model, transformers spends most of a step on Python and on copies. Here a layer takes about twenty
operations. The weights are packed again for every call (a millisecond per million parameters), so a model
that trains between calls never runs with old weights.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn

from sdlab.rollout.operators import pack_weight, packed_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Qwen3ForCausalLM


def supports(model: "PreTrainedModel") -> "TypeGuard[Qwen3ForCausalLM]":
    """Return whether `model` is a plain Qwen3 model.

    Plain means: no adapters, no quantised layers, no hooks, full attention, default RoPE. A model with
    hooks runs its own forward pass, which calls them. Hooks of transformers itself only record.
    """
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    if type(model) is not Qwen3ForCausalLM:
        return False
    config = model.config
    linears = [m for name, m in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    return (
        all(map(plain, linears))
        and not any(map(hooked, model.modules()))
        and set(config.layer_types or ()) == {"full_attention"}
        and (config.rope_parameters or {}).get("rope_type") == "default"
        and config.hidden_act == "silu"
        and len({p.device for p in model.parameters()}) == 1
    )


def hooked(module: nn.Module) -> bool:
    """Return whether the module has a hook that transformers did not install itself."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)


def plain(module: nn.Module) -> bool:
    """Return whether the module is a linear layer without hooks, fully described by its weight and bias."""
    return type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


class PackedLinear:
    """A linear layer that runs oneDNN on a prepacked weight if it is on a CPU.

    bf16: input, weight and result are bfloat16, sums are float32. oneDNN's kernels are twice as fast as MKL's
    on AMD processors at these sizes, and equally fast on Intel processors. This is the operator that
    torch.compile emits. Below 16 rows its fixed cost is larger than the gain, and the layer calls F.linear.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, bf16: bool = False) -> None:
        if bf16:
            weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
        self.weight, self.bias, self.packed = weight, bias, None
        if bf16 or weight.dtype == torch.float32:
            self.packed = pack_weight(weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        if self.packed is not None and x.shape[0] >= 16:
            return packed_linear(x, self.packed, self.bias)
        return F.linear(x, self.weight, self.bias)


def fused(*layers: nn.Linear, bf16: bool = False) -> PackedLinear:
    """Join several linear layers of the same input into one."""
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return PackedLinear(torch.cat([layer.weight for layer in layers]), bias, bf16)


class PackedLayer:
    """The weights of one decoder layer.

    layer: a Qwen3DecoderLayer; torch's stubs do not know the types of its parts. The norms of queries and
    keys are joined, and the query norm includes the attention scale.
    """

    def __init__(self, layer: Any, heads: int, kv_heads: int, bf16: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in, self.norm_mlp = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj, bf16=bf16)
        scaled = attention.q_norm.weight * attention.scaling
        self.norm_qk = torch.cat([scaled.expand(heads, -1), attention.k_norm.weight.expand(kv_heads, -1)])
        self.out = fused(attention.o_proj, bf16=bf16)
        self.gate_up = fused(mlp.gate_proj, mlp.up_proj, bf16=bf16)
        self.down = fused(mlp.down_proj, bf16=bf16)


class PackedQwen3:
    """The packed weights of a Qwen3 model.

    Create it inside torch.inference_mode. Threads may share it. bf16: the matrix products of the layers run
    in bfloat16; residual stream, norms, attention and head keep their type.
    """

    def __init__(self, model: "Qwen3ForCausalLM", bf16: bool = False) -> None:
        config = model.config
        inner: Any = model.model  # torch's stubs do not know the types of its parts
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or config.num_attention_heads
        self.head_dim = config.head_dim
        self.eps, self.intermediate = config.rms_norm_eps, config.intermediate_size
        self.embedding, self.norm = inner.embed_tokens.weight, inner.norm.weight
        self.layers = [PackedLayer(layer, self.heads, self.kv_heads, bf16) for layer in inner.layers]
        self.lm_head = fused(model.lm_head)
        self.rotary = inner.rotary_emb

    def rope_tables(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cos and sin for positions 0 to length - 1, each (length, 1, D).

        The first half of sin is negated, as rotate_half requires.
        """
        positions = torch.arange(length, device=self.embedding.device)[None]
        cos, sin = (table.transpose(0, 1).contiguous() for table in self.rotary(self.embedding, positions))
        sin[..., : self.head_dim // 2].neg_()
        return cos, sin

    def forward(
        self, tokens: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Callable
    ) -> torch.Tensor:
        """Return the logits (M, V) of M tokens (M,) with rotary factors cos and sin (M, 1, D).

        attend(layer index, q (M, H, D) scaled, k (M, Hkv, D), v (M, Hkv, D)) returns (M, H*D). It decides
        which token attends to which.
        """
        x = self.embedding.index_select(0, tokens)
        split, half, width = self.heads + self.kv_heads, self.head_dim // 2, x.shape[-1]
        for i, layer in enumerate(self.layers):
            qkv = (
                layer.qkv(F.rms_norm(x, (width,), layer.norm_in, self.eps))
                .to(x.dtype)
                .view(len(x), split + self.kv_heads, self.head_dim)
            )
            qk = F.rms_norm(qkv[:, :split], (self.head_dim,), None, self.eps).mul_(layer.norm_qk)
            qk = (qk * cos).addcmul_(qk.roll(half, -1), sin)
            x = x + layer.out(attend(i, qk[:, : self.heads], qk[:, self.heads :], qkv[:, split:]))
            gate_up = layer.gate_up(F.rms_norm(x, (width,), layer.norm_mlp, self.eps))
            x += layer.down(F.silu(gate_up[:, : self.intermediate]).mul_(gate_up[:, self.intermediate :]))
        return self.lm_head(F.rms_norm(x, (width,), self.norm, self.eps))
