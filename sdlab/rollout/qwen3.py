"""Decoding Qwen3 models with a hand-written step over the model's own weights.

transformers spends most of a step of a small model on Python and on copies. Here the step is about twenty operations per
layer on a key-value cache allocated once. Weights are packed anew for every call (a millisecond per million parameters),
so a model that trains between calls is never decoded with stale weights.
"""

import torch
import torch.nn.functional as F
from torch import nn

from sdlab.rollout.cache import HFDecoder


def supports(model) -> bool:
    """Whether `model` is a plain Qwen3 model: no adapters, no quantised layers, full attention, default RoPE."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    if type(model) is not Qwen3ForCausalLM:
        return False
    config = model.config
    linears = [m for name, m in model.named_modules() if name.endswith(("_proj", "lm_head"))]
    return (
        all(type(m) is nn.Linear and not m._forward_hooks and not m._forward_pre_hooks for m in linears)
        and all(kind == "full_attention" for kind in config.layer_types)
        and config.rope_parameters["rope_type"] == "default"
        and config.hidden_act == "silu"
        and len({p.device for p in model.parameters()}) == 1
    )


class PackedLinear:
    """A linear layer; on a CPU in float32 it runs oneDNN on a prepacked weight.

    oneDNN's kernels are twice as fast as MKL's on AMD processors at these sizes and equal on Intel's. The operator is the one
    that torch.compile emits. Below 16 rows its fixed cost outweighs the gain.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.weight, self.bias, self.packed = weight, bias, None
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available():
            pack = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
            if pack is not None:
                self.packed = pack(weight.contiguous(), 64)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.packed is not None and x.shape[0] >= 16:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


def fused(*layers: nn.Linear) -> PackedLinear:
    """Several linear layers of the same input as one."""
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return PackedLinear(torch.cat([layer.weight for layer in layers]), bias)


class PackedLayer:
    """One decoder layer's weights, with query/key norms joined and, in float32, the attention scale folded into the query norm."""

    def __init__(self, layer, heads: int, kv_heads: int):
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in, self.norm_mlp = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        scaled = attention.q_norm.weight
        if scaled.dtype == torch.float32:  # half precision would round once more; its attention kernel scales by itself
            scaled = scaled * attention.scaling
        self.norm_qk = torch.cat([scaled.expand(heads, -1), attention.k_norm.weight.expand(kv_heads, -1)])
        self.out = fused(attention.o_proj)
        self.gate_up, self.down = fused(mlp.gate_proj, mlp.up_proj), fused(mlp.down_proj)


