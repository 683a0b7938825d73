"""What one cell of other people's rollouts says: completions, a prompt, how a completion ended. Nothing is ever executed."""

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256

from sdlab.measure.column_names import ROLES, is_chat, is_turn

# Where an object keeps the completion, in this order.
INSIDE = (
    "choices", "candidates", "message", "body", "response", "text", "content", "parts", "completion", "output", "outputs",
    "generation", "generated_text", "output_text", "result", "value",
)  # fmt: skip
REASONS = ("finish_reason", "finishReason", "stop_reason", "stop_type", "done_reason", "status")
COUNTS = ("completion_tokens", "output_tokens", "tokens_predicted", "eval_count")
MODEL, USER = (
    ("assistant", "gpt", "model", "bot", "ai", "chatgpt"),
    ("user", "human", "system", "developer", "context"),
)
_TEXTS = ("text", "output_text", "input_text")
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text")
_CALLS = ("tool_use", "tool_call", "function_call")
_ITEMS = (*_TEXTS, *_THOUGHTS, *_CALLS, "message", "refusal")  # types of the parts of one answer
DEPTH = 8  # of objects in objects that are looked into


@dataclass(frozen=True)
class Generation:
    """One completion, with what its own cell says beside the text."""

    text: str
    finish_reason: object = None
    tokens: object = None
    model: str | None = None
    earlier: str = ""  # what the model wrote in earlier turns of the same chat
    after: int = 0  # turns that follow the completion


def plain(cell, depth: int = 0):
    """Return a cell as Python's own lists, dicts, texts and numbers; what is missing or lies too deep inside as None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, dict)):
        if depth > 2 * DEPTH:
            return None
        if isinstance(cell, dict):
            return {str(key): plain(one, depth + 1) for key, one in cell.items()}
        return [plain(one, depth + 1) for one in cell]
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return None if isinstance(cell, float) and cell != cell else cell


def text_of(cell) -> str | None:
    """Return a text or a number as text, an integer with all its digits; None for anything else."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, (int, float, Decimal)):
        return None
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else format(cell, ".15g")
    return str(cell)


def unpacked_chat(cell):
    """Return a chat that is kept as JSON text as a list, any other cell as it is."""
    if isinstance(cell, str) and cell.lstrip()[:1] == "[" and ('"role"' in cell or '"from"' in cell):
        try:
            chat = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return chat if is_chat(chat) else cell
    return cell


