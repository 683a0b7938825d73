"""Read the cells of a row of problems: the question of a chat, the answer of a worked solution."""

import json
from typing import Any

from sdlab.errors import SdlabError
from sdlab.grading.score import MAX_ANSWER_CHARS, extract_answer
from sdlab.grading.tool_calls import is_calls


def truth_in(row: dict, column: str) -> str:
    r"""Return the ground truth in a column of a row; `reward_model` holds it as its `ground_truth`.

    Raises SdlabError when it cannot be extracted, and for a text in `solution` that marks no answer.
    """
    if column == "reward_model":
        reward = unpacked(row[column])
        return truth_of(reward.get("ground_truth")) if isinstance(reward, dict) else ""
    truth = truth_of(row[column])
    if column == "solution" and " " in truth and truth == text_of(row[column]).strip():
        raise SdlabError(
            rf"no \boxed{{}} and no #### in the solution {truth[:60]!r}; mark its answer with one of them"
        )
    return truth


def kind_of(row: dict) -> str:
    """Return the type of a problem: its column `kind`, or MATH's subject, or ""."""
    extra = unpacked(row.get("extra_info"))
    index = row.get("unique_id") or (extra.get("index") if isinstance(extra, dict) else "")
    parts = text_of(index).split("/")  # MATH names its questions split/subject/number.json
    return text_of(row.get("kind")) or (parts[1] if len(parts) == 3 else "")


def system_of(row: dict) -> str:
    """Return the system message in the chat of column `prompt`, or the column `system`, or ""."""
    chat = unpacked(row.get("prompt"))
    for message in chat if isinstance(chat, list) else ():
        if isinstance(message, dict) and message.get("role") == "system":
            return text_of(message.get("content"))
    return text_of(row.get("system"))


def truth_of(cell: object) -> str:
    r"""Return the ground truth of a cell.

    It is the content of the box in a worked solution, what follows its last ####, or the text itself.

    Raises SdlabError when a solution has no answer that can be extracted: its text is never taken for the
    answer.
    """
    text = text_of(cell).strip()
    if is_calls(text):
        return text
    if "\\boxed" in text or "\\fbox" in text:
        answer = extract_answer(text) or ""
    elif "####" in text:
        answer = text.rpartition("####")[2].strip()
    else:
        answer = text
    if (text and not answer) or len(answer) > MAX_ANSWER_CHARS or "\n" in answer:
        raise SdlabError(
            f"no answer can be extracted from {text[:60]!r}; "
            r"give the answer alone, in \boxed{} or after ####"
        )
    return answer


def question_of(cell: object) -> str:
    """Return the last user message of a chat, or the text itself."""
    chat = unpacked(cell)
    messages = [m for m in chat if isinstance(m, dict) and "role" in m] if isinstance(chat, list) else []
    if isinstance(cell, str) and not messages:
        return cell.strip()
    users = [m.get("content") for m in messages if m["role"] == "user"]
    return text_of(users[-1]).strip() if users else ""


def unpacked(cell: Any) -> Any:
    """Return a cell without its wrapping: arrays as lists, JSON text as its content."""
    if hasattr(cell, "tolist"):  # parquet gives numpy arrays
        cell = cell.tolist()
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell  # a question may begin with a bracket
    return cell


def text_of(cell: object) -> str:
    """Return a cell as text, "" for a missing one."""
    # A missing number is NaN, which differs from itself.
    return "" if cell is None or cell != cell else str(cell)
