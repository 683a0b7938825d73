"""Reading texts from files, and the `sdlab markers` report about them."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError, first_line
from sdlab.measure.markers import marker_table

if TYPE_CHECKING:
    import pandas
    from rich.table import Table

ENDINGS = (".json", ".jsonl", ".parquet", ".txt")
# What a model wrote, most telling first; after these the column with the longest texts.
TEXT_COLUMNS = (
    "completion",
    "response",
    "message_thinking",
    "thinking",
    "reasoning",
    "output",
    "generation",
    "text",
)
_SURROGATES = re.compile("[\ud800-\udfff]")
LENGTH_COLUMNS = ("length", "completion_length", "num_tokens")


@dataclass(frozen=True)
class Texts:
    """What was read: N texts, their token counts when every file has them, and where they came from."""

    texts: list[str]
    lengths: list[int] | None
    columns: list[str]  # the column used, in order of first use ("" for plain text)
    files: list[Path]
    skipped: list[Path] = field(default_factory=list)  # files of a folder that hold no text column
    empty_rows: int = 0  # rows without a text


def read_texts(path: str | Path, column: str | None = None) -> Texts:
    """Texts of a json, jsonl, parquet or txt file, or of every such file in a folder and the folders in it.

    `column` names the column; None picks one (see TEXT_COLUMNS). A cell may be a chat: its contents are joined.
    Raises SdlabError on a missing, unreadable or empty file, on an unknown column, and when there is no text at all.
    """
    path = Path(path)
    if not path.exists():
        raise SdlabError(f"no file or folder {path}; give a {', '.join(ENDINGS)} file or a folder of them")
    folder = path.is_dir()
    files = (
        sorted(f for f in path.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
        if folder
        else [path]
    )
    files = [f for f in files if not any(part.startswith(".") for part in f.relative_to(path).parts)]
    texts, lengths, columns, used, skipped, empty_rows = [], [], [], [], [], 0
    for file in files:
        frame = read_frame(file)
        name = _pick(frame, column)
        if name is None and folder:
            skipped.append(file)
            continue
        if name is None:
            known = ", ".join(map(str, frame.columns)) or "none"
            what = "no column with text" if column is None else f"no text column {column!r}"
            raise SdlabError(f"{file} has {what}; its columns are: {known}; name one with --column")
        cells = [_text(cell) for cell in frame[name]]
        good = [cell is not None for cell in cells]
        texts += [cell for cell in cells if cell is not None]
        empty_rows += good.count(False)
        tokens = _lengths(frame)
        lengths = (
            None if tokens is None or lengths is None else lengths + [n for n, ok in zip(tokens, good) if ok]
        )
        columns += [name] if name not in columns else []
        used.append(file)
    if not texts:
        wanted = f" in a column {column!r}" if column else ""
        raise SdlabError(
            f"{path} holds no text{wanted}; give a {', '.join(ENDINGS)} file with text, or a folder of them"
        )
    return Texts(texts, lengths, columns, used, skipped, empty_rows)


def read_frame(file: str | Path, errors: str = "strict") -> "pandas.DataFrame":
    """The rows of one file. json: a list of objects, of strings, an object of lists, or JSON lines; txt: one row, `text`.

    errors="replace" reads bytes that are not UTF-8 as U+FFFD. Raises SdlabError when the file cannot be read, is empty, or is of another kind.
    """
    import pandas

    file = Path(file)
    kind = file.suffix.lower()
    if kind not in ENDINGS:
        raise SdlabError(
            f"cannot read {file}: it ends in {kind or 'nothing'!r}; use one of: {', '.join(ENDINGS)}"
        )
    try:
        if file.stat().st_size == 0:
            raise SdlabError(f"{file} is empty; give a file with at least one text")
        if kind == ".parquet":
            return pandas.read_parquet(file)
        content = file.read_text(encoding="utf-8-sig", errors=errors)
    except ImportError as error:
        raise SdlabError(f"reading {file} needs pyarrow; install it with: pip install pyarrow") from error
    except UnicodeDecodeError as error:
        raise SdlabError(
            f"cannot read {file}: it is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise SdlabError(
            f"cannot read {file}: {error.strerror or first_line(error)}; check the file"
        ) from error
    except ValueError as error:
        if isinstance(error, SdlabError):
            raise
        raise SdlabError(
            f"cannot read {file}: {first_line(error).rstrip('.')}; it may be damaged or cut off"
        ) from error
    if kind == ".txt":
        return pandas.DataFrame({"text": [content]})
    return _rows(_parse_json(content, file), file)


def _parse_json(content: str, file: Path):
    if file.suffix.lower() == ".json":
        try:
            return json.loads(content)
        except json.JSONDecodeError as error:
            if (
                error.msg != "Extra data"
            ):  # several values: JSON lines under the name .json, as many data sets have it
                raise SdlabError(
                    f"cannot read {file}: line {error.lineno} is not JSON ({error.msg})"
                ) from error
        except (ValueError, RecursionError) as error:
            raise SdlabError(f"cannot read {file}: {_beyond(error)}") from error
    rows = []
    for number, line in enumerate(
        content.split("\n"), 1
    ):  # splitlines() would cut at rare separators inside strings
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise SdlabError(f"cannot read {file}: line {number} is not JSON ({error.msg})") from error
            except (ValueError, RecursionError) as error:
                raise SdlabError(f"cannot read {file}: line {number}: {_beyond(error)}") from error
    return rows


def _beyond(error: Exception) -> str:
    """What JSON may say and Python will not read."""
    return (
        "it is nested too deeply to be read"
        if isinstance(error, RecursionError)
        else "it holds a number of thousands of digits; write it as a string"
    )


def _rows(data, file: Path) -> "pandas.DataFrame":
    import pandas

    if isinstance(data, dict) and data and all(isinstance(value, list) for value in data.values()):
        if len({len(value) for value in data.values()}) == 1:
            return pandas.DataFrame(data)
    rows = data if isinstance(data, list) else [data]
    if not rows:
        raise SdlabError(f"{file} holds no rows; give a file with at least one text")
    rows = [row if isinstance(row, dict) else {"text": row} for row in rows]
    try:
        return pandas.DataFrame(rows)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may escape and no file can hold
        return pandas.DataFrame(json.loads(_SURROGATES.sub("\ufffd", json.dumps(rows, ensure_ascii=False))))


def _text(cell) -> str | None:
    """The text of a cell: a string, or a chat (list of {"role", "content"}); None for anything else."""
    if isinstance(cell, str):
        return cell
    if hasattr(cell, "tolist"):  # parquet gives numpy arrays
        cell = cell.tolist()
    if (
        isinstance(cell, list)
        and cell
        and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in cell)
    ):
        return "\n".join(message["content"] for message in cell)
    return None


def _pick(frame: "pandas.DataFrame", column: str | None) -> str | None:
    sizes = {}
    for name in frame.columns if column is None else [column] if column in frame.columns else []:
        texts = [text for text in map(_text, frame[name]) if text is not None]
        if texts:
            sizes[name] = sum(map(len, texts)) / len(texts)
    lowered = {str(name).lower(): name for name in sizes}
    return next(
        (lowered[name] for name in TEXT_COLUMNS if name in lowered), max(sizes, key=sizes.get, default=None)
    )


def _lengths(frame: "pandas.DataFrame") -> list[int] | None:
    from pandas.api.types import is_numeric_dtype

    for name in LENGTH_COLUMNS:
        if (
            name in frame.columns and is_numeric_dtype(frame[name]) and (frame[name] >= 0).all()
        ):  # NaN is not >= 0
            return frame[name].astype(int).tolist()
    return None


def markers_report(path: str | Path, match: str = "word", column: str | None = None) -> "pandas.DataFrame":
    """The `marker_table` of the texts in `path`; `.attrs["source"]` is one sentence on what was read. Errors: `read_texts`."""
    read = read_texts(path, column)
    table = marker_table(read.texts, read.lengths, match)
    names = ", ".join(repr(name) for name in read.columns)
    parts = [
        f"{len(read.texts)} texts of column {names} in {len(read.files)} file{'s' * (len(read.files) > 1)}"
    ]
    if read.skipped:
        parts.append(f"skipped without text: {', '.join(file.name for file in read.skipped)}")
    if read.empty_rows:
        parts.append(f"{read.empty_rows} rows without text left out")
    parts.append(
        "rates per 1,000 " + ("words: the files give no token counts" if read.lengths is None else "tokens")
    )
    table.attrs["source"] = "; ".join(parts)
    return table


def render_markers(table: "pandas.DataFrame", title: str = "") -> "Table":
    """A rich table of a `marker_table`."""
    from rich.table import Table

    rate = table.columns[-1]
    out = Table(title=title or None, title_justify="left")
    out.add_column("marker")
    for heading in ("count", "texts with it", "per text", f"per 1,000 {rate.rsplit('_')[-1]}"):
        out.add_column(heading, justify="right")
    for row in table.itertuples(index=False):
        cells = (row.marker, f"{row.count:,}", f"{row.texts:,}", f"{row.per_text:.2f}", f"{row[-1]:.2f}")
        out.add_row(*cells, style="bold" if row.marker == "total" else None)
    return out


def markers_command(path: str, match: str = "word", column: str | None = None) -> None:
    """Print how often the ten markers occur in a json, jsonl, parquet or txt file, or in a folder of them."""
    from rich.console import Console
    from rich.text import Text

    table = markers_report(path, match, column)
    console = Console()
    console.print(Text(f"{path}: {table.attrs['source']}"))
    console.print(Text(f"match={match}"), render_markers(table), sep="\n")
