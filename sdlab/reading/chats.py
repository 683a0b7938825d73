"""Read chats in other people's rollouts: the prompt with all its turns, and the model's completion."""

import json
import re
from typing import Any

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
MODEL = ("assistant", "gpt", "model", "bot", "ai", "chatgpt")
USER = ("user", "human", "system", "developer", "context")
# Where an object keeps the prompt, in this order.
_PROMPT_NAMES = (
    *("messages", "contents", "prompt", "question", "input", "body"),
    *("gen_args_0", "arg_0", "content", "text"),
)


def unpacked(cell: Any) -> Any:
    """Parse a chat or a server's response that is stored as text; return any other cell unchanged."""
    if isinstance(cell, str) and _HEADER.match(_START.sub("", cell)):
        return _rendered(_START.sub("", cell))
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    if not any(name in cell for name in ('"role"', '"from"', '"choices"')):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    answer = isinstance(value, dict) and isinstance(value.get("choices"), list)
    return plain(value) if answer or is_chat(value) else cell


def _rendered(text: str) -> list[dict]:
    """Return the turns of a chat that a template rendered as text, without a last turn that is empty."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    turns = [
        (next(filter(None, h.groups())), text[h.end() : end]) for h, end in zip(headers, ends, strict=True)
    ]
    chat = [{"role": role.lower(), "content": _END.sub("", content).strip()} for role, content in turns]
    return chat[:-1] if len(chat) > 1 and not chat[-1]["content"] else chat


def split_chat(chat: list[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """Return (the turns before the model's last completion, its turns, the turns after it).

    The completion begins after the last turn of a user or system before the model's last turn, and includes
    the turns of tools. Without a turn of the model all turns are in the first list.
    """
    places = [i for i, turn in enumerate(chat) if speaker(turn) in MODEL]
    if not places:
        return chat, [], []
    start = next((i + 1 for i in range(places[-1], -1, -1) if speaker(chat[i]) in USER), 0)
    return chat[:start], chat[start : places[-1] + 1], chat[places[-1] + 1 :]


def speaker(turn: dict) -> str:
    """Return the role of a turn in lower case."""
    return str(turn.get("role", turn.get("from"))).lower()


def prompt_of(cell: Any, depth: int = 0) -> str | None:
    """Return the whole prompt: a text, every turn of a chat, or the messages of a request; otherwise None."""
    cell = unpacked(cell)
    if is_chat(cell):
        return conversation(cell)
    if depth > DEPTH:
        return None
    if isinstance(cell, list):
        texts = [one for one in (prompt_of(part, depth + 1) for part in cell) if one is not None]
        return "\n\n".join(texts) if texts else None
    if isinstance(cell, dict):
        for name in _PROMPT_NAMES:
            text = prompt_of(cell.get(name), depth + 1)
            if text is not None:
                return text
        return None
    return text_of(cell)


def conversation(chat: list[dict]) -> str | None:
    """Return the turns of a chat as one text, each with its role; a single user turn has no role."""
    if not chat:
        return None
    if len(chat) == 1 and speaker(chat[0]) in ("user", "human"):
        return turn_text(chat[0])
    return "\n\n".join(f"{speaker(turn)}: {turn_text(turn)}" for turn in chat)


def turn_text(turn: dict) -> str:
    """Return the text of a turn, or "" when it has none."""
    one = message_of(turn)
    return one.text if one else ""
