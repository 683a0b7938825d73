"""Differentiable logits at completion positions, every prompt computed once however many completions continue it.

A study's batch is P prompts with G completions each. Running P*G full rows computes every prompt G times; here each
layer sees the prompts' tokens once and the completions' tokens once, without padding, and only attention looks at rows.
"""

import torch
import torch.nn.functional as F

from sdlab.rollout.packed import supports
from sdlab.rollout.scoring import completion_logits as generic_logits


def completion_logits(model, prompts: list[list[int]], rows: list[int], completions: list[list[int]], pad: int = 0) -> torch.Tensor:
    """Logits (M, V) that predict each of the M completion tokens, row after row, with a graph where gradients are on.

    Row n's completion (token ids, not empty) continues prompts[rows[n]] (token ids, not empty). Plain Qwen3 models without
    biases take the fast path, every other causal language model the one through its own cache. Logits are before temperature.
    """
    if supports(model) and not model.config.attention_bias:
        return _qwen3_logits(model, prompts, rows, completions)
    return generic_logits(model, prompts, rows, completions, pad)


def _qwen3_logits(model, prompts, rows, completions) -> torch.Tensor:
    """As completion_logits, on the weights of a plain Qwen3 model. The last prompt token belongs to the completions' part."""
    inner, config, device = model.model, model.config, model.device
    heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    blocks = [[prompts[r][-1], *completion[:-1]] for r, completion in zip(rows, completions)]
    first = _Layout([prompt[:-1] for prompt in prompts], [0] * len(prompts), device)
    second = _Layout(blocks, [len(prompts[r]) - 1 for r in rows], device)
    order = torch.tensor(rows, device=device)
    mask = second.causal
    if first.count:
        mask = torch.cat([first.real[order][:, None, None].expand(-1, 1, second.width, -1), mask], dim=-1)
    x = F.embedding(torch.cat([first.tokens, second.tokens]), inner.embed_tokens.weight)
    cos, sin = inner.rotary_emb(x, torch.cat([first.positions, second.positions])[None])
    cos, sin = cos[0, :, None], sin[0, :, None]
    for number, layer in enumerate(inner.layers):
        attention, mlp = layer.self_attn, layer.mlp
        h = _norm(layer.input_layernorm, x)
        qkv = _linear(h, attention.q_proj, attention.k_proj, attention.v_proj).view(len(h), -1, size)
        q, k, v = qkv.split([heads, kv_heads, kv_heads], dim=1)
        q = _rotate(_norm(attention.q_norm, q), cos, sin)
        k = _rotate(_norm(attention.k_norm, k), cos, sin)
        last = number + 1 == len(inner.layers)  # there, nobody reads what the prompts' tokens would become
        parts = []
        k1, k2 = k.split([first.count, second.count])
        v1, v2 = v.split([first.count, second.count])
        q1, q2 = q.split([first.count, second.count])
        keys, values = second.rows(k2), second.rows(v2)
        if first.count:
            k1, v1 = first.rows(k1), first.rows(v1)
            if not last:
                parts.append(first.flat(_attend(first.rows(q1), k1, v1, first.causal, attention.scaling)))
            keys, values = torch.cat([k1[order], keys], dim=2), torch.cat([v1[order], values], dim=2)
        parts.append(second.flat(_attend(second.rows(q2), keys, values, mask, attention.scaling)))
        if last:
            x = x[first.count :]
        x = x + _linear(torch.cat(parts) if len(parts) > 1 else parts[0], attention.o_proj)
        h = _norm(layer.post_attention_layernorm, x)
        gate, up = _linear(h, mlp.gate_proj, mlp.up_proj).chunk(2, dim=-1)
        x = x + _linear(F.silu(gate) * up, mlp.down_proj)
    return _linear(_norm(inner.norm, x), model.lm_head)


class _Linear(torch.autograd.Function):
    """x W^T without bias through oneDNN, (M, K) and (N, K) -> (M, N): on AMD processors twice as fast as torch's own product."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _onednn(x, torch.ops.mkldnn._reorder_linear_weight(weight, len(x)))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return _onednn(grad, weight.T), _onednn(grad.T, x.T)


def _onednn(x, weight):
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def _linear(x, *modules):
    """The modules' outputs for x, side by side, as one product."""
    weight = torch.cat([m.weight for m in modules]) if len(modules) > 1 else modules[0].weight
    if x.device.type == "cpu" and x.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return _Linear.apply(x, weight)
    return F.linear(x, weight)


class _Layout:
    """Rows of different lengths as one flat run of tokens, and the way to padded rows and back."""

    def __init__(self, rows: list[list[int]], starts: list[int], device):
        lengths = torch.tensor([len(row) for row in rows], device=device)
        self.count, self.width, self.n = int(lengths.sum()), int(lengths.max()), len(rows)
        self.real = torch.arange(self.width, device=device) < lengths[:, None]  # (N, T)
        self.where = self.real.flatten().nonzero().squeeze(1)
        self.tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=device)
        self.positions = (torch.tensor(starts, device=device)[:, None] + torch.arange(self.width, device=device)).flatten()[self.where]
        triangle = torch.ones(self.width, self.width, dtype=torch.bool, device=device).tril()
        self.causal = triangle.expand(self.n, 1, -1, -1)  # padding stands to the right, hidden by causality

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """(count, H, D) -> (N, H, T, D), zero where there is padding."""
        padded = x.new_zeros(self.n * self.width, *x.shape[1:]).index_copy(0, self.where, x)
        return padded.view(self.n, self.width, *x.shape[1:]).transpose(1, 2)

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        """(N, H, T, D) -> (count, H*D)."""
        return x.transpose(1, 2).reshape(self.n * self.width, -1).index_select(0, self.where)


def _norm(module, x):
    return F.rms_norm(x, (x.shape[-1],), module.weight, module.variance_epsilon)


def _rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def _attend(q, k, v, mask, scale):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
