"""Chats in other people's rollouts: the prompt with all its turns, and where the model's answer is."""

import json
import re

from sdlab.reading.cells import DEPTH, plain, text_of
from sdlab.reading.column_names import is_chat
from sdlab.reading.messages import message_of

# How templates render the turns of a chat: ChatML, Llama 3, Gemma, Phi and Zephyr, DeepSeek.
_HEADER = re.compile(
    r"<\|im_start\|>(\w+)\n|<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*|<start_of_turn>(\w+)\n|"
    r"<\|(system|user|assistant)\|>\n?|<｜(User|Assistant)｜>"
)
_START = re.compile(r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>)?\s*")
_END = re.compile(
    r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|endoftext\|>|<｜end▁of▁sentence｜>|</s>)\s*\Z"
)
MODEL, USER = (
    ("assistant", "gpt", "model", "bot", "ai", "chatgpt"),
    ("user", "human", "system", "developer", "context"),
)


def unpacked(cell):
    """Return a chat or a server's answer that is kept as text as what it says; any other cell as it is."""
    if isinstance(cell, str) and _HEADER.match(_START.sub("", cell)):
        return _rendered(_START.sub("", cell))
    kept = isinstance(cell, str) and (
        cell.lstrip()[:1],
        '"role"' in cell,
        '"from"' in cell,
        '"choices"' in cell,
    )
    if not kept or kept[0] not in ("[", "{") or not any(kept[1:]):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    answer = isinstance(value, dict) and isinstance(value.get("choices"), list)
    return plain(value) if answer or is_chat(value) else cell


def _rendered(text: str) -> list[dict]:
    """The turns of a chat that a template rendered as text, without a last one that is only opened."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    turns = [(next(filter(None, h.groups())), text[h.end() : end]) for h, end in zip(headers, ends)]
    chat = [{"role": role.lower(), "content": _END.sub("", content).strip()} for role, content in turns]
    return chat[:-1] if len(chat) > 1 and not chat[-1]["content"] else chat


def split_chat(chat: list[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """Return (the turns before the model's last answer, those of the answer, those after it).

    The answer runs from the last turn of a user or system before the model's last turn, tools' turns
    included. Without a turn of the model everything stands before.
    """
    places = [i for i, turn in enumerate(chat) if speaker(turn) in MODEL]
    if not places:
        return chat, [], []
    start = next((i + 1 for i in range(places[-1], -1, -1) if speaker(chat[i]) in USER), 0)
    return chat[:start], chat[start : places[-1] + 1], chat[places[-1] + 1 :]


def speaker(turn: dict) -> str:
    """Return the role of a turn in lower case."""
    return str(turn.get("role", turn.get("from"))).lower()


def prompt_of(cell, depth: int = 0) -> str | None:
    """Return the whole prompt: a text as it is, every turn of a chat, a request's messages; else None."""
    cell = unpacked(cell)
    if is_chat(cell):
        return conversation(cell)
    if depth > DEPTH:
        return None
    if isinstance(cell, list):
        texts = [one for one in (prompt_of(part, depth + 1) for part in cell) if one is not None]
        return "\n\n".join(texts) if texts else None
    if isinstance(cell, dict):
        named = (
            "messages",
            "contents",
            "prompt",
            "question",
            "input",
            "body",
            "gen_args_0",
            "arg_0",
            "content",
            "text",
        )
        return next(
            (text for name in named if (text := prompt_of(cell.get(name), depth + 1)) is not None), None
        )
    return text_of(cell)


def conversation(chat: list[dict]) -> str | None:
    """Return the turns of a chat as one text, each with its role; a user's only turn as it is."""
    if not chat:
        return None
    if len(chat) == 1 and speaker(chat[0]) in ("user", "human"):
        return turn_text(chat[0])
    return "\n\n".join(f"{speaker(turn)}: {turn_text(turn)}" for turn in chat)


def turn_text(turn: dict) -> str:
    """Return what a turn says, "" for nothing."""
    one = message_of(turn)
    return one.text if one else ""
