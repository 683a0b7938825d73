"""What the short cells of other people's rollouts say: cut or ended, right or wrong, the gold answer."""

import re

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
ENDED = (  # by itself, by a tool call, or by a filter: not at the limit
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


def cut_of(reason, column: str = "") -> float | None:
    """Return 1.0 when a cell says cut at the limit of tokens, 0.0 when it says ended, else None.

    A truth value (also as 0, 1, 1.0 or text) says "cut", unless `column` is named for the opposite
    ("finished", "done").
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
            return None  # the number of a token
        cut = word in _YES
        return float(not cut if _FINISHED.search(column.lower()) else cut)
    word = word.rpartition(".")[2].replace("-", "_").replace(" ", "_")  # FinishReason.MAX_TOKENS
    return 1.0 if word in CUT else 0.0 if word in ENDED else None


def verdict_of(cell) -> float | None:
    """Return 1.0 or 0.0 of a recorded verdict: a truth value, 1, 0, or -1 (counted as 0); else None.

    An object may hold the verdict as "value", "score" or "correct", or as its only member.
    """
    if isinstance(cell, dict):
        inner = [cell[name] for name in ("value", "score", "correct", "acc") if cell.get(name) is not None]
        inner = inner or list(cell.values())
        return verdict_of(inner[0]) if len(inner) == 1 else None
    if isinstance(cell, str):
        return _VERDICTS.get(cell.strip().lower())
    return {1: 1.0, 0: 0.0, -1: 0.0}.get(cell) if isinstance(cell, (bool, int, float)) else None


def number_of(cell) -> float | None:
    """Return the number in a cell of rewards, None where there is none."""
    try:
        return float(cell) if isinstance(cell, (int, float, str)) and not isinstance(cell, bool) else None
    except (ValueError, OverflowError):
        return None


def truth_of(cell, column: str = "") -> str | None:
    r"""Return a gold answer as it stands inside \boxed{}, None where none can be read.

    It is the box or <answer> of a worked solution, what follows #### on the last line of one, or the text
    itself, unless that is a solution (by the column's name) or longer than any answer. Lighteval's `doc`
    holds choices and the gold one's number.
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
