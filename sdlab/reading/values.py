"""Read the short cells of other people's rollouts: cut or ended, right or wrong, the gold answer."""

import re
from typing import Any

from sdlab.grading.score import MAX_ANSWER_CHARS, extract_answer
from sdlab.grading.tool_calls import is_calls
from sdlab.reading.cells import text_of

# How servers and frameworks say that a completion was cut at a limit of tokens: OpenAI, vLLM, SGLang, TGI and
# ollama "length"; Anthropic, Gemini, Cohere, Bedrock and Inspect "max_tokens"; llama.cpp "limit"; the
# Responses API "max_output_tokens" and "incomplete"; Mistral and Inspect "model_length"; Anthropic
# "model_context_window_exceeded"; transformers "max_length".
CUT = (
    "length",
    "max_tokens",
    "max_length",
    "max_new_tokens",
    "max_output_tokens",
    "max_completion_tokens",
    "limit",
    "truncated",
    "incomplete",
    "model_length",
    "model_context_window_exceeded",
    "context_length_exceeded",
    "length_limit",
    "token_limit",
    "max_tokens_reached",
    "max_model_len",
    "context_length",
)
# The completion ended by itself, by a tool call, or by a filter, and not at the limit.
ENDED = (
    "stop",
    "eos",
    "eos_token",
    "eos_token_id",
    "end_turn",
    "stop_sequence",
    "stop_token",
    "stop_str",
    "stop_word",
    "word",
    "complete",
    "completed",
    "finish",
    "finished",
    "endoftext",
    "end_of_text",
    "end_of_turn",
    "tool_calls",
    "tool_use",
    "tool_call",
    "function_call",
    "content_filter",
    "content_filtered",
    "refusal",
    "safety",
    "recitation",
    "pause_turn",
)
_YES = ("true", "yes", "1", "1.0")
_NO = ("false", "no", "0", "0.0")
_FINISHED = re.compile(r"(^|_)(finished|finish|completed|complete|done|ended|eos|closed)$")
_VERDICTS = {
    **dict.fromkeys(("true", "correct", "right", "yes", "pass", "passed", "c", "t", "1", "1.0"), 1.0),
    **dict.fromkeys(
        ("false", "incorrect", "wrong", "no", "fail", "failed", "i", "f", "0", "0.0", "-1", "-1.0"), 0.0
    ),
}


def cut_of(reason: Any, column: str = "") -> float | None:
    """Return 1.0 for a completion cut at the limit of tokens, 0.0 for one that ended, None if unknown.

    A truth value (also written as 0, 1, 1.0 or text) means "cut", unless the name of `column` means the
    opposite ("finished", "done").
    """
    if isinstance(reason, dict):
        reason = next((reason[name] for name in ("type", "reason", "finish_reason") if name in reason), None)
    word = (text_of(reason) or "").strip().lower() if not isinstance(reason, bool) else str(reason).lower()
    if word in _YES or word in _NO:
        if (
            isinstance(reason, (int, float))
            and not isinstance(reason, bool)
            and "stop_reason" in column.lower()
        ):
            return None  # the number of a stop token
        cut = word in _YES
        return float(not cut if _FINISHED.search(column.lower()) else cut)
    word = word.rpartition(".")[2].replace("-", "_").replace(" ", "_")  # FinishReason.MAX_TOKENS
    return 1.0 if word in CUT else 0.0 if word in ENDED else None


def verdict_of(cell: Any) -> float | None:
    """Return a recorded verdict as 1.0 or 0.0, or None if there is none.

    A verdict is a truth value, 1, 0, or -1 (counted as 0). An object may contain it as "value", "score",
    "correct" or "acc", or as its only member.
    """
    if isinstance(cell, dict):
        inner = [cell[name] for name in ("value", "score", "correct", "acc") if cell.get(name) is not None]
        inner = inner or list(cell.values())
        return verdict_of(inner[0]) if len(inner) == 1 else None
    if isinstance(cell, str):
        return _VERDICTS.get(cell.strip().lower())
    verdicts: dict[float, float] = {1: 1.0, 0: 0.0, -1: 0.0}
    return verdicts.get(cell) if isinstance(cell, (bool, int, float)) else None


def number_of(cell: Any) -> float | None:
    """Return the number in a cell of rewards, or None when there is none."""
    try:
        return float(cell) if isinstance(cell, (int, float, str)) and not isinstance(cell, bool) else None
    except (ValueError, OverflowError):
        return None


def truth_of(cell: Any, column: str = "") -> str | None:
    r"""Return a gold answer as written inside \boxed{}, or None when it cannot be read.

    It is the box or <answer> of a worked solution, or the text after #### on its last line, or the text
    itself. The text itself does not count if it is a solution (by the column's name) or longer than any
    answer. Lighteval's `doc` contains the choices and the number of the gold one.
    """
    while isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, dict):
        choices, index = cell.get("choices"), cell.get("gold_index")
        index = index[0] if isinstance(index, list) and len(index) == 1 else index
        if isinstance(choices, list) and isinstance(index, int) and 0 <= index < len(choices):
            return truth_of(choices[index], column)
        cell = cell.get("ground_truth", cell.get("answer"))
    text = text_of(cell)
    if text is None or is_calls(text):
        return text
    if "\\boxed" in text or "<answer>" in text:
        return extract_answer(text) or None
    if "####" in text:
        text = text.rpartition("####")[2].strip()
        return text if text and "\n" not in text else None
    text = text.strip()
    solution = column.lower().rpartition(".")[2] == "solution" and ("\n" in text or len(text.split()) > 12)
    return None if not text or solution or len(text) > MAX_ANSWER_CHARS else text
