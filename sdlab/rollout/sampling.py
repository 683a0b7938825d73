"""Choosing tokens: one uniform number per token, keyed by the row, turned into a token by the inverse CDF."""

from collections import Counter

import numpy as np
import torch

from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int


def row_uniforms(prompts: list[str], params: SamplingParams) -> np.ndarray:
    """Uniform numbers in [0, 1) for every row and token, (B, T) float64 with T = max_completion_length.

    A row's numbers depend only on the seed, the prompt's text and how many generations of that same text came before it,
    so neither the batch's order nor the other rows change what is sampled, and a prompt listed twice with one generation
    each draws what it draws listed once with two. A longer max_completion_length extends a row, it does not change its start.
    """
    rows = []
    for key in row_keys(prompts, params):
        # 32 random bits: u stays so far below 1 that u * total cannot round up to total
        bits = np.random.Generator(np.random.PCG64(key)).integers(
            0, 2**32, params.max_completion_length, dtype=np.uint64
        )
        rows.append(bits / 2.0**32)
    return np.stack(rows) if rows else np.zeros((0, params.max_completion_length))


def row_keys(prompts: list[str], params: SamplingParams) -> list[int]:
    """A 63-bit seed for every row, B of them: of params.seed, the prompt's text and how many rows of that same text come before it."""
    keys, seen = [], Counter()
    for prompt in prompts:
        for _ in range(params.num_generations):
            keys.append(stable_int("rollout", params.seed, prompt, seen[prompt]))
            seen[prompt] += 1
    return keys


def keep_most_likely(
    probs: torch.Tensor, top_k: int, top_p: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The most likely tokens by top-k, then top-p on what top-k left (the order of transformers and vLLM).

    Returns their ids, most likely first, (N, K); the running sum of their probabilities, (N, K) float64; and the sum over
    the kept ones, (N, 1). Top-p keeps the fewest tokens whose share reaches top_p, always at least one.
    """
    if 0 < top_k < probs.shape[-1]:
        ranked, ids = probs.topk(top_k, dim=-1)
    else:
        ranked, ids = probs.sort(dim=-1, descending=True, stable=True)
    running = ranked.cumsum(-1, dtype=torch.float64)
    total = running[:, -1:]
    if top_p < 1:
        kept = ((running - ranked) < top_p * total).sum(
            -1, keepdim=True
        )  # a prefix, because `running` only grows
        total = running.gather(1, kept - 1)
    return ids, running, total


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sampled tokens (N,) int64 and their probabilities (N,) under softmax(logits / temperature), before top-k and top-p.

    logits (N, V), uniforms (N,) float64. Temperature 0 takes the most likely token and reports its probability at temperature 1.
    """
    logits = logits.float()
    if params.temperature not in (0.0, 1.0):
        logits = logits / params.temperature
    probs = torch.softmax(logits, dim=-1)
    if params.temperature == 0:
        chance, tokens = probs.max(dim=-1)
        return tokens, chance
    if params.top_k or params.top_p < 1:
        ids, running, total = keep_most_likely(probs, params.top_k, params.top_p)
    else:
        running = probs.cumsum(-1, dtype=torch.float64)
        ids, total = None, running[:, -1:]
    # the first token whose running sum exceeds the target: a token of probability zero is never it
    place = torch.searchsorted(running, uniforms[:, None] * total, right=True).clamp_(
        max=running.shape[-1] - 1
    )
    tokens = place if ids is None else ids.gather(1, place)
    return tokens.squeeze(1), probs.gather(1, tokens).squeeze(1)
