"""Why did a marker's logit change in training: the unembedding, or the residual stream?

The logit of a token is w . r + b: its row of the unembedding times the residual stream after the last norm.
Between two models of one size it changes by

    (w' - w) . (r' + r) / 2 + b' - b    the unembedding's part
    (w' + w) / 2 . (r' - r)             the residual's part

The two parts add up exactly, and neither model is favoured. A logit has no meaning of its own, because
softmax ignores a constant added to all; so the mean logit over the vocabulary is subtracted, in w and in
b.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas
import torch

from sdlab.errors import SdlabError
from sdlab.measure.places import Places
from sdlab.measure.residuals import padded, unembedding
from sdlab.rollout.torch_engine import TorchEngine, frozen
from sdlab.text.markers import MARKERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLOSE = 1e-3  # relative error up to which w . r counts as the model's own logit


def marker_tokens(
    tokenizer: "PreTrainedTokenizerBase", words: Sequence[str] = MARKERS
) -> dict[str, list[int]]:
    """Return the tokens that are a whole word, with or without a space and capitals: word -> ids.

    A word without such a token has an empty list.
    """
    tokens: dict[str, list[int]] = {word: [] for word in words}
    for token in range(len(tokenizer)):
        text = str(tokenizer.decode([token])).strip().lower()
        if text in tokens:
            tokens[text].append(token)
    return tokens


def last_states(engine: TorchEngine, places: Places, batch_rows: int = 32) -> torch.Tensor:
    """Return the residual stream after the last norm at every place, (N, d), on the CPU.

    Raises SdlabError when the model's logits are not its unembedding times these states plus a bias, for
    example because it caps them.
    """
    model, head = engine.model, unembedding(engine.model)
    prompts = engine.encode(places.prompts, max(map(len, places.completion_ids)))
    rows, positions = (places.frame[name].to_numpy() for name in ("row", "position"))
    ids = [
        prompt + list(completion) for prompt, completion in zip(prompts, places.completion_ids, strict=True)
    ]
    at = np.array([len(prompts[row]) for row in rows]) + positions - 1
    states = torch.zeros(len(rows), head.weight.shape[1], dtype=head.weight.dtype)
    used = sorted(set(rows.tolist()), key=lambda row: len(ids[row]))
    with frozen(model), torch.inference_mode():
        for start in range(0, len(used), batch_rows):
            batch = used[start : start + batch_rows]
            tokens, mask = padded([ids[row] for row in batch], engine.pad_id, model.device)
            inputs = {"input_ids": tokens, "attention_mask": mask, "use_cache": False}
            hidden = model.base_model(**inputs).last_hidden_state
            if start == 0:
                _check_head(
                    model(**inputs).logits[:1, : len(ids[batch[0]])], hidden[:1, : len(ids[batch[0]])], head
                )
            order = {row: number for number, row in enumerate(batch)}
            mine = np.flatnonzero(np.isin(rows, batch))
            states[mine] = hidden.cpu()[[order[row] for row in rows[mine]], at[mine]]
    return states


def head_parts(
    engine: TorchEngine, places: Places, tokens: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return w (K, d), b (K,) and r (N, d) of the centred logits w . r + b of `tokens` at every place.

    All are float64. Raises SdlabError as `last_states`.
    """
    head, states = unembedding(engine.model), last_states(engine, places)
    weight = head.weight.detach().double().cpu()
    bias = torch.zeros(len(weight), dtype=torch.double)
    if getattr(head, "bias", None) is not None:
        bias = head.bias.detach().double().cpu()
    weight, bias = weight - weight.mean(0), bias - bias.mean()
    chosen = list(tokens)
    return weight[chosen].numpy(), bias[chosen].numpy(), states.double().numpy()


def word_probability(engine: TorchEngine, places: Places, words: Sequence[str] = MARKERS) -> np.ndarray:
    """Return the model's probability that one of `words` is the next token, at every place: (N,).

    Every token that is a whole word counts, with or without a space and capitals. A hedge of several words
    begins with its first: "it" for "It might be".

    Raises SdlabError when none of the words is a token, and as `last_states`.
    """
    tokens = [token for ids in marker_tokens(engine.tokenizer, words).values() for token in ids]
    if not tokens:
        raise SdlabError(f"none of the words {', '.join(words)} is a token of this model; name others")
    head, states = unembedding(engine.model), last_states(engine, places)
    with torch.inference_mode():
        parts = [
            head(part.to(head.weight.device)).float().softmax(-1)[:, tokens].sum(-1).cpu()
            for part in states.split(512)
        ]
    return torch.cat(parts).double().numpy()


def _check_head(logits: torch.Tensor, hidden: torch.Tensor, head) -> None:
    expected = head(hidden).float()
    error = (logits.float() - expected).abs().max().item() / max(1e-6, expected.abs().max().item())
    if error > CLOSE:
        raise SdlabError(
            f"the model's logits differ from unembedding times residual by {error:.1%}; they cannot be "
            "decomposed (some models cap or scale their logits); use a model with a plain linear head"
        )


def logit_change(
    before: TorchEngine, after: TorchEngine, places: Places, words: Sequence[str] = MARKERS
) -> pandas.DataFrame:
    """Return why the logits of markers changed between two models, at every place.

    before and after: torch rollout engines of models of one size with the same tokenizer. A word's logit
    is the mean over its tokens (with and without a space and capitals). Words without a token are left
    out: `attrs["left_out"]` names them.

    Columns: problem_id, row, position, marker, change, unembedding, residual; change is the sum of the other
    two. `sdlab.measure.evaluation.summarise` gives means with intervals by problem.

    Raises SdlabError when the models differ in vocabulary or size, and when no word has a token.
    """
    sizes = [tuple(unembedding(one.model).weight.shape) for one in (before, after)]
    if sizes[0] != sizes[1]:
        raise SdlabError(
            f"the unembeddings have the shapes {sizes[0]} and {sizes[1]}; "
            "compare a model with itself before and after training"
        )
    tokens = marker_tokens(before.tokenizer, words)
    known = {word: ids for word, ids in tokens.items() if ids}
    if not known:
        raise SdlabError(f"none of the words {', '.join(words)} is a token of this model; name others")
    flat = [token for ids in known.values() for token in ids]
    (w0, b0, r0), (w1, b1, r1) = (head_parts(one, places, flat) for one in (before, after))
    parts = {
        "change": r1 @ w1.T + b1 - (r0 @ w0.T + b0),
        "unembedding": (r0 + r1) / 2 @ (w1 - w0).T + (b1 - b0),
        "residual": (r1 - r0) @ ((w0 + w1) / 2).T,
    }  # each (N, K)
    frames, start = [], 0
    for word, ids in known.items():
        part = slice(start, start + len(ids))
        start = part.stop
        frames.append(
            places.frame[["problem_id", "row", "position"]].assign(
                marker=word, **{name: values[:, part].mean(1) for name, values in parts.items()}
            )
        )
    table = pandas.concat(frames, ignore_index=True)
    table.attrs["left_out"] = [word for word in words if word not in known]
    return table
