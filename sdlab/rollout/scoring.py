"""Score given completions (teacher forcing).

Each prompt runs once, its completions continue from its cache, and only completion tokens pass through the
head.
"""

from typing import TYPE_CHECKING

import torch

from sdlab.rollout.cache import accepted, left_pad, named_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def plan_batches(
    lengths: list[int],
    prompt_lengths: list[int],
    same: list[int],
    batch_tokens: int,
    head_tokens: int | None = None,
) -> list[list[int]]:
    """Return batches of rows to score together, sorted by length.

    A batch has at most batch_tokens padded tokens, and head_tokens of completions, or is a single row.
    `same[i]` identifies row i's prompt. Rows of one prompt stay next to each other, so that the prompt is
    computed once.
    """
    longest = {}
    for name, length in zip(same, lengths, strict=True):
        longest[name] = max(longest.get(name, 0), length)
    order = sorted(
        range(len(lengths)), key=lambda i: (prompt_lengths[i], longest[same[i]], same[i], lengths[i])
    )
    batches, current, width, prompt = [], [], 0, 0
    for i in order:
        width, prompt = max(width, lengths[i]), max(prompt, prompt_lengths[i])
        rows = len(current) + 1
        too_wide = head_tokens is not None and rows * width > head_tokens
        if current and (rows * (width + prompt) > batch_tokens or too_wide):
            batches.append(current)
            current, width, prompt = [], lengths[i], prompt_lengths[i]
        current.append(i)
    if current:
        batches.append(current)
    return batches


def completion_logits(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    rows: list[int],
    completions: list[list[int]],
    pad: int,
) -> torch.Tensor:
    """Return the logits that predict each of the M completion tokens, (M, V), row after row.

    Row n continues prompts[rows[n]]. First the prompt without its last token fills the cache, once per
    prompt. Then the last prompt token and the completion without its last token run as one block, so that no
    logit is computed in vain.
    """
    device = model.device
    width = max(map(len, completions))
    block = [[prompts[r][-1], *completion[:-1]] for r, completion in zip(rows, completions, strict=True)]
    block_ids = torch.tensor([row + [pad] * (width - len(row)) for row in block], device=device)
    block_mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in block], device=device)
    offsets = torch.arange(width, device=device)
    if max(len(p) for p in prompts) == 1:
        out = model(input_ids=block_ids, attention_mask=block_mask, use_cache=False)
        return out.logits[block_mask.bool()]
    # A prompt of one token leaves nothing for the cache: its row in the cache is all padding.
    ids, mask, positions = left_pad([prompt[:-1] for prompt in prompts], pad, device)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        use_cache=True,
        **accepted(model, position_ids=positions, logits_to_keep=1),
    )
    named, order = named_cache(out), torch.tensor(rows, device=device)
    for cache in named.values():
        cache.reorder_cache(order)
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)[order]
    full_mask = torch.cat([mask[order], block_mask], dim=1)
    position_ids = (starts[:, None] + offsets).clamp_(
        max=int(max(s + len(b) for s, b in zip(starts.tolist(), block, strict=True))) - 1
    )
    out = model(
        input_ids=block_ids,
        attention_mask=full_mask,
        use_cache=True,
        **named,
        **accepted(model, position_ids=position_ids),
    )
    return out.logits[block_mask.bool()]
