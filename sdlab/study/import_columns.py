"""Which column of other people's rollouts is what, and what one of its cells says. Nothing in a cell is ever executed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sdlab.errors import SdlabError, unknown
from sdlab.score import extract_answer

ROLES = {  # what it is -> the names it goes by, most telling first
    "prompt": ("prompt", "question", "problem", "query", "instruction", "input", "user"),
    "response": ("response", "responses", "completion", "completions", "generation", "generations", "output", "outputs", "model_output", "generated_text",
                 "message_content", "prediction", "predictions", "resps", "samples", "content", "text"),
    "thinking": ("message_thinking", "reasoning_content", "thinking", "reasoning"),
    "answer": ("ground_truth", "gtruth_answer", "gold", "gold_answer", "gt_answer", "reference_answer", "expected_answer", "truth", "target", "answer", "solution"),
    "tokens": ("completion_tokens", "num_tokens", "completion_length", "response_tokens", "output_tokens", "n_tokens", "token_count", "response_length", "length"),
    "finish_reason": ("finish_reason", "finish_reasons", "stop_reason", "truncated"),
    "reward": ("correct", "is_correct", "reward", "rewards", "acc", "score", "scores"),
    "model": ("model", "model_name", "generator"),
    "benchmark": ("benchmark", "data_source", "dataset"),
    "problem_id": ("problem_id", "question_id", "prompt_id", "unique_id", "task_id", "doc_id", "idx", "id", "index"),
}  # fmt: skip
CHATS = ("messages", "conversation", "conversations")  # one column that holds question and response
INSIDE = (
    "text",
    "content",
    "message",
    "response",
    "completion",
    "output",
    "generation",
    "choices",
    "body",
    "generated_text",
)  # of a cell that is an object
CUT = ("length", "max_tokens", "max_length", "max_new_tokens", "truncated")
ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete")
DEPTH = 8  # of objects in objects that are looked into


@dataclass(frozen=True)
class Generation:
    """One response, with what its own cell says beside the text."""

    text: str
    finish_reason: object = None
    tokens: object = None


def find_columns(rows: Iterable[dict], given: Mapping[str, str | None]) -> dict[str, str]:
    """role -> column, for the roles of ROLES that `rows` have; columns of an object in a column are named outer.inner.

    given: columns that the user named, by role. Raises SdlabError on a named role or column that is not there, and when there
    is no response.
    """
    outer, inner = {}, {}
    for row in rows:
        for name, cell in row.items():
            outer[str(name)] = None
            if isinstance(cell, dict):
                inner.update({f"{name}.{key}": None for key in cell})
    names, known = [*outer, *inner], ", ".join(list(outer)[:40]) or "none"
    found = {}
    for role, column in given.items():
        if role not in ROLES:
            raise unknown("role of a column", role, ROLES)
        if column is not None:
            if column not in names:
                raise SdlabError(f"no column {column!r} for the {role}; the columns are: {known}")
            found[role] = column
    lowered = {}
    for name in names:
        lowered.setdefault(name.lower(), name)
        lowered.setdefault(
            name.lower().rpartition(".")[2], name
        )  # reward_model.ground_truth; columns of their own come first
    for role, choices in ROLES.items():
        if role not in found:
            taken = set(found.values())
            column = next(
                (lowered[name] for name in choices if name in lowered and lowered[name] not in taken), None
            )
            if column is not None:
                found[role] = column
    chat = next((lowered[name] for name in CHATS if name in lowered), None)
    if "response" not in found and chat is not None:
        found["response"] = chat
        found.setdefault("prompt", chat)
    if "response" not in found:
        raise SdlabError(
            f"no column with responses ({', '.join(ROLES['response'][:8])}, ...); the columns are: {known}; name it with --response"
        )
    return found


def cell_of(row: dict, column: str | None):
    """The cell, numpy's arrays as lists; None where it is missing."""
    if column is None:
        return None
    cell = row.get(column)
    if cell is None and "." in column and column not in row:
        outer, _, key = column.partition(".")
        holder = row.get(outer)
        cell = holder.get(key) if isinstance(holder, dict) else None
    return plain(cell)


