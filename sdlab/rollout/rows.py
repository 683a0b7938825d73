"""Encode prompts to token ids and build Rollouts from sampled token ids, for every engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from sdlab.errors import SdlabError
from sdlab.rollout.stops import cut_at_stop
from sdlab.rollout.types import Rollouts, SamplingParams
from sdlab.text.chat_template import stop_strings
from sdlab.text.prompt import SOLUTION

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

DEMONSTRATED = SOLUTION.partition("{")[0]  # what a prompt has before a demonstration
THINK_TAGS = ("<think>", "</think>")


def encode(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], room: int, context: int | None
) -> list[list[int]]:
    """Return the token ids of rendered prompts; no special tokens are added.

    Raises SdlabError for an empty prompt, and for one that leaves fewer than `room` of the `context` tokens
    free (context=None: no limit).
    """
    if isinstance(prompts, str):
        raise SdlabError("prompts must be a list of strings, not one string; write [prompt]")
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if len(prompts) else []
    for text, row in zip(prompts, ids, strict=True):
        if not row:
            raise SdlabError(f"the prompt {text!r} has no tokens; render it with the chat template first")
        if context is not None and len(row) + room > context:
            shown = " with a demonstration" if DEMONSTRATED in text else ""
            begins = " ".join(text.split())[:60]
            raise SdlabError(
                f"a prompt{shown} of {len(row)} tokens and a completion of up to {room} exceed "
                f"the model's context of {context}; "
                f"shorten the prompt or choose max_completion_length at most {max(0, context - len(row))} "
                f"(the prompt begins {begins!r})"
            )
    return ids


def decode(tokenizer: "PreTrainedTokenizerBase", rows: list[list[int]]) -> list[str]:
    """Return the texts of completions (token ids) without special tokens, but with their think tags.

    Think tags stay even when the tokenizer counts them as special tokens. Without them a completion's
    thinking would silently become part of its solution, and contexts without thinking could not be built.
    """
    if not rows:
        return []
    tags = [tag for tag in THINK_TAGS if tag in tokenizer.all_special_tokens]
    if not tags:
        return tokenizer.batch_decode(rows, skip_special_tokens=True)
    tag_ids = cast(list[int], tokenizer.convert_tokens_to_ids(tags))  # one id for each tag
    dropped = set(tokenizer.all_special_ids) - set(tag_ids)
    return tokenizer.batch_decode(
        [[i for i in row if i not in dropped] for row in rows], skip_special_tokens=False
    )


def collect(
    tokenizer: "PreTrainedTokenizerBase",
    eos_ids: list[int],
    pad: int,
    prompts: Sequence[str],
    prompt_ids: list[list[int]],
    params: SamplingParams,
    tokens: torch.Tensor,
    logps: torch.Tensor,
) -> Rollouts:
    """Build Rollouts from sampled tokens (B, T) and their log-probabilities (B, T).

    Every row is cut after its first end-of-sequence token or stop string, and decoded. A stop string is among
    the row's tokens and not in its text.
    Raises SdlabError when a log-probability is not finite.
    """
    is_end = torch.isin(tokens, torch.tensor(eos_ids))
    mask = is_end.cumsum(-1) - is_end.long() == 0
    truncated = ~is_end.any(-1)
    stopped: dict[int, str] = {}
    if stop_strings(tokenizer):
        whole = [row[:n].tolist() for row, n in zip(tokens, mask.sum(-1).tolist(), strict=True)]
        for row, (length, text) in enumerate(cut_at_stop(tokenizer, whole)):
            if text is not None:
                stopped[row], truncated[row] = text, False
                mask[row, length:] = False
    longest = int(mask.sum(-1).max()) if len(tokens) else 0
    mask, tokens = mask[:, :longest], tokens[:, :longest].masked_fill(~mask[:, :longest], pad)
    logps = logps[:, :longest].masked_fill(~mask, 0.0)
    if not torch.isfinite(logps).all():
        raise SdlabError(
            "the model's logits are not finite (NaN or infinite), so nothing can be sampled; "
            "go back to an earlier checkpoint or train with a lower learning rate"
        )
    rows = [row[:n].tolist() for row, n in zip(tokens, mask.sum(-1).tolist(), strict=True)]
    texts = [stopped.get(row, text) for row, text in enumerate(decode(tokenizer, rows))]
    return Rollouts(
        prompts=list(prompts),
        prompt_ids=prompt_ids,
        num_generations=params.num_generations,
        completion_ids=tokens,
        completion_mask=mask,
        per_token_logps=logps,
        truncated=truncated,
        texts=texts,
    )


def check_scored(
    prompts: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    temperature: float,
    top_k: int | None,
    vocab: int,
) -> list[int]:
    """Return the lengths of the completions to be scored.

    Raises SdlabError for unequal numbers of prompts and completions, and for a temperature, top_k or token id
    outside its range.
    """
    if len(prompts) != len(completion_ids):
        raise SdlabError(
            f"score got {len(prompts)} prompts and {len(completion_ids)} completions; "
            "give one prompt per completion"
        )
    if temperature < 0:
        raise SdlabError(f"temperature={temperature} is not allowed; it must be 0 (scored as 1) or more")
    if top_k is not None and not 1 <= top_k <= vocab:
        raise SdlabError(f"top_k={top_k} is not allowed; it must be between 1 and the vocabulary's {vocab}")
    for ids in completion_ids:
        if len(ids) and not (0 <= min(ids) and max(ids) < vocab):
            wrong = next(i for i in ids if not 0 <= i < vocab)
            raise SdlabError(
                f"token id {wrong} in a completion is not in the model's vocabulary of {vocab}; "
                "encode the completion with the model's own tokenizer"
            )
    return [len(ids) for ids in completion_ids]


def end_ids(generation_config: "GenerationConfig | None", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the token ids that end a completion: those of the generation config, then that of the tokenizer.

    The generation config may name one token or a list. Raises SdlabError when neither names a token.
    """
    config_ids = getattr(generation_config, "eos_token_id", None)
    ids = (
        list(config_ids)
        if isinstance(config_ids, (list, tuple))
        else []
        if config_ids is None
        else [config_ids]
    )
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    if not ids:
        raise SdlabError(
            "neither the model's generation config nor its tokenizer names an end-of-sequence token; "
            "set tokenizer.eos_token"
        )
    return list(dict.fromkeys(ids))
