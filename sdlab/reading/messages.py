"""Read one message of a model as servers return it: thinking, content, tool calls and finish reason."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sdlab.reading.cells import DEPTH, as_json, listed, text_of
from sdlab.reading.column_names import ROLES

REASONS = ("finish_reason", "finishReason", "stop_reason", "stop_type", "done_reason", "status")
COUNTS = ("completion_tokens", "output_tokens", "tokens_predicted", "eval_count")
_TEXTS = ("text", "output_text", "input_text")
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text")
_CONTENTS = ("text", "thinking", "reasoning", "summary", "content", "refusal")
_CALLS = ("tool_use", "tool_call", "function_call")
ITEMS = (*_TEXTS, *_THOUGHTS, *_CALLS, "message", "refusal")  # types of the parts of one completion


@dataclass(frozen=True)
class Generation:
    """One completion, with the other facts in its cell."""

    text: str
    finish_reason: object = None
    tokens: object = None
    model: str | None = None
    earlier: str = ""  # the model's text in earlier turns of the same chat
    after: int = 0  # turns that follow the completion


def message_of(turn: dict) -> Generation | None:
    """Return one turn as one completion: thinking, content and tool calls; None when it has none of them."""
    content = next(
        (turn[n] for n in ("content", "value", "parts", "text", "prompt") if turn.get(n) is not None), None
    )
    thought, text = parts_of(content if isinstance(content, list) else [content])
    thought = thinking_of(turn) or thought
    calls = turn.get("tool_calls") or turn.get("function_call")
    text = text if text is not None else text_of(turn.get("refusal"))
    if calls:
        text = "\n".join(one for one in (text, as_json(calls)) if one)
    reason = reason_of(turn)
    if text is None and not thought and reason is None:
        return None
    return Generation(joined(thought, text), reason, tokens_of(turn), text_of(turn.get("model")))


def parts_of(parts: list, depth: int = 0) -> tuple[str, str | None]:
    """Return (thinking, text) of the parts of one completion; the text is None when it is missing."""
    thoughts, texts = [], []
    for part in parts:
        if isinstance(part, dict) and depth < DEPTH:
            kind = part.get("type")
            inner = next((part[name] for name in _CONTENTS if part.get(name)), None)
            if kind in _CALLS:
                texts.append(as_json(part))
            elif kind in _THOUGHTS or part.get("thought") is True:
                thoughts.append("".join(filter(None, parts_of(listed(inner), depth + 1))))
            elif kind in (None, *ITEMS):
                thought, text = parts_of(listed(inner), depth + 1)
                thoughts.append(thought)
                texts += [] if text is None else [text]
            else:  # an image or a file: its hash keeps prompts with different ones apart
                texts.append(f"[{kind} {sha256(as_json(part).encode()).hexdigest()[:8]}]")
        elif (text := text_of(part)) is not None:
            texts.append(text)
    return "".join(thoughts), "".join(texts) if texts else None


def thinking_of(cell: dict) -> str:
    """Return the reasoning that a server returned separately: a text, or a list of parts."""
    for name in ROLES["thinking"]:
        thought, text = parts_of(listed(cell.get(name)))
        if thought or text:
            return thought or text or ""
    return ""


def reason_of(cell: dict) -> str | dict | None:
    """Return the finish reason in an object, or None; the number of a stop token is not a reason."""
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


def tokens_of(cell: dict) -> Any:
    """Return the number of tokens of an object's single completion, or None when it is missing."""
    if isinstance(cell.get("token_ids"), list):
        return len(cell["token_ids"])
    for place in (cell.get("usage"), cell.get("meta_info"), cell):
        if isinstance(place, dict):
            for name in COUNTS:
                if place.get(name) is not None:
                    return place[name]
    usage = cell.get("usageMetadata")
    if isinstance(usage, dict) and usage.get("candidatesTokenCount") is not None:
        return usage["candidatesTokenCount"] + (usage.get("thoughtsTokenCount") or 0)
    return None


def joined(thinking: str | None, content: str | None) -> str:
    """Join thinking and content that a server returned separately, as the model wrote them.

    Without content the model was still thinking, and the tag stays open.
    """
    if not thinking or (content and thinking.strip() in content):
        return content or ""
    return f"<think>\n{thinking}\n</think>\n\n{content}" if content else f"<think>\n{thinking}"
