"""Store the results of a notebook in its last cell's output, and read them for tests and the report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.provenance import provenance

if TYPE_CHECKING:
    from IPython.display import Markdown
    from jinja2 import Environment
    from nbformat import NotebookNode

MIME = "application/vnd.sdlab.result+json"
WIDEST = 8  # columns of a table that fit the page


def record(
    *, preset: str | None = None, model: str | None = None, seed: int | None = None, **values: Any
) -> None:
    """Show `values` and store them, with their provenance, in the output of this cell.

    Values are numbers, strings, booleans, None, lists, and dicts with string keys. `{"mean": m, "low": l,
    "high": h}` is shown as a number with its interval, a dict of dicts as a table. An Interval, a Comparison
    or a Difference is stored as such an interval; limits that are not finite become None.

    The report's index shows the first three plain values, so put the most important first, and give them
    names that say what they are, with the unit. `preset`, `model` and `seed` default to the notebook's own
    PRESET, MODEL and SEED. Raises SdlabError for other values, NaN included.
    """
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    names = shell.user_ns if shell else {}
    payload = {
        "values": {name: _plain(value, name) for name, value in values.items()},
        "order": list(values),  # a notebook file sorts keys
        "provenance": provenance(
            model=model if model is not None else names.get("MODEL"),
            seed=seed if seed is not None else names.get("SEED"),
            preset=preset if preset is not None else names.get("PRESET"),
        ),
    }
    display(bundle(payload), raw=True)


def bundle(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the MIME bundle of a record: the data and its display."""
    lines = [f"{label(name)}: {show(value)}" for name, value in payload["values"].items()]
    return {MIME: payload, "text/html": table(payload["values"]), "text/plain": "\n".join(lines)}


def read_record(notebook: str | Path | NotebookNode) -> dict[str, Any]:
    """Return the last record of `notebook` (a path or a loaded notebook): {"values": ..., "provenance": ...}.

    Raises SdlabError when it has none.
    """
    import nbformat

    if isinstance(notebook, (str, Path)):
        name, document = str(notebook), nbformat.read(notebook, as_version=4)
    else:
        name, document = "this notebook", notebook
    for cell in reversed(document.cells):
        for output in reversed(cell.get("outputs", [])):
            if MIME in output.get("data", {}):
                return output.data[MIME]
    raise SdlabError(
        f"{name} holds no record; its last code cell must call sdlab.walkthrough.record.record(...)"
    )


def _plain(value: Any, path: str) -> Any:
    """Return `value` as JSON data; numpy numbers become Python's, intervals become dicts."""
    value = _interval(value)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SdlabError(
                f"recorded value {path} is {value}; record finite numbers, or None where there is none"
            )
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise SdlabError(f"recorded value {path} has the key {key!r}; keys must be strings")
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise SdlabError(
        f"recorded value {path} is a {type(value).__name__}; record numbers, strings, lists or dicts (a "
        f"frame: .to_dict())"
    )


def _interval(value: Any) -> Any:
    """Return the mean, low and high of an interval, or of a difference that has one; else `value`.

    Low and high are None where there is no interval. A dict with these three names is an interval, too.
    """
    from sdlab.measure.comparison import Comparison
    from sdlab.measure.crossed import Difference
    from sdlab.measure.intervals import Interval

    if isinstance(value, Comparison):
        value = value.difference
    if isinstance(value, Difference):
        value = value.interval
    if is_interval(value):
        ends = {name: value[name] for name in ("low", "high")}
        missing = {name: None for name, end in ends.items() if end is not None and math.isnan(end)}
        return value | missing
    if not isinstance(value, Interval):
        return value
    ends = {name: float(number) for name, number in vars(value).items()}
    return {name: round(number, 4) if math.isfinite(number) else None for name, number in ends.items()}


def bullets(lines: Iterable[str]) -> Markdown:
    """Return sentences as a Markdown list for display."""
    from IPython.display import Markdown

    return Markdown("\n".join(f"- {line}" for line in lines))


def label(name: str) -> str:
    """Return the name of a value as it is displayed: with spaces for underscores, and "score" for reward."""
    return "score" if name == "reward" else name.replace("_", " ")


def show(value: Any) -> str:
    """Return a short text for one value.

    Numbers have three significant digits, intervals are in brackets, long lists become their length.
    """
    if is_interval(value):
        if None in (value["low"], value["high"]) or value["low"] == value["high"]:
            return show(value["mean"])
        return f"{show(value['mean'])} [{show(value['low'])}, {show(value['high'])}]"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 8 else ", ".join(map(show, value))
    if isinstance(value, dict):
        return ", ".join(f"{label(key)} {show(item)}" for key, item in value.items())
    return str(value)


def is_interval(value: Any) -> bool:
    """Return whether a value is a dict with mean, low and high."""
    return isinstance(value, dict) and {"mean", "low", "high"} <= set(value)


def is_table(value: Any) -> bool:
    """Return whether a value is a dict of plain dicts: outer keys are rows, inner keys are columns."""
    return (
        isinstance(value, dict)
        and not is_interval(value)
        and len(value) > 0
        and all(isinstance(row, dict) and not is_interval(row) for row in value.values())
    )


def grid(name: str, value: dict[str, dict[str, Any]]) -> str:
    """Return the HTML table of a dict of dicts; one with many columns and fewer rows is turned."""
    columns = list(dict.fromkeys(column for row in value.values() for column in row))
    if len(columns) > max(len(value), WIDEST):
        turned = {
            column: {row: cells[column] for row, cells in value.items() if column in cells}
            for column in columns
        }
        columns, value = list(value), turned
    rows = [
        (label(row), [show(cells[column]) if column in cells else "" for column in columns])
        for row, cells in value.items()
    ]
    return _table(rows, label(name), [label(column) for column in columns])


def table(values: dict[str, Any]) -> str:
    """Return the HTML of all recorded values: one table of plain values, then one for each table."""
    plain = [(label(name), [show(value)]) for name, value in values.items() if not is_table(value)]
    first = _table(plain) if plain else ""
    return first + "".join(grid(name, value) for name, value in values.items() if is_table(value))


def _table(rows: list[tuple[str, list[str]]], caption: str = "", columns: list[str] | None = None) -> str:
    return (
        templates()
        .get_template("record.html")
        .render(rows=rows, caption=caption, columns=columns or [])
        .strip()
    )


@cache
def templates() -> Environment:
    """Return the templates of the walkthrough's pages. They escape every text."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("sdlab.walkthrough"), autoescape=True, keep_trailing_newline=True)
