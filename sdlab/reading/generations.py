"""Extract the completions from a cell of other people's rollouts; nothing is ever executed."""

from dataclasses import replace
from typing import Any

from sdlab.reading.cells import DEPTH, text_of
from sdlab.reading.chats import MODEL, speaker, split_chat, turn_text, unpacked
from sdlab.reading.column_names import is_chat, is_turn
from sdlab.reading.messages import (
    ITEMS,
    Generation,
    joined,
    message_of,
    parts_of,
    reason_of,
    thinking_of,
    tokens_of,
)

# Where an object keeps the completion, in this order.
INSIDE = (
    "choices",
    "candidates",
    "message",
    "body",
    "response",
    "text",
    "content",
    "parts",
    "completion",
    "output",
    "outputs",
    "generation",
    "generated_text",
    "output_text",
    "result",
    "value",
)


def generations_of(cell: Any, depth: int = 0) -> list[Generation | None]:
    """Return the completions in a cell, with None for a missing one.

    A cell may be a text, a list of completions, a chat (its last completion counts), the parts of one
    completion, or an object that a server returned.
    """
    cell = unpacked(cell)
    if depth > DEPTH:
        return [None]
    if is_chat(cell):
        return [_of_chat(cell)]
    if isinstance(cell, list):
        if cell and all(isinstance(part, dict) and part.get("type") in ITEMS for part in cell):
            return [_of_parts(cell)]
        return [one for part in cell for one in generations_of(part, depth + 1)]
    if isinstance(cell, dict):
        return [message_of(cell)] if is_turn(cell) else _of_object(cell, depth)
    text = text_of(cell)
    return [None if text is None else Generation(text)]


def _of_chat(chat: list[dict]) -> Generation | None:
    before, answer, after = split_chat(chat)
    turns = [message_of(turn) for turn in answer if speaker(turn) in MODEL]
    turns = [turn for turn in turns if turn is not None]
    if not turns:
        return None
    earlier = [turn_text(turn) for turn in before if speaker(turn) in MODEL]
    return replace(
        turns[-1],
        text="\n\n".join(turn.text for turn in turns),
        earlier="\n\n".join(earlier),
        after=len(after),
    )


def _of_parts(parts: list) -> Generation | None:
    thought, text = parts_of(parts)
    return None if text is None and not thought else Generation(joined(thought, text))


def _of_object(cell: dict, depth: int) -> list[Generation | None]:
    key = next((name for name in INSIDE if cell.get(name) is not None), None)
    thought, reason = thinking_of(cell), reason_of(cell)
    if key is None:
        # A server's response without content still is a completion.
        is_response = any(name in cell for name in ("message", "content", "text"))
        ended = reason is not None and is_response
        return [Generation(joined(thought, None), reason) if thought or ended else None]
    if key in ("content", "parts") and isinstance(cell[key], list):
        inner = [_of_parts(cell[key])]  # the parts of one completion
    else:
        inner = generations_of(cell[key], depth + 1)
    if inner == [None] and (thought or (reason is not None and key in ("message", "content"))):
        inner = [Generation("")]
    tokens, model = tokens_of(cell) if len(inner) == 1 else None, text_of(cell.get("model"))
    return [
        one
        and replace(
            one,
            text=joined(thought, one.text) if thought else one.text,
            finish_reason=one.finish_reason if one.finish_reason is not None else reason,
            tokens=tokens if one.tokens is None else one.tokens,
            model=one.model or model,
        )
        for one in inner
    ]
