"""A cell of other people's rollouts as plain Python values and as text."""

import json
from decimal import Decimal

DEPTH = 8  # of objects in objects that are looked into  # of objects in objects that are looked into


def plain(cell, depth: int = 0):
    """Return a cell as Python's own lists, dicts, texts and numbers; what is missing or too deep is None."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, dict)):
        if depth > 2 * DEPTH:
            return None
        if isinstance(cell, dict):
            return {str(key): plain(one, depth + 1) for key, one in cell.items()}
        return [plain(one, depth + 1) for one in cell]
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return None if isinstance(cell, float) and cell != cell else cell


def text_of(cell) -> str | None:
    """Return a text or a number as text, an integer with all its digits; None for anything else."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, (int, float, Decimal)):
        return None
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else format(cell, ".15g")
    return str(cell)


def listed(cell) -> list:
    """Return a list as it is, anything else as the only member of one."""
    return cell if isinstance(cell, list) else [cell]


def as_json(value) -> str:
    """Return a value as JSON text, the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
