"""Decoding any Hugging Face causal language model through its own cache: the path that works for all of them."""

import inspect

import torch


def left_pad(rows: list[list[int]], pad: int, device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask (1 on real tokens) and positions of `rows`, each (N, L) int64, padded on the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp_(min=0)


def accepted(model, **arguments) -> dict:
    """Those of `arguments` that the model's forward takes (not every architecture knows position_ids or logits_to_keep)."""
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in arguments.items() if name in known}


class HFDecoder:
    """Rows that decode one token at a time with the model's own cache.

    prefill runs each prompt once and shares its cache among the prompt's rows; step feeds one token per row; keep drops rows.
    """

    drop_share = 1 / 8  # dropping rows copies the whole cache, so it waits until this share has finished

    def __init__(self, model, pad: int):
        self.model, self.pad = model, pad

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """Run the prompts; row i of the result belongs to prompt 0 for the first repeats[0] rows, and so on. Returns logits (N, V)."""
        device = self.model.device
        ids, mask, positions = left_pad(prompts, self.pad, device)
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=True,
            **accepted(self.model, position_ids=positions, logits_to_keep=1),
        )
        rows = torch.arange(len(prompts), device=device).repeat_interleave(
            torch.tensor(repeats, device=device)
        )
        self.cache = out.past_key_values
        self.cache.reorder_cache(rows)
        # the mask is written ahead for all `room` coming tokens and sliced as they come
        self.mask = torch.cat([mask[rows], mask.new_ones(len(rows), room)], dim=1)
        self.length = ids.shape[1]
        self.next_position = positions[rows, -1] + 1
        return out.logits[:, -1].index_select(0, rows)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, (N,); returns the logits of the next, (N, V)."""
        self.length += 1
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask[:, : self.length],
            past_key_values=self.cache,
            use_cache=True,
            **accepted(self.model, position_ids=self.next_position[:, None], logits_to_keep=1),
        )
        self.cache = out.past_key_values
        self.next_position = self.next_position + 1
        return out.logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only `rows` (M,), in that order."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask.index_select(0, rows)
        self.next_position = self.next_position.index_select(0, rows)
