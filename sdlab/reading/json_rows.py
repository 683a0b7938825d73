"""Find the rows in a JSON value of a known shape: a list, a table by columns or rows, an object around one.

A shape that can be read in two ways is refused, because the wrong reading would count other rows than the
writer meant.
"""

from typing import Any

from sdlab.errors import SdlabError
from sdlab.reading.column_names import CHATS, ROLES, is_chat, is_known

# Names of a list of rows in an object.
AROUND = ("data", "rows", "samples", "records", "examples", "instances", "results", "items")
WHAT_TO_DO = 'write one object per row: a list of objects, JSON lines, or DataFrame.to_json(orient="records")'


class UnknownShape(SdlabError):
    """The rows of a JSON value cannot be determined."""


def rows_of(data: Any) -> tuple[list[dict], list[str]]:
    """Return (the rows of the one JSON value of a file, notes on how they were read).

    Known shapes: a list of objects or strings, one object, an object of columns, a dictionary of rows, every
    named `orient` of DataFrame.to_json, one chat, and an object around a list of rows.
    Raises UnknownShape for any other shape, and when there are no rows.
    """
    if isinstance(data, list):
        return _of_list(data)
    if isinstance(data, str):
        return [{"text": data}], []
    if not isinstance(data, dict):
        raise UnknownShape(f"it holds {str(data)[:40]} and no rows; {WHAT_TO_DO}")
    if not data:
        raise UnknownShape("it holds no rows; give a file with at least one text")
    if {"schema", "data"} == set(data) and _objects(data["data"]):
        return _of_list(data["data"])
    if {"columns", "data"} <= set(data) <= {"columns", "index", "data"}:
        return _split(data)
    alone = len(data) == 1 and next(iter(data)) in AROUND and _objects(next(iter(data.values())))
    if all(isinstance(value, list) for value in data.values()) and not alone:
        return _of_lists(data)
    if all(isinstance(value, dict) for value in data.values()):
        return _of_objects(data)
    others = [name for name in data if str(name).lower() in (*ROLES["prompt"], *ROLES["response"], *CHATS)]
    around = [name for name in AROUND if _objects(data.get(name)) and set(others) <= {name}]
    if len(around) > 1:
        raise UnknownShape(f"{' and '.join(map(repr, around))} both hold a list of rows; {WHAT_TO_DO}")
    if around:
        rows, notes = _of_list(data[around[0]])
        return rows, [f"the rows are those of {around[0]!r} in the file's one object.", *notes]
    return [data], []


def line_rows(value: Any) -> list[dict]:
    """Return the rows of one of several lines: an object, a chat, a batch of objects, or a text."""
    if isinstance(value, dict):
        return [value]
    if is_chat(value):
        return [{"messages": value}]
    return value if _objects(value) else [{"text": value}]


def _objects(value) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _of_list(data: list) -> tuple[list[dict], list[str]]:
    if not data:
        raise UnknownShape("it holds no rows; give a file with at least one text")
    if is_chat(data):
        return [{"messages": data}], ["the file is one chat."]
    if any(isinstance(row, list) and not is_chat(row) for row in data):
        raise UnknownShape(f"its rows are lists without names of columns; {WHAT_TO_DO}")
    if all(isinstance(row, dict) and "row_idx" in row and isinstance(row.get("row"), dict) for row in data):
        return [row["row"] for row in data], []  # format of the Hugging Face data set viewer
    return [row for value in data for row in line_rows(value)], []


def _split(data: dict) -> tuple[list[dict], list[str]]:
    """Return the rows of DataFrame.to_json(orient="split")."""
    names, rows = data["columns"], data["data"]
    good = isinstance(names, list) and isinstance(rows, list) and rows
    if not good or any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise UnknownShape(f"the rows under 'data' do not have one cell for each of 'columns'; {WHAT_TO_DO}")
    return [dict(zip(map(str, names), row, strict=True)) for row in rows], []


def _of_lists(data: dict) -> tuple[list[dict], list[str]]:
    """Return the rows of an object of lists: columns, one row, or a list of rows for each problem."""
    known, sizes = any(map(is_known, data)), sorted({len(cells) for cells in data.values()})
    if {"choices", "candidates"} & set(data) or any(is_chat(cells) for cells in data.values()):
        return [data], []  # one response of a server, or one chat
    by_problem = not known and all(_objects(cells) for cells in data.values())
    if by_problem and any(is_known(name) for cells in data.values() for row in cells for name in row):
        return [_named(row, key) for key, cells in data.items() for row in cells], [_BY_KEY]
    if not known and all(str(name).isdigit() for name in data):
        return [{"problem_id": key, "text": cells} for key, cells in data.items()], [_BY_KEY]
    if len(sizes) > 1:
        raise UnknownShape(f"its columns have {sizes[0]} to {sizes[-1]} cells; {WHAT_TO_DO}")
    if not sizes[0]:
        raise UnknownShape("it holds no rows; give a file with at least one text")
    return [dict(zip(data, cells, strict=True)) for cells in zip(*data.values(), strict=True)], []


def _of_objects(data: dict) -> tuple[list[dict], list[str]]:
    """Return the rows of an object of objects: columns of cells, a dictionary of rows, or one row."""
    inner = [set(row) for row in data.values()]
    same = bool(inner[0]) and all(names == inner[0] for names in inner)
    outside, inside = any(map(is_known, data)), any(is_known(name) for names in inner for name in names)
    if outside == inside:  # the names do not decide; pandas numbers its rows
        outside = same and not _numbers(data) and _numbers(inner[0])
        inside = _numbers(data) and not _numbers(set().union(*inner))
        if not outside and not inside and same and len(data) > 1 and any(map(is_known, data)):
            raise UnknownShape(f"its objects could be rows or columns; {WHAT_TO_DO}")
    if outside and not inside and same:
        keys = list(next(iter(data.values())))
        rows = [{name: cells[key] for name, cells in data.items()} for key in keys]
        return rows, ['the file is a table by columns (DataFrame.to_json without orient="records").']
    if inside and not outside:
        numbered = list(data) == [str(number) for number in range(len(data))]
        return [row if numbered else _named(row, key) for key, row in data.items()], [_BY_KEY]
    return [data], []


_BY_KEY = "the file is a dictionary of rows."


def _named(row: dict, key: str) -> dict:
    """Return a row with its key as the problem's id, unless the row has an id."""
    has = any(str(name).lower() in ROLES["problem_id"] for name in row)
    return row if has else {**row, "problem_id": key}


def _numbers(names) -> bool:
    return bool(names) and all(str(name).isdigit() for name in names)
