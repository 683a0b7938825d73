"""Where a wrong completion goes wrong, and the reflection on it that ROSD's teacher sees."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sdlab.train.repairs.views import Step
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def reflection(step: Step) -> tuple[list[str], list[bool]]:
    """Show a reflection instead of a solution (ROSD): which step of a wrong completion is wrong.

    Reconstructed: the paper's model writes the reflection after it has seen a right sibling. Here the
    problem's key finds the first wrong value. Right rows, and wrong ones without such a step, see the right
    sibling.
    """
    prompts, informed = [], []
    for row, sibling in enumerate(step.siblings()):
        step_text = None if step.rewards[row] >= 0.5 else wrong_step(step.problem(row), step.texts[row])
        shown = step_text if sibling is not None else None
        demonstration = step.texts[sibling] if sibling is not None and not shown else None
        prompts.append(step.prompt(row, demonstration, f"{shown[1].strip()[:-1]}, no." if shown else None))
        informed.append(sibling is not None)
    return prompts, informed


def wrong_step(problem: Problem, text: str) -> tuple[int, str] | None:
    """Return the place and the words of the first commitment to a wrong value, "So A is 15.", or None."""
    steps = []
    for slot in problem.slots:
        for match in re.finditer(rf" So {re.escape(slot.subject)} is ([^.\n]+)\.", text):
            if match.group(1) != slot.candidates[slot.truth]:
                steps.append((match.start(), match.group()))
    return min(steps, default=None)


def first_errors(step: Step, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the token where each wrong completion's first wrong step begins, (B,); -1 without one.

    ids: B lists of the completions' tokens.
    """
    places = []
    for row, tokens in enumerate(ids):
        error = None if step.rewards[row] >= 0.5 else wrong_step(step.problem(row), step.texts[row])
        places.append(-1 if error is None else _token_at(step.tokenizer, tokens, error[0]))
    return torch.tensor(places)


def _token_at(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], place: int) -> int:
    """Return the first token that ends after the letter `place` of the decoded text."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.decode(list(tokens[: middle + 1]), skip_special_tokens=True)) > place:
            high = middle
        else:
            low = middle + 1
    return low
