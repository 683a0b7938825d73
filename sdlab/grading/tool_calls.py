"""Tool use in the form Thought, Action, Action Input: reading the calls of a completion, and comparing them with the truth.

The form is that of SDPO's ToolAlpaca items (arXiv 2601.20802). A completion is right when it makes the calls of the truth, each
with its own arguments, in any order. SDPO's own reward asks less and more: it merges the arguments of all calls into one, so
that arguments may change places and, where two calls share an argument, only the last one's counts; and it reads an argument
only up to its first closing brace and a tool's name only as far as it has letters, so that items with nested
arguments, or with a tool named "[Optional]...", can never be right.
"""

import json
import re

from sdlab.errors import SdlabError

_ACTION = re.compile(r"^[ \t]*Action:", re.MULTILINE)
_CALL = re.compile(r"[ \t]*([^\s()]+)[^\n]*\n\s*Action Input:\s*")


def is_calls(truth: str) -> bool:
    """Whether a ground truth is a list of tool calls: JSON text [{"Action": name, "Action_Input": arguments}, ...]."""
    return truth.startswith('[{"Action"')


def read_calls(completion: str) -> str | None:
    """The calls of a completion as the JSON text of a list, in a form that equal calls share; None when it makes none, or one cannot be read.

    What stands before the last `</think>` was only thought of. Each `Action:` line needs an `Action Input:` with a JSON object after it.
    Linear in the length of `completion`; nothing of it is executed.
    """
    text = completion.rpartition("</think>")[2]
    calls = []
    for action in _ACTION.finditer(text):
        call = _CALL.match(text, action.end())
        arguments = _object(text, call.end()) if call else None
        if arguments is None:
            return None
        calls.append({"Action": call[1], "Action_Input": arguments})
    try:
        return _canonical(calls) if calls else None
    except RecursionError:  # nested as deeply as can be read, and too deeply to be written
        return None


def same_calls(calls: str | None, truth: str) -> bool:
    """Whether `calls` (from `read_calls`; None is wrong) are those of `truth`. Raises SdlabError when the truth is no list of calls."""
    return calls is not None and calls == truth_calls(truth)


def truth_calls(truth: str) -> str:
    """The calls of a ground truth in the form of `read_calls`. Raises SdlabError when it is no list of calls."""
    try:
        rows = _decoder.decode(truth)
        return _canonical(
            [{"Action": row["Action"], "Action_Input": _arguments(row["Action_Input"])} for row in rows]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SdlabError(
            f'{truth[:80]!r} is no list of tool calls; it must read [{{"Action": "name", "Action_Input": "{{}}"}}, ...]'
        ) from error


def _arguments(cell) -> dict:
    found = _decoder.decode(cell) if isinstance(cell, str) else cell
    if not isinstance(found, dict):
        raise TypeError("arguments must be an object")
    return found


def _object(text: str, start: int) -> dict | None:
    try:
        found, _ = _decoder.raw_decode(text, start)
    except (ValueError, RecursionError):  # no JSON, NaN, a number of thousands of digits, nested too deeply
        return None
    return found if isinstance(found, dict) else None


def _canonical(calls: list[dict]) -> str:
    return json.dumps(sorted(calls, key=lambda call: json.dumps(call, sort_keys=True)), sort_keys=True)


def _whole(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value  # 1.0 is 1, and neither is "1" or true


def _refuse(name: str):
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_float=_whole, parse_constant=_refuse)
