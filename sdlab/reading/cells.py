"""Convert a cell of other people's rollouts to plain Python values and to text."""

import json
from decimal import Decimal
from typing import Any

DEPTH = 8  # levels of nested objects that are searched


def plain(cell: Any, depth: int = 0) -> Any:
    """Return a cell as Python lists, dicts, texts and numbers; missing or too deep values become None."""
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


def text_of(cell: Any) -> str | None:
    """Return a text or a number as text, an integer with all its digits; None for anything else."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, (int, float, Decimal)):
        return None
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else format(cell, ".15g")
    return str(cell)


def listed(cell: Any) -> list:
    """Return a list unchanged, and any other cell as a list of one."""
    return cell if isinstance(cell, list) else [cell]


def as_json(value: Any) -> str:
    """Return a value as JSON text, the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
