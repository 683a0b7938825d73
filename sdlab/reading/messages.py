"""One message of a model as servers return it: thinking, content in parts, calls of tools, how it ended."""

from dataclasses import dataclass
from hashlib import sha256

from sdlab.reading.cells import DEPTH, as_json, listed, text_of
from sdlab.reading.column_names import ROLES

REASONS = ("finish_reason", "finishReason", "stop_reason", "stop_type", "done_reason", "status")
COUNTS = ("completion_tokens", "output_tokens", "tokens_predicted", "eval_count")
_TEXTS = ("text", "output_text", "input_text")
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text")
_CALLS = ("tool_use", "tool_call", "function_call")
ITEMS = (
    *_TEXTS,
    *_THOUGHTS,
    *_CALLS,
    "message",
    "refusal",
)  # types of the parts of one answer  # types of the parts of one answer


@dataclass(frozen=True)
class Generation:
    """One completion, with what its own cell says beside the text."""

    text: str
    finish_reason: object = None
    tokens: object = None
    model: str | None = None
    earlier: str = ""  # what the model wrote in earlier turns of the same chat
    after: int = 0  # turns that follow the completion


def message_of(turn: dict) -> Generation | None:
    """Return one turn as one completion: thinking, content and calls of tools; None for none of them."""
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
    """Return (thinking, text) of the parts of one answer; None for a text that is not there."""
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
                texts.append(as_json(part))
            elif kind in _THOUGHTS or part.get("thought") is True:
                thoughts.append("".join(filter(None, parts_of(listed(inner), depth + 1))))
            elif kind in (None, *ITEMS):
                thought, text = parts_of(listed(inner), depth + 1)
                thoughts.append(thought)
                texts += [] if text is None else [text]
            else:  # an image, a file: named by its content, so that two of them are two prompts
                texts.append(f"[{kind} {sha256(as_json(part).encode()).hexdigest()[:8]}]")
        elif (text := text_of(part)) is not None:
            texts.append(text)
    return "".join(thoughts), "".join(texts) if texts else None


def thinking_of(cell: dict) -> str:
    """Return what a server returned apart as reasoning: a text, or a list of parts."""
    for name in ROLES["thinking"]:
        thought, text = parts_of(listed(cell.get(name)))
        if thought or text:
            return thought or text or ""
    return ""


def reason_of(cell: dict):
    """Return how an object says that its completion ended; the number of a token does not say it."""
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


def tokens_of(cell: dict):
    """Return the number of tokens of an object's one completion; None where it does not say."""
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


def joined(thinking: str | None, content: str | None) -> str:
    """Return thinking and content that a server returned apart, as the model wrote them.

    Without content the model is still thinking: the tag stays open.
    """
    if not thinking or (content and thinking.strip() in content):
        return content or ""
    return f"<think>\n{thinking}\n</think>\n\n{content}" if content else f"<think>\n{thinking}"
