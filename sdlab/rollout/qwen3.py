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
    """One decoder layer's weights, with query/key norms joined and the attention scale folded into the query norm."""

    def __init__(self, layer, heads: int, kv_heads: int):
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in, self.norm_mlp = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        scaled = attention.q_norm.weight * attention.scaling
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
    """Rows that decode one token at a time; the same three methods as HFDecoder.

    A prompt's keys and values are stored once for all its rows, and attention to them is one product per prompt: rows take
    seats, S of them per prompt. Only the completions' part of the cache belongs to a row.
    """

    drop_share = 1 / 32  # dropping moves only the last live rows into the holes, so it pays early

    def __init__(self, model, weights: PackedQwen3, pad: int):
        self.model, self.weights, self.pad = model, weights, pad

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """As HFDecoder.prefill; the model's own forward fills the prompts' part of the cache."""
        w = self.weights
        first = HFDecoder(self.model, self.pad)
        logits = first.prefill(prompts, [1] * len(prompts), 0)
        hidden = first.mask == 0  # (P, L), the padding
        # what stands at padding is never used, but a NaN there would survive being multiplied by zero
        clean = [[part.masked_fill(hidden[:, None, :, None], 0) for part in (layer.keys, layer.values)] for layer in first.cache.layers]
        self.prompt_keys, self.prompt_values = (list(part) for part in zip(*clean))  # (P, Hkv, L, D) per layer
        self.prompt_bias = None
        if hidden.any():
            self.prompt_bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
        self.prompt_of = torch.arange(len(prompts), device=logits.device).repeat_interleave(
            torch.tensor(repeats, device=logits.device)
        )
        self.n, self.length = len(self.prompt_of), 0
        shape = (self.n, w.kv_heads, room, w.head_dim)
        self.keys = [part.new_empty(shape) for part in self.prompt_keys]
        self.values = [part.new_empty(shape) for part in self.prompt_keys]
        self.position = first.next_position.index_select(0, self.prompt_of)
        self.cos, self.sin = w.rope_tables(first.length + room)
        self.take_seats()
        return logits.index_select(0, self.prompt_of)

    def take_seats(self) -> None:
        """Give every row a seat at its prompt, S = rows of the fullest prompt; forget prompts once half have no row left."""
        prompts, prompt_of = len(self.prompt_keys[0]), self.prompt_of
        used, compact = torch.unique(prompt_of, return_inverse=True)
        if 2 * len(used) <= prompts:
            for store in (self.prompt_keys, self.prompt_values):
                store[:] = [part.index_select(0, used) for part in store]
            if self.prompt_bias is not None:
                self.prompt_bias = self.prompt_bias.index_select(0, used)
            self.prompt_of = prompt_of = compact
            prompts = len(used)
        counts = torch.bincount(prompt_of, minlength=prompts)
        self.seats = int(counts.max())
        order = prompt_of.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(self.n, device=order.device) - (counts.cumsum(0) - counts)[prompt_of[order]]
        self.seat_of = prompt_of * self.seats + rank  # (n,)
        self.row_at = torch.zeros(prompts * self.seats, dtype=torch.long, device=order.device)  # an empty seat repeats row 0
        self.row_at[self.seat_of] = torch.arange(self.n, device=order.device)
        self.in_order = prompts * self.seats == self.n and bool((self.row_at[1:] > self.row_at[:-1]).all())

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """As HFDecoder.step."""
        w, n, now = self.weights, self.n, self.length
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        x = w.embedding.index_select(0, tokens)
        split, half, width = w.heads + w.kv_heads, w.head_dim // 2, x.shape[-1]
        for i, layer in enumerate(w.layers):
            qkv = layer.qkv(F.rms_norm(x, (width,), layer.norm_in, w.eps)).view(n, split + w.kv_heads, w.head_dim)
            qk = F.rms_norm(qkv[:, :split], (w.head_dim,), None, w.eps).mul_(layer.norm_qk)
            qk = (qk * cos).addcmul_(qk.roll(half, -1), sin)
            self.keys[i][:n, :, now] = qk[:, w.heads :]
            self.values[i][:n, :, now] = qkv[:, split:]
            x = x + layer.out(self.attend(qk[:, : w.heads], i))
            gate_up = layer.gate_up(F.rms_norm(x, (width,), layer.norm_mlp, w.eps))
            x += layer.down(F.silu(gate_up[:, : w.intermediate]).mul_(gate_up[:, w.intermediate :]))
        self.length += 1
        self.position += 1
        return w.lm_head(F.rms_norm(x, (width,), w.norm, w.eps))

    def attend(self, q: torch.Tensor, layer: int) -> torch.Tensor:
        """Attention of one scaled query per row and head, (n, H, D), to its prompt and its completion so far; returns (n, H*D)."""
        w, n, length = self.weights, self.n, self.length + 1
        keys, values = (store[layer].view(-1, store[layer].shape[2], w.head_dim)[: n * w.kv_heads, :length] for store in (self.keys, self.values))
        q = q.reshape(n * w.kv_heads, -1, w.head_dim)
        own = scores(q, keys).view(n, w.heads, length)
        prompt_keys, prompt_values = self.prompt_keys[layer].flatten(0, 1), self.prompt_values[layer].flatten(0, 1)
        shared = scores(self.to_seats(q.view(n, w.heads, w.head_dim)), prompt_keys)
        if self.prompt_bias is not None:
            shared.view(len(self.prompt_bias), -1, shared.shape[-1]).add_(self.prompt_bias[:, None])
        start = shared.shape[-1]
        attention = torch.cat([self.to_rows(shared), own], dim=-1).softmax(-1).to(q.dtype)
        mixed = torch.bmm(attention.view(n * w.kv_heads, -1, start + length)[..., start:], values)
        from_prompt = torch.bmm(self.to_seats(attention[..., :start]), prompt_values)
        return mixed.view(n, -1) + self.to_rows(from_prompt).view(n, -1)

    def to_seats(self, x: torch.Tensor) -> torch.Tensor:
        """(n, H, X) by row -> (P*Hkv, S*H/Hkv, X) by prompt and key-value head."""
        if not self.in_order:
            x = x.index_select(0, self.row_at)
        x = x.reshape(-1, self.seats, self.weights.kv_heads, self.weights.heads // self.weights.kv_heads, x.shape[-1])
        return x.transpose(1, 2).reshape(x.shape[0] * x.shape[2], -1, x.shape[-1])

    def to_rows(self, x: torch.Tensor) -> torch.Tensor:
        """The way back: (P*Hkv, S*H/Hkv, X) -> (n, H, X)."""
        w = self.weights
        x = x.view(-1, w.kv_heads, self.seats, w.heads // w.kv_heads, x.shape[-1]).transpose(1, 2).reshape(-1, w.heads, x.shape[-1])
        return x if self.in_order else x.index_select(0, self.seat_of)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only `rows` (M,), in that order; only those that change place are copied.

        Rows that stay must stand at their own index, and rows that move must come from index M or beyond.
        """
        self.n = m = rows.shape[0]
        holes = (rows != torch.arange(m, device=rows.device)).nonzero().squeeze(1)
        moved = rows.index_select(0, holes)
        if len(holes):
            for cache in (*self.keys, *self.values):
                filled = cache[:, :, : self.length]
                filled[holes] = filled[moved]
        self.position = self.position.index_select(0, rows)
        self.prompt_of = self.prompt_of.index_select(0, rows)
        self.take_seats()


def scores(q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Attention scores, (batch, queries, keys), at least in float32: half precision would round them to two digits."""
    if q.dtype in (torch.float32, torch.float64):
        return torch.bmm(q, keys.transpose(1, 2))
    if q.device.type == "cuda":
        return torch.bmm(q, keys.transpose(1, 2), out_dtype=torch.float32)
    return torch.bmm(q, keys.transpose(1, 2)).float()
