"""Read the tool calls of a completion (Thought, Action, Action Input) and compare them with the truth.

The form is that of SDPO's ToolAlpaca items (arXiv 2601.20802). A completion is right when it makes the calls
of the truth, each with its own arguments, in any order. SDPO's own reward differs in two ways. First, it
merges the arguments of all calls. Arguments may then change places, and where two calls have the same
argument, only that of the last call counts. Second, it reads an argument only up to its first closing brace,
and a tool's name only as far as it has letters. Items with nested arguments, or with a tool named
"[Optional]...", can then never be right.
"""

import json
import re

from sdlab.errors import SdlabError

_ACTION = re.compile(r"^[ \t]*Action:", re.MULTILINE)
_CALL = re.compile(r"[ \t]*([^\s()]+)[^\n]*\n\s*Action Input:\s*")


def is_calls(truth: str) -> bool:
    """Return whether a ground truth is a list of tool calls.

    Such a truth is the JSON text [{"Action": name, "Action_Input": arguments}, ...].
    """
    return truth.startswith('[{"Action"')


def read_calls(completion: str) -> str | None:
    """Return the calls of a completion as the JSON text of a list, in canonical form.

    None when the completion makes no calls, or when one cannot be read. Calls before the last `</think>` do
    not count. Each `Action:` line needs an `Action Input:` line with a JSON object after it. The time is
    linear in the length of `completion`, and nothing of it is executed.
    """
    text = completion.rpartition("</think>")[2]
    calls = []
    for action in _ACTION.finditer(text):
        call = _CALL.match(text, action.end())
        arguments = _object(text, call.end()) if call else None
        if call is None or arguments is None:
            return None
        calls.append({"Action": call[1], "Action_Input": arguments})
    try:
        return _canonical(calls) if calls else None
    except RecursionError:  # the reader accepts deeper nesting than the writer
        return None


def same_calls(calls: str | None, truth: str) -> bool:
    """Return whether `calls` (from `read_calls`; None is wrong) are those of `truth`.

    Raises SdlabError when the truth is not a list of calls.
    """
    return calls is not None and calls == truth_calls(truth)


def truth_calls(truth: str) -> str:
    """Return the calls of a ground truth in the form of `read_calls`.

    Raises SdlabError when the truth is not a list of calls.
    """
    try:
        rows = _decoder.decode(truth)
        return _canonical(
            [{"Action": row["Action"], "Action_Input": _arguments(row["Action_Input"])} for row in rows]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SdlabError(
            f"{truth[:80]!r} is no list of tool calls; "
            'it must read [{"Action": "name", "Action_Input": "{}"}, ...]'
        ) from error


def _arguments(cell) -> dict:
    arguments = _decoder.decode(cell) if isinstance(cell, str) else cell
    if not isinstance(arguments, dict):
        raise TypeError("arguments must be an object")
    return arguments


def _object(text: str, start: int) -> dict | None:
    try:
        value, _ = _decoder.raw_decode(text, start)
    except (
        ValueError,
        RecursionError,
    ):  # no JSON, NaN, a number of thousands of digits, or nested too deeply
        return None
    return value if isinstance(value, dict) else None


def _canonical(calls: list[dict]) -> str:
    return json.dumps(sorted(calls, key=lambda call: json.dumps(call, sort_keys=True)), sort_keys=True)


def _whole(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value  # 1.0 equals 1, but not "1" or true


def _refuse(name: str):
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_float=_whole, parse_constant=_refuse)