class PackedQwen3:
    """A Qwen3 model's weights as the decoder wants them. Make it inside torch.inference_mode; share it between threads."""

    def __init__(self, model):
        config, inner = model.config, model.model
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.eps, self.intermediate = config.rms_norm_eps, config.intermediate_size
        self.embedding, self.norm = inner.embed_tokens.weight, inner.norm.weight
        self.layers = [PackedLayer(layer, self.heads, self.kv_heads) for layer in inner.layers]
        self.lm_head = fused(model.lm_head)
        self.rotary = inner.rotary_emb

    def rope_tables(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for positions 0..length-1, (length, 1, D); sin carries rotate_half's minus sign."""
        positions = torch.arange(length, device=self.embedding.device)[None]
        cos, sin = (table.transpose(0, 1).contiguous() for table in self.rotary(self.embedding, positions))
        sin[..., : self.head_dim // 2].neg_()
        return cos, sin


class Qwen3Decoder:
    """Rows that decode one token at a time; the same three methods as HFDecoder."""

    drop_share = 1 / 32  # dropping moves only the last live rows into the holes, so it pays early

    def __init__(self, model, weights: PackedQwen3, pad: int):
        self.model, self.weights, self.pad = model, weights, pad

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """As HFDecoder.prefill; the model's own forward fills the prompts' part of the cache."""
        w = self.weights
        first = HFDecoder(self.model, self.pad)
        logits = first.prefill(prompts, [1] * len(prompts), 0)
        rows = torch.arange(len(prompts), device=logits.device).repeat_interleave(torch.tensor(repeats, device=logits.device))
        n, start = len(rows), first.length
        padded = first.mask == 0  # (P, start)
        shape = (n, w.kv_heads, start + room, w.head_dim)
        self.keys, self.values = [], []
        for layer in first.cache.layers:
            for filled, store in ((layer.keys, self.keys), (layer.values, self.values)):
                # what stands at padding is never used, but a NaN there would survive being multiplied by zero
                filled = filled.masked_fill(padded[:, None, :, None], 0)
                cache = filled.new_empty(shape)
                torch.index_select(filled, 0, rows, out=cache[:, :, :start])
                store.append(cache)
        self.n, self.length = n, start
        self.pad_columns = int(padded.sum(-1).max())
        hidden = padded[rows, : self.pad_columns]
        self.pad_bias = torch.zeros_like(hidden, dtype=logits.dtype).masked_fill_(hidden, float("-inf"))[:, None]
        self.position = first.next_position.index_select(0, rows)
        self.cos, self.sin = w.rope_tables(start + room)
        return logits.index_select(0, rows)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """As HFDecoder.step."""
        w, n, now = self.weights, self.n, self.length
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        x = w.embedding.index_select(0, tokens)
        split, half, width = w.heads + w.kv_heads, w.head_dim // 2, x.shape[-1]
        for layer, keys, values in zip(w.layers, self.keys, self.values):
            qkv = layer.qkv(F.rms_norm(x, (width,), layer.norm_in, w.eps)).view(n, split + w.kv_heads, w.head_dim)
            qk = F.rms_norm(qkv[:, :split], (w.head_dim,), None, w.eps).mul_(layer.norm_qk)
            qk = (qk * cos).addcmul_(qk.roll(half, -1), sin)
            keys[:n, :, now] = qk[:, w.heads :]
            values[:n, :, now] = qkv[:, split:]
            x = x + layer.out(self.attend(qk[:, : w.heads], keys[:n], values[:n]).reshape(n, -1))
            gate_up = layer.gate_up(F.rms_norm(x, (width,), layer.norm_mlp, w.eps))
            x += layer.down(F.silu(gate_up[:, : w.intermediate]).mul_(gate_up[:, w.intermediate :]))
        self.length += 1
        self.position += 1
        return w.lm_head(F.rms_norm(x, (width,), w.norm, w.eps))

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Attention of one scaled query per row and head, (n, H, D), over the cache so far; returns (n, Hkv, H/Hkv, D)."""
        w, n, length = self.weights, self.n, self.length + 1
        if q.dtype != torch.float32:  # half precision: the fused kernel keeps the scores in float32
            bias = q.new_zeros(n, 1, 1, length)
            bias[..., : self.pad_columns] = self.pad_bias[:, None]
            q = q.reshape(n, w.kv_heads, -1, w.head_dim)
            return F.scaled_dot_product_attention(q, keys[:, :, :length], values[:, :, :length], attn_mask=bias)
        groups = n * w.kv_heads
        keys, values = keys.view(groups, -1, w.head_dim)[:, :length], values.view(groups, -1, w.head_dim)[:, :length]
        scores = torch.bmm(q.reshape(groups, -1, w.head_dim), keys.transpose(1, 2))
        if self.pad_columns:
            scores.view(n, -1, length)[:, :, : self.pad_columns] += self.pad_bias
        return torch.bmm(scores.softmax(-1), values)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only `rows` (M,), in that order; only those that change place are copied.

        Rows that stay must stand at their own index, and rows that move must come from index M or beyond.
        """
        m = rows.shape[0]
        holes = (rows != torch.arange(m, device=rows.device)).nonzero().squeeze(1)
        moved = rows.index_select(0, holes)
        if len(holes):
            for cache in (*self.keys, *self.values):
                filled = cache[:, :, : self.length]
                filled[holes] = filled[moved]
        self.n = m
        self.position, self.pad_bias = self.position.index_select(0, rows), self.pad_bias.index_select(0, rows)