def split_chat(chat: list[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """Return (the turns before the model's last answer, those of the answer, those after it).

    The answer runs from the last turn of a user or system before the model's last turn, tools' turns included. Without a turn
    of the model everything stands before.
    """
    places = [i for i, turn in enumerate(chat) if _speaker(turn) in MODEL]
    if not places:
        return chat, [], []
    start = next((i + 1 for i in range(places[-1], -1, -1) if _speaker(chat[i]) in USER), 0)
    return chat[:start], chat[start : places[-1] + 1], chat[places[-1] + 1 :]


def _speaker(turn: dict) -> str:
    return str(turn.get("role", turn.get("from"))).lower()


def prompt_of(cell, depth: int = 0) -> str | None:
    """Return the whole prompt: a text as it is, every turn of a chat, the messages of a request; None where there is none."""
    cell = unpacked_chat(cell)
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
    """Return the turns of a chat as one text, each with its role; a single turn of a user as it is. None for no turns."""
    if not chat:
        return None
    if len(chat) == 1 and _speaker(chat[0]) in ("user", "human"):
        return _turn_text(chat[0])
    return "\n\n".join(f"{_speaker(turn)}: {_turn_text(turn)}" for turn in chat)


def _turn_text(turn: dict) -> str:
    one = _message(turn)
    return one.text if one else ""


def generations_of(cell, depth: int = 0) -> list[Generation | None]:
    """Return the completions in a cell, None for a missing one.

    A cell may be a text, a list of completions, a chat (its last answer), the parts of one answer, or an object as servers
    return it.
    """
    cell = unpacked_chat(cell)
    if depth > DEPTH:
        return [None]
    if is_chat(cell):
        return [_of_chat(cell)]
    if isinstance(cell, list):
        if cell and all(isinstance(part, dict) and part.get("type") in _ITEMS for part in cell):
            return [_of_parts(cell)]
        return [one for part in cell for one in generations_of(part, depth + 1)]
    if isinstance(cell, dict):
        return [_message(cell)] if is_turn(cell) else _of_object(cell, depth)
    text = text_of(cell)
    return [None if text is None else Generation(text)]


def _of_chat(chat: list[dict]) -> Generation | None:
    before, answer, after = split_chat(chat)
    turns = [_message(turn) for turn in answer if _speaker(turn) in MODEL]
    turns = [turn for turn in turns if turn is not None]
    if not turns:
        return None
    earlier = [_turn_text(turn) for turn in before if _speaker(turn) in MODEL]
    return replace(
        turns[-1],
        text="\n\n".join(turn.text for turn in turns),
        earlier="\n\n".join(earlier),
        after=len(after),
    )


def _message(turn: dict) -> Generation | None:
    """One turn: its thinking, its content and its calls of tools as one completion; None when it has none of them."""
    content = next(
        (turn[n] for n in ("content", "value", "parts", "text", "prompt") if turn.get(n) is not None), None
    )
    thought, text = _parts(content if isinstance(content, list) else [content])
    thought = _thinking(turn) or thought
    calls = turn.get("tool_calls") or turn.get("function_call")
    text = text if text is not None else text_of(turn.get("refusal"))
    if calls:
        text = "\n".join(one for one in (text, _json(calls)) if one)
    reason = _reason(turn)
    if text is None and not thought and reason is None:
        return None
    return Generation(joined(thought, text), reason)


def _of_parts(parts: list) -> Generation | None:
    thought, text = _parts(parts)
    return None if text is None and not thought else Generation(joined(thought, text))


def _parts(parts: list, depth: int = 0) -> tuple[str, str | None]:
    """(thinking, text) of the parts of one answer; None for a text that is not there."""
    thoughts, texts = [], []
    for part in parts:
        if isinstance(part, dict) and depth < DEPTH:
            kind = part.get("type")
            inner = next(
                (
                    part[n]
                    for n in ("text", "thinking", "reasoning", "summary", "content", "refusal")
                    if part.get(n)
                ),
                None,
            )
            if kind in _CALLS:
                texts.append(_json(part))
            elif kind in _THOUGHTS or part.get("thought") is True:
                thoughts.append("".join(filter(None, _parts(_listed(inner), depth + 1))))
            elif kind in (None, *_ITEMS):
                thought, text = _parts(_listed(inner), depth + 1)
                thoughts.append(thought)
                texts += [] if text is None else [text]
            else:  # an image, a file: named by its content, so that two of them are two prompts
                texts.append(f"[{kind} {sha256(_json(part).encode()).hexdigest()[:8]}]")
        elif (text := text_of(part)) is not None:
            texts.append(text)
    return "".join(thoughts), "".join(texts) if texts else None


def _listed(cell) -> list:
    return cell if isinstance(cell, list) else [cell]


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _thinking(cell: dict) -> str:
    """What a server returned apart as reasoning: a text, or a list of parts."""
    for name in ROLES["thinking"]:
        thought, text = _parts(_listed(cell.get(name)))
        if thought or text:
            return thought or text or ""
    return ""


def _reason(cell: dict):
    """How an object says that its completion ended; vLLM's stop_reason may be the number of a token, which says nothing."""
    details = cell.get("incomplete_details")
    if isinstance(details, dict) and details.get("reason"):
        return details["reason"]
    if cell.get("stopped_limit") is True:
        return "limit"
    info = cell.get("meta_info")
    reasons = [cell.get(name) for name in REASONS]
    reasons += [info.get("finish_reason")] if isinstance(info, dict) else []
    reasons += [
        "length" if cell[name] else "stop" for name in ROLES["truncated"] if isinstance(cell.get(name), bool)
    ]
    return next((one for one in reasons if isinstance(one, (str, dict)) and one), None)


def _tokens(cell: dict):
    """The number of tokens of an object's one completion."""
    if isinstance(cell.get("token_ids"), list):
        return len(cell["token_ids"])
    for place in (cell.get("usage"), cell.get("meta_info"), cell):
        count = (
            next((place[n] for n in COUNTS if place.get(n) is not None), None)
            if isinstance(place, dict)
            else None
        )
        if count is not None:
            return count
    usage = cell.get("usageMetadata")
    if isinstance(usage, dict) and usage.get("candidatesTokenCount") is not None:
        return usage["candidatesTokenCount"] + (usage.get("thoughtsTokenCount") or 0)
    return None


def _of_object(cell: dict, depth: int) -> list[Generation | None]:
    key = next((name for name in INSIDE if cell.get(name) is not None), None)
    thought, reason = _thinking(cell), _reason(cell)
    if key is None:
        asked = any(
            name in cell for name in ("message", "content", "text")
        )  # a server's answer, with nothing in it
        ended = reason is not None and asked
        return [Generation(joined(thought, None), reason) if thought or ended else None]
    if key in ("content", "parts") and isinstance(cell[key], list):
        inner = [_of_parts(cell[key])]  # the parts of one answer
    else:
        inner = generations_of(cell[key], depth + 1)
    if inner == [None] and (thought or (reason is not None and key in ("message", "content"))):
        inner = [Generation("")]
    tokens, model = _tokens(cell) if len(inner) == 1 else None, text_of(cell.get("model"))
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


def joined(thinking: str | None, content: str | None) -> str:
    """Return thinking and content that a server returned apart, as the model wrote them; without content it is still thinking."""
    if not thinking or (content and thinking.strip() in content):
        return content or ""
    return f"<think>\n{thinking}\n</think>\n\n{content}" if content else f"<think>\n{thinking}"
