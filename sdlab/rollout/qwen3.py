"""Decode and score with the packed weights of a Qwen3 model."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from sdlab.rollout.cache import HFDecoder
from sdlab.rollout.packed import PackedQwen3

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


def prompt_parts(
    cache: "Cache", mask: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Return the keys and values of a Hugging Face cache and the places of its padding.

    Keys and values are (P, Hkv, L, D) per layer; the padding is (P, L) bool. Keys and values at padding
    become zero: they are never used, but a NaN times a weight of zero would still be NaN.
    """
    hidden = mask == 0
    away = hidden[:, None, :, None]
    layers: Any = cache.layers  # Qwen3's layers all have keys and values; those of other models may not
    return (
        [x.keys.masked_fill(away, 0) for x in layers],
        [x.values.masked_fill(away, 0) for x in layers],
        hidden,
    )


def completion_logits(
    model: "PreTrainedModel",
    weights: PackedQwen3,
    prompts: list[list[int]],
    rows: list[int],
    completions: list[list[int]],
    pad: int,
) -> torch.Tensor:
    """Return the logits that predict each of the M completion tokens, (M, V), as scoring.completion_logits.

    Only attention runs over padding. Every other operation runs over the M completion tokens.
    """
    device, w = model.device, weights
    lengths = torch.tensor([len(ids) for ids in completions], device=device)
    real = torch.arange(int(lengths.max()), device=device) < lengths[:, None]  # (N, T)
    n, width = real.shape
    where = real.flatten().nonzero().squeeze(1)  # (M,) places of the real tokens among N*T
    tokens = torch.tensor(
        [token for r, ids in zip(rows, completions, strict=True) for token in (prompts[r][-1], *ids[:-1])],
        device=device,
    )
    order = torch.tensor(rows, device=device)
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)[order]
    cos, sin = w.rope_tables(int((starts + lengths).max()))
    positions = (starts[:, None] + torch.arange(width, device=device)).flatten()[where]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril().expand(n, 1, width, width)
    prefix = None
    if starts.max() > 0:
        first = HFDecoder(model, pad)
        first.prefill([prompt[:-1] for prompt in prompts], [1] * len(prompts), 0)
        *prefix, hidden = prompt_parts(first.cache, first.mask)
        causal = torch.cat([~hidden[order][:, None, None].expand(n, 1, width, -1), causal], dim=-1)

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # Padding is to the right of a row's tokens, so the causal mask hides it from all of them.
        padded = q.new_zeros(n * width, w.heads + 2 * w.kv_heads, w.head_dim).index_copy_(
            0, where, torch.cat([q, k, v], dim=1)
        )
        padded = padded.view(n, width, -1, w.head_dim).transpose(1, 2)
        q, k, v = padded.split([w.heads, w.kv_heads, w.kv_heads], dim=1)
        if prefix is not None:
            k, v = (
                torch.cat([store[layer].index_select(0, order), new], dim=2)
                for store, new in zip(prefix, (k, v), strict=True)
            )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=causal, scale=1.0, enable_gqa=True)
        return mixed.transpose(1, 2).reshape(n * width, -1).index_select(0, where)

    return w.forward(tokens, cos.index_select(0, positions), sin.index_select(0, positions), attend)


