"""Sample tokens: one uniform number per token, keyed by the row, and the inverse CDF."""

from collections import Counter

import numpy as np
import torch

from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int


def row_uniforms(prompts: list[str], params: SamplingParams) -> np.ndarray:
    """Return uniform numbers in [0, 1) for every row and token.

    The result is (B, T) float64 with T = max_completion_length.
    A row's numbers depend only on the seed, the prompt's text and the number of earlier rows with the same
    text. The order of the batch and the other rows therefore do not change the samples. A prompt listed twice
    with one generation each gives the same samples as a prompt listed once with two generations. A larger
    max_completion_length extends a row and does not change its start.
    """
    rows = []
    for key in row_keys(prompts, params):
        # 32 random bits keep u so far below 1 that u * total cannot round up to total.
        bits = np.random.Generator(np.random.PCG64(key)).integers(
            0, 2**32, params.max_completion_length, dtype=np.uint64
        )
        rows.append(bits / 2.0**32)
    return np.stack(rows) if rows else np.zeros((0, params.max_completion_length))


def row_keys(prompts: list[str], params: SamplingParams) -> list[int]:
    """Return a 63-bit seed for each of the B rows.

    It depends on params.seed, the prompt's text and the number of earlier rows with the same text.
    """
    keys, seen = [], Counter()
    for prompt in prompts:
        for _ in range(params.num_generations):
            keys.append(stable_int("rollout", params.seed, prompt, seen[prompt]))
            seen[prompt] += 1
    return keys


def keep_most_likely(
    probs: torch.Tensor, top_k: int, top_p: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the most likely tokens by top-k, then by top-p among those that top-k kept.

    transformers and vLLM use the same order. Returns three tensors: the token ids, most likely first, (N, K);
    the running sum of their probabilities, (N, K) float64; the sum over the kept tokens, (N, 1). Top-p keeps
    the fewest tokens whose share reaches top_p, and at least one.
    """
    if 0 < top_k < probs.shape[-1]:
        ranked, ids = probs.topk(top_k, dim=-1)
    else:
        ranked, ids = probs.sort(dim=-1, descending=True, stable=True)
    running = ranked.cumsum(-1, dtype=torch.float64)
    total = running[:, -1:]
    if top_p < 1:
        # The kept tokens are a prefix, because `running` only grows.
        kept = ((running - ranked) < top_p * total).sum(-1, keepdim=True)
        total = running.gather(1, kept - 1)
    return ids, running, total


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sampled tokens (N,) int64 and their probabilities (N,).

    logits (N, V), uniforms (N,) float64. The probabilities are those of softmax(logits / temperature), before
    top-k and top-p. Temperature 0 takes the most likely token and returns its probability at temperature 1.
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
    # Take the first token whose running sum exceeds the target. A token of probability zero is never the
    # first.
    place = torch.searchsorted(running, uniforms[:, None] * total, right=True).clamp_(
        max=running.shape[-1] - 1
    )
    tokens = place if ids is None else ids.gather(1, place)
    return tokens.squeeze(1), probs.gather(1, tokens).squeeze(1)