def plain(cell, depth: int = 0):
    """A cell as Python's own lists, dicts, strings and numbers; missing values, and what lies too deep inside, as None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, dict)):
        if depth > 2 * DEPTH:
            return None
        return (
            {key: plain(one, depth + 1) for key, one in cell.items()}
            if isinstance(cell, dict)
            else [plain(one, depth + 1) for one in cell]
        )
    return None if isinstance(cell, float) and cell != cell else cell


def text_of(cell) -> str | None:
    """A string or a number as text; None for anything else."""
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
        return None
    return format(cell, ".15g") if isinstance(cell, float) else str(cell)


def is_chat(cell) -> bool:
    """Whether a cell is a list of messages: {"role", "content"} or {"from", "value"}."""
    return (
        isinstance(cell, list)
        and bool(cell)
        and all(
            isinstance(m, dict) and ({"role", "content"} <= set(m) or {"from", "value"} <= set(m))
            for m in cell
        )
    )


def _turn(chat: list[dict], speakers: tuple[str, ...]) -> dict | None:
    return next((m for m in reversed(chat) if m.get("role", m.get("from")) in speakers), None)


def prompt_of(cell) -> str | None:
    """The question: the text itself, or a chat's last message of the user."""
    if is_chat(cell):
        turn = _turn(cell, ("user", "human"))
        return turn and text_of(turn.get("content", turn.get("value")))
    return text_of(cell)


def generations_of(cell, depth: int = 0) -> list[Generation | None]:
    """The responses in a cell: a text, a list of them, a chat (its last answer), or objects as servers return them; None for a missing one."""
    if depth > DEPTH:
        return [None]
    if is_chat(cell):
        turn = _turn(cell, ("assistant", "gpt", "model"))
        return generations_of(turn, depth + 1) if turn else [None]
    if isinstance(cell, list):
        return [one for part in cell for one in generations_of(part, depth + 1)]
    if isinstance(cell, dict):
        return _of_object(cell, depth)
    text = text_of(cell)
    return [None if text is None else Generation(text)]


def _of_object(cell: dict, depth: int) -> list[Generation | None]:
    key = next((name for name in (*INSIDE, "value") if cell.get(name) is not None), None)
    if key is None:
        return [None]
    found = generations_of(cell[key], depth + 1)
    thinking = next((text_of(cell[name]) for name in ROLES["thinking"] if text_of(cell.get(name))), None)
    reason = cell.get("finish_reason", cell.get("stop_reason"))
    usage = cell.get("usage") if isinstance(cell.get("usage"), dict) else {}
    ids = cell.get("token_ids")
    tokens = usage.get("completion_tokens") if len(found) == 1 else None
    tokens = len(ids) if isinstance(ids, list) and len(found) == 1 else tokens
    return [
        one
        and Generation(
            join(thinking, one.text) if thinking else one.text,
            one.finish_reason or reason,
            tokens if one.tokens is None else one.tokens,
        )
        for one in found
    ]


def join(thinking: str, content: str) -> str:
    """Thinking and answer that a server returned apart, as the model wrote them."""
    return f"<think>\n{thinking}\n</think>\n\n{content}"


def truth_of(cell) -> str | None:
    r"""A gold answer as it stands inside \boxed{}: the box of a worked solution, what follows #### in one, or the text itself."""
    while isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, dict):
        cell = cell.get("ground_truth", cell.get("answer"))
    text = text_of(cell)
    if text is None:
        return None
    if "\\boxed" in text:
        return extract_answer(text)
    return text.rpartition("####")[2].strip() or None


def cut_of(reason) -> float | None:
    """1.0 when a finish reason says cut at the length limit, 0.0 when it says ended, None when it says neither."""
    if isinstance(reason, bool):
        return float(reason)
    word = reason.lower() if isinstance(reason, str) else None
    return 1.0 if word in CUT else 0.0 if word in ENDED else None


def verdict_of(cell) -> float | None:
    """1.0 or 0.0 of a recorded verdict: a truth value, 1, 0, or -1 (which counts as 0); None for anything else."""
    if isinstance(cell, str):
        cell = {
            "true": 1,
            "correct": 1,
            "1": 1,
            "1.0": 1,
            "false": 0,
            "incorrect": 0,
            "wrong": 0,
            "0": 0,
            "0.0": 0,
        }.get(cell.strip().lower())
    return {1: 1.0, 0: 0.0, -1: 0.0}.get(cell) if isinstance(cell, (bool, int, float)) else None
