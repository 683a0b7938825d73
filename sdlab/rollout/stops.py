"""End completions at stop strings: a base model writes the next problem after its solution."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch

from sdlab.text.chat_template import stop_strings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

StopCheck = Callable[[torch.Tensor], torch.Tensor]
WINDOW = 32  # tokens in which a stop string must lie to end a row early; `cut_at_stop` has no such limit


def stop_check(tokenizer: "PreTrainedTokenizerBase") -> StopCheck | None:
    """Return a check of the last tokens (N, W) of N rows: has a stop string just ended? (N,) bool.

    None for a model without stop strings.
    """
    strings = stop_strings(tokenizer)
    if not strings:
        return None
    from transformers.generation.stopping_criteria import StopStringCriteria

    criteria = StopStringCriteria(tokenizer, list(strings))
    return lambda last: cast(torch.Tensor, criteria(last, None))  # type: ignore[arg-type]  # reads no scores


def cut_at_stop(tokenizer: "PreTrainedTokenizerBase", rows: list[list[int]]) -> list[tuple[int, str | None]]:
    """Return for each completion its number of tokens through the first stop string, and its text before it.

    A completion without a stop string keeps its length, and its text is None.
    """
    strings = stop_strings(tokenizer)

    def stop_of(ids: list[int]) -> int:
        text = str(tokenizer.decode(ids))
        places = [place for place in map(text.find, strings) if place >= 0]
        return min(places, default=-1)

    cuts = []
    for ids in rows:
        place = stop_of(ids) if strings else -1
        if place < 0:
            cuts.append((len(ids), None))
            continue
        least, most = 1, len(ids)  # the first number of tokens whose text holds a stop string
        while least < most:
            middle = (least + most) // 2
            least, most = (least, middle) if stop_of(ids[:middle]) >= 0 else (middle + 1, most)
        text = str(tokenizer.decode(ids[:least], skip_special_tokens=True))
        cuts.append((least, text[: min(p for p in map(text.find, strings) if p >= 0)]))
    return cuts
