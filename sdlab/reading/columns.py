"""Find the roles of the columns of other people's rollouts, by the names that common programs use."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sdlab.errors import SdlabError, unknown
from sdlab.reading.cells import listed, plain
from sdlab.reading.chats import split_chat, unpacked
from sdlab.reading.column_names import ROLES, is_chat
from sdlab.reading.values import verdict_of

# Roles whose column may be inside an object in another column. The completion's own object is read elsewhere.
INNER = ("prompt", "answer", "tokens", "finish_reason", "reward", "model", "benchmark", "problem_id")
_REWARD = re.compile(r"reward|correct|accura|verdict")
_NO_VERDICT = re.compile(r"format|length|penalty|overlong|repetition|advantage|_mean|_std|total|sum")
_WEAK = ("text", "content", "message", "result", "code")  # names that mean many things
# sdlab's own samples
_OWN = {"problem_id", "generation", "completion", "answer", "reward", "markers", "markers_substring"}


def find_columns(rows: Iterable[dict], named: Mapping[str, str | None]) -> dict[str, str]:
    """Return role -> column, for the roles of ROLES that `rows` have.

    Columns of an object in a column are named outer.inner. named: columns that the user named, by role.
    Raises SdlabError for a named role or column that does not exist, and when there is neither a completion
    nor thinking.
    """
    rows = list(rows)
    outer, inner = {}, {}
    for row in rows:
        for name, cell in row.items():
            outer[str(name)] = None
            if isinstance(cell, dict):
                inner.update({f"{name}.{key}": None for key in cell})
    known = ", ".join(list(outer)[:40]) or "none"
    columns = {}
    for role, column in named.items():
        if role not in ROLES:
            raise unknown("role of a column", role, ROLES)
        if column is not None:
            if column not in outer and column not in inner:
                raise SdlabError(f"no column {column!r} for the {role}; the columns are: {known}")
            columns[role] = column
    if _OWN <= set(outer):
        return _own_columns(rows, set(outer)) | columns
    lowered = {name.lower(): name for name in reversed(outer)}
    for role in ("response", *(role for role in ROLES if role != "response")):
        if role in columns:
            continue
        taken = set(columns.values())
        inside = _inside(inner, columns.get("response")) if role in INNER else {}
        places = [place[name] for name in ROLES[role] for place in (lowered, inside) if name in place]
        if role == "prompt":  # prefer a column of the row to a column of an object in it
            places.sort(key=lambda name: name not in outer)
        places = [name for name in places if name not in taken]
        if role == "reward":
            places = _by_verdicts(rows, places) or _rewards_by_pattern(rows, outer, taken)
        if places:
            columns[role] = places[0]
    if "prompt_input" not in named and columns.get("prompt", "").lower() != "instruction":
        columns.pop("prompt_input", None)
    chat = columns.get("conversation")
    if chat is not None and "response" not in named:
        weak = columns.get("response", "").lower() in _WEAK and _answers(rows, chat)
        if weak or "response" not in columns:
            columns["response"] = chat  # the column of the weak name has the same chat as rendered text
    if named.get("prompt") is not None:
        columns.pop("conversation", None)
    if "answer" not in columns and any(
        isinstance(row.get("doc"), dict) and "gold_index" in row["doc"] for row in rows
    ):
        columns["answer"] = "doc"  # lighteval
    if "response" not in columns and "thinking" not in columns:
        raise SdlabError(
            f"no column with completions ({', '.join(ROLES['response'][:8])}, ...); "
            f"the columns are: {known}; name it with --response"
        )
    return {role: columns[role] for role in ROLES if role in columns}


def _own_columns(rows: list[dict], names: set[str]) -> dict[str, str]:
    """Return the columns of sdlab's own samples, in which `answer` is the model's answer."""
    own = {"response": "completion", "tokens": "length", "answer": "truth"}
    same = ("prompt", "truncated", "reward", "model", "benchmark", "problem_id", "entropy")
    own |= {name: name for name in same}
    # A truncated completion has reward 0 in any case, so the verdict is the better column.
    if "verdict" in names and any(row.get("truth") for row in rows):
        own["reward"] = "verdict"
    return {role: name for role, name in own.items() if name in names}


def _inside(inner: Iterable[str], hidden: str | None) -> dict[str, str]:
    """Return lower-case name -> column for the columns of objects, except those in the column `hidden`."""
    columns = {}
    for name in inner:
        if name.partition(".")[0] != hidden:
            columns.setdefault(name.rpartition(".")[2].lower(), name)
    columns.pop("length", None)  # in SGLang's finish_reason this name is the limit
    return columns


def _answers(rows: list[dict], column: str) -> bool:
    """Return whether some chat in a column has a turn of the model."""
    chats = (unpacked(cell_of(row, column)) for row in rows)
    return any(is_chat(chat) and split_chat(chat)[1] for chat in chats)


def _by_verdicts(rows: list[dict], places: list[str]) -> list[str]:
    """Return columns of rewards, those with a readable verdict first."""
    reads = {name: any(verdict_of(one) is not None for one in _values(rows, name)) for name in places}
    return sorted(places, key=lambda name: not reads[name])


def reward_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that reward functions may have written, by their names ("accuracy_reward")."""
    return [name for name in names if _REWARD.search(name.lower())]


def _rewards_by_pattern(rows: list[dict], names: Iterable[str], taken: set[str]) -> list[str]:
    """Return the one column of rewards that may be a verdict, or none when there are several."""
    # lm-evaluation-harness names its own columns of rewards.
    metrics = {str(one) for row in rows for one in listed(plain(row.get("metrics")))}
    columns = [name for name in names if name in metrics]
    columns = columns or [name for name in reward_columns(names) if not _NO_VERDICT.search(name.lower())]
    columns = [
        name
        for name in columns
        if name not in taken and any(verdict_of(one) is not None for one in _values(rows, name))
    ]
    return columns if len(columns) == 1 else []


def _values(rows: list[dict], column: str) -> list:
    """Return every single value of a column, and those of its lists."""
    return [one for row in rows for one in listed(cell_of(row, column))]


def cell_of(row: dict, column: str | None) -> Any:
    """Return a cell as plain Python values, or None when it is missing."""
    if column is None:
        return None
    cell = row.get(column)
    if cell is None and "." in column and column not in row:
        outer, _, key = column.partition(".")
        holder = row.get(outer)
        cell = holder.get(key) if isinstance(holder, dict) else None
    return plain(cell)
