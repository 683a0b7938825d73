"""Decode any Hugging Face causal language model with its own cache: the path that works for every model."""

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils.generic import ModelOutput


def left_pad(
    rows: list[list[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad token ids on the left.

    Returns token ids, attention mask (1 on real tokens) and positions of `rows`, each (N, L) int64.
    """
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp_(min=0)


def accepted(model: nn.Module, **arguments: Any) -> dict[str, Any]:
    """Return those of `arguments` that the model's forward accepts.

    Not every architecture accepts position_ids or logits_to_keep.
    """
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in arguments.items() if name in known}


def named_cache(out: "ModelOutput") -> dict[str, Any]:
    """Return the cache in a model's output under the name by which its forward takes it.

    transformers calls it `cache` from version 5.24 on, and `past_key_values` before.
    """
    name = "cache" if "cache" in out else "past_key_values"
    return {name: out[name]}


class HFDecoder:
    """Decode rows one token at a time with the model's own cache.

    `prefill` runs each prompt once and shares its cache among the prompt's rows. `step` feeds one token per
    row. `keep` drops rows.
    """

    # Dropping rows copies the whole cache. The loop therefore waits until this share of the rows has
    # finished.
    drop_share = 1 / 8

    def __init__(self, model: "PreTrainedModel", pad: int) -> None:
        self.model, self.pad = model, pad

    @property
    def cache(self) -> Any:
        """Return the model's own cache of all rows."""
        return next(iter(self.named.values()))

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """Run the prompts and return the logits of every row's first token, (N, V).

        The first repeats[0] rows belong to prompt 0, the next repeats[1] rows to prompt 1, and so on.
        `room` is the largest number of tokens that `step` will append to a row.
        """
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
        self.named = named_cache(out)
        self.cache.reorder_cache(rows)
        # The mask already covers the `room` tokens still to come; each step uses the part up to its token.
        self.mask = torch.cat([mask[rows], mask.new_ones(len(rows), room)], dim=1)
        self.length = ids.shape[1]
        self.next_position = positions[rows, -1] + 1
        return out.logits[:, -1].index_select(0, rows)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row and return the logits of the next token.

        tokens (N,); the logits are (N, V).
        """
        self.length += 1
        out = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask[:, : self.length],
            use_cache=True,
            **self.named,
            **accepted(self.model, position_ids=self.next_position[:, None], logits_to_keep=1),
        )
        self.named = named_cache(out)
        self.next_position = self.next_position + 1
        return out.logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only the rows with indices `rows` (M,), in that order."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask.index_select(0, rows)
        self.next_position = self.next_position.index_select(0, rows)