class Qwen3Decoder:
    """Decode rows one token at a time; the same three methods as HFDecoder.

    A prompt's keys and values are stored once for all its rows. Attention to them is one product per prompt:
    each prompt has S slots, and each of its rows takes one. Only the completions' part of the cache is stored
    per row. It has no gaps between the rows and grows by `chunk` tokens at a time, because a batched product
    of slices of a larger cache takes three times as long on a CPU.
    """

    # Dropping rows copies only the last live rows, so it is worth its cost early.
    drop_share = 1 / 32

    def __init__(self, model: "PreTrainedModel", weights: PackedQwen3, pad: int) -> None:
        self.model, self.weights, self.pad = model, weights, pad

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """Run the prompts and return the logits of every row's first token, (N, V), as HFDecoder.prefill.

        The model's own forward fills the prompts' part of the cache.
        """
        w = self.weights
        first = HFDecoder(self.model, self.pad)
        logits = first.prefill(prompts, [1] * len(prompts), 0)
        self.prompt_keys, self.prompt_values, hidden = prompt_parts(first.cache, first.mask)
        self.prompt_bias = None
        if hidden.any():
            self.prompt_bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(
                hidden, float("-inf")
            )
        self.prompt_of = torch.arange(len(prompts), device=logits.device).repeat_interleave(
            torch.tensor(repeats, device=logits.device)
        )
        self.n, self.length = len(self.prompt_of), 0
        self.chunk = 16 if logits.device.type == "cpu" else 128
        nothing = self.prompt_keys[0].new_zeros(self.n, w.kv_heads, 0, w.head_dim)
        self.keys, self.values = ([nothing] * len(w.layers) for _ in "kv")
        self.position = first.next_position.index_select(0, self.prompt_of)
        self.cos, self.sin = w.rope_tables(first.length + room)
        self.assign_slots()
        return logits.index_select(0, self.prompt_of)

    def assign_slots(self) -> None:
        """Assign every row a slot of its prompt; S is the number of rows of the prompt that has the most.

        Drops the prompts without rows once they are half of all prompts.
        """
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
        self.slots = int(counts.max())
        order = prompt_of.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = (
            torch.arange(self.n, device=order.device) - (counts.cumsum(0) - counts)[prompt_of[order]]
        )
        self.slot_of = prompt_of * self.slots + rank  # (n,)
        # An empty slot repeats row 0.
        self.row_at = torch.zeros(prompts * self.slots, dtype=torch.long, device=order.device)
        self.row_at[self.slot_of] = torch.arange(self.n, device=order.device)
        self.in_order = prompts * self.slots == self.n and bool((self.row_at[1:] > self.row_at[:-1]).all())

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token (N,) to every row and return the logits of the next token, (N, V)."""
        if self.length % self.chunk == 0:
            for store in (self.keys, self.values):
                for layer, cache in enumerate(store):
                    store[layer] = F.pad(cache[: self.n], (0, 0, 0, self.chunk))
        # `later` is added to the scores of a row's own keys.
        self.later = torch.zeros(self.keys[0].shape[2], device=tokens.device)
        self.later[self.length + 1 :] = float("-inf")
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        logits = self.weights.forward(tokens, cos, sin, self.attend)
        self.length += 1
        self.position += 1
        return logits

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Append one key and value per row, and attend to the row's prompt and its completion so far.

        Shapes as in PackedQwen3.forward.
        """
        w, n = self.weights, self.n
        self.keys[layer][:n, :, self.length] = k
        self.values[layer][:n, :, self.length] = v
        keys, values = (store[layer][:n].flatten(0, 1) for store in (self.keys, self.values))
        q = q.reshape(n * w.kv_heads, -1, w.head_dim)
        own = scores(q, keys).view(n, w.heads, -1).add_(self.later)
        prompt_keys, prompt_values = (
            self.prompt_keys[layer].flatten(0, 1),
            self.prompt_values[layer].flatten(0, 1),
        )
        shared = scores(self.to_slots(q.view(n, w.heads, w.head_dim)), prompt_keys)
        if self.prompt_bias is not None:
            shared.view(len(self.prompt_bias), -1, shared.shape[-1]).add_(self.prompt_bias[:, None])
        start = shared.shape[-1]
        attention = torch.cat([self.to_rows(shared), own], dim=-1).softmax(-1).to(q.dtype)
        mixed = torch.bmm(attention.view(n * w.kv_heads, -1, attention.shape[-1])[..., start:], values)
        from_prompt = torch.bmm(self.to_slots(attention[..., :start]), prompt_values)
        return mixed.view(n, -1) + self.to_rows(from_prompt).view(n, -1)

    def to_slots(self, x: torch.Tensor) -> torch.Tensor:
        """Rearrange (n, H, X), by row, to (P*Hkv, S*H/Hkv, X), by prompt and key-value head."""
        if not self.in_order:
            x = x.index_select(0, self.row_at)
        x = x.reshape(
            -1, self.slots, self.weights.kv_heads, self.weights.heads // self.weights.kv_heads, x.shape[-1]
        )
        return x.transpose(1, 2).reshape(x.shape[0] * x.shape[2], -1, x.shape[-1])

    def to_rows(self, x: torch.Tensor) -> torch.Tensor:
        """Rearrange (P*Hkv, S*H/Hkv, X), by prompt and key-value head, to (n, H, X), by row."""
        w = self.weights
        x = (
            x.view(-1, w.kv_heads, self.slots, w.heads // w.kv_heads, x.shape[-1])
            .transpose(1, 2)
            .reshape(-1, w.heads, x.shape[-1])
        )
        return x if self.in_order else x.index_select(0, self.slot_of)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only the rows with indices `rows` (M,), in that order; copy only those whose index changes.

        A row below M that is kept must keep its index. A row that moves must come from index M or above.
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
        self.assign_slots()


def scores(q: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return the attention scores, (batch, queries, keys), at least in float32.

    Half precision would round them to two digits.
    """
    if q.dtype in (torch.float32, torch.float64):
        return torch.bmm(q, keys.transpose(1, 2))
    if q.device.type == "cuda":
        return torch.bmm(q, keys.transpose(1, 2), out_dtype=torch.float32)
    return torch.bmm(q, keys.transpose(1, 2)).float()
