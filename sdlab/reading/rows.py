"""Read the rows of json, jsonl, parquet and txt files, whole or not at all, with exact numbers."""

import gzip
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import MissingPackage, SdlabError, first_line
from sdlab.reading.json_rows import UnknownShape, line_rows, rows_of

if TYPE_CHECKING:
    import pandas

ENDINGS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".parquet", ".txt")
_SURROGATES = re.compile("[\ud800-\udfff]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def ending(file: str | Path) -> str:
    """Return the member of ENDINGS that ends a file's name, or ""."""
    return next((one for one in ENDINGS if Path(file).name.lower().endswith(one)), "")


def read_rows(file: str | Path, errors: str = "strict") -> tuple[list[dict], list[str]]:
    """Return (the rows of one file, notes on how they were read).

    No value changes its type, and no value is filled in. json and jsonl: see
    `sdlab.reading.json_rows.rows_of`. txt: one row with the column `text`. errors="replace" reads bytes that
    are not UTF-8 as U+FFFD.
    Raises SdlabError when the file cannot be read whole, is empty, or is of another kind. Raises
    UnknownShape, a kind of SdlabError, when its JSON has no table.
    """
    file = Path(file)
    kind = ending(file)
    if not kind:
        raise SdlabError(
            f"cannot read {file}: it ends in {file.suffix or 'nothing'!r}; use one of: {', '.join(ENDINGS)}"
        )
    try:
        if file.stat().st_size == 0:
            raise SdlabError(f"{file} is empty; give a file with at least one text")
        if kind == ".parquet":
            return _parquet(file), []
        content = _decoded(
            gzip.decompress(file.read_bytes()) if kind.endswith(".gz") else file.read_bytes(), errors
        )
    except ImportError as error:
        raise MissingPackage(f"reading {file} needs pyarrow; install it with: pip install pyarrow") from error
    except UnicodeDecodeError as error:
        raise SdlabError(
            f"cannot read {file}: it is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise SdlabError(
            f"cannot read {file}: {error.strerror or first_line(error)}; check the file"
        ) from error
    except (ValueError, EOFError, zlib.error) as error:
        if isinstance(error, SdlabError):
            raise
        raise SdlabError(
            f"cannot read {file}: {first_line(error).rstrip('.')}; it may be damaged or cut off"
        ) from error
    if not content.strip():
        raise SdlabError(f"{file} is empty; give a file with at least one text")
    if kind == ".txt":
        return [{"text": content}], []
    try:
        rows, notes = _json_rows(content, file, kind)
    except UnknownShape as error:
        raise UnknownShape(f"cannot read {file}: {error}") from error
    if "\\ud" in content.lower():  # half of a surrogate pair: JSON may escape it, but no file can contain it
        try:
            rows = json.loads(_SURROGATES.sub("\ufffd", json.dumps(rows, ensure_ascii=False)))
        except RecursionError as error:
            raise SdlabError(f"cannot read {file}: {_reason(error)}") from error
    return rows, notes


def read_frame(file: str | Path, errors: str = "strict") -> "pandas.DataFrame":
    """Return the rows of one file as a table of Python objects, with integers unchanged.

    Raises the errors of `read_rows`.
    """
    import pandas

    return pandas.DataFrame(read_rows(file, errors)[0], dtype=object)


def _parquet(file: Path) -> list[dict]:
    from pyarrow import parquet

    table = parquet.read_table(file)
    if len(set(table.column_names)) < len(table.column_names):
        raise SdlabError(f"{file} has two columns of one name; rename one")
    return table.to_pylist()


def _decoded(content: bytes, errors: str) -> str:
    """Return the text of a file with line feeds as line breaks; a byte-order mark selects UTF-16."""
    text = content.decode("utf-16" if content[:2] in _UTF16 else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_rows(content: str, file: Path, kind: str) -> tuple[list[dict], list[str]]:
    whole = kind in (".json", ".json.gz")
    if whole:
        try:
            value = _parse(content)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # extra data: JSON lines in a file named .json, which is common
                raise SdlabError(
                    f"cannot read {file}: line {error.lineno} is not JSON ({error.msg})"
                ) from error
        except (ValueError, RecursionError) as error:
            raise SdlabError(f"cannot read {file}: {_reason(error)}") from error
        else:
            return rows_of(value)
    values = []
    # splitlines() would also split at rare separators inside strings.
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append(_parse(line))
        except json.JSONDecodeError as error:
            if not values and not whole and (data := _one_value(content)) is not None:
                return rows_of(data)  # one value over several lines in a file named .jsonl
            raise SdlabError(f"cannot read {file}: line {number} is not JSON ({error.msg})") from error
        except (ValueError, RecursionError) as error:
            raise SdlabError(f"cannot read {file}: line {number}: {_reason(error)}") from error
    if len(values) == 1:
        return rows_of(values[0])
    return [row for value in values for row in line_rows(value)], []


def _one_value(content: str):
    """Return the whole text as one JSON value, or None when it is not one."""
    try:
        return _parse(content)
    except (ValueError, RecursionError):
        return None


class _Unreadable(ValueError):
    """JSON that can only be parsed by dropping a part of it."""


def _unique(pairs: list[tuple]) -> dict:
    names = dict(pairs)
    if len(names) < len(pairs):
        seen: set = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise _Unreadable(f"an object has the name {twice[:40]!r} twice; rename or remove one")
    return names


_parse: Callable = json.JSONDecoder(object_pairs_hook=_unique).decode


def _reason(error: Exception) -> str:
    """Return the reason why JSON that may be well formed cannot be read."""
    if isinstance(error, _Unreadable):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be read"
    return "it holds a number of thousands of digits; write it as a string"
