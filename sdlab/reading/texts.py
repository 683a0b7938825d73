"""The texts that models wrote, from files, and the `sdlab markers` report about them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.reading.column_names import is_known
from sdlab.reading.columns import cell_of, find_columns
from sdlab.reading.files import Rollouts, rollouts_of, token_counts
from sdlab.reading.json_rows import UnknownShape
from sdlab.reading.rows import ENDINGS, ending, read_rows

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Texts:
    """What was read: N texts, their token counts when every file has them, and where they came from."""

    texts: list[str]
    lengths: list[int] | None
    columns: list[str]  # the columns used, thinking first, in order of first use ("text" for plain text)
    files: list[Path]
    skipped: dict[Path, str] = field(
        default_factory=dict
    )  # files of a folder without a model's text, and why
    notes: list[str] = field(default_factory=list)  # on what was left out, each with its file's name
    left_out: int = 0  # completions that are missing in the files


def read_texts(path: str | Path, column: str | None = None) -> Texts:
    """Return what models wrote in a json, jsonl, parquet or txt file, or in all such files of a folder.

    Reasoning is part of a text; prompts and the turns of users, systems and tools are not. `column` names the
    column, which is then read alone. None takes the completions and the thinking beside them
    (`sdlab.reading.files`), in a single file without known names the column with the longest texts.
    Raises SdlabError on a missing, unreadable or empty file, on an unknown column, and when there is no text
    at all.
    """
    path = Path(path)
    if not path.exists():
        raise SdlabError(f"no file or folder {path}; give a {', '.join(ENDINGS)} file or a folder of them")
    folder = path.is_dir()
    files = sorted(file for file in path.rglob("*") if ending(file) and file.is_file()) if folder else [path]
    files = [f for f in files if not any(part.startswith(".") for part in f.relative_to(path).parts)]
    texts, counts, columns, used, skipped, notes, left_out = [], [], [], [], {}, [], 0
    for file in files:
        try:
            records, about = read_rows(file)
            rollouts, tokens = _rollouts(records, file, column, folder, about)
        except _NoText as error:
            if not folder:
                raise SdlabError(f"{file} has {error}") from error
            skipped[file] = str(error)
            continue
        except UnknownShape as error:
            if not folder:
                raise
            skipped[file] = str(error).removeprefix(f"cannot read {file}: ")
            continue
        texts += [
            f"{row['earlier']}\n\n{row['completion']}" if row["earlier"] else row["completion"]
            for row in rollouts.rows
        ]
        counts.append(tokens)
        names = [rollouts.columns[role] for role in ("thinking", "response") if role in rollouts.columns]
        columns += [name for name in names if name not in columns]
        notes += [f"{file.name}: {note}" for note in rollouts.notes if not note.startswith("columns")]
        left_out += rollouts.left_out
        used.append(file)
    unread = [(file, why) for file, why in skipped.items() if not why.startswith("no column with text")]
    notes += [f"{file.name}: left out; {why}" for file, why in unread]
    if not texts:
        wanted = f" in a column {column!r}" if column else ""
        why = "".join(f"; {file.name} has {reason}" for file, reason in list(skipped.items())[:3])
        raise SdlabError(
            f"{path} holds no text{wanted}{why}; "
            f"give a {', '.join(ENDINGS)} file with text, or a folder of them"
        )
    lengths = None if None in counts else [count for one in counts for count in one]
    return Texts(texts, lengths, columns, used, skipped, notes, left_out)


class _NoText(SdlabError):
    """A file in which no model wrote anything."""


def _rollouts(
    records: list[dict], file: Path, column: str | None, folder: bool, about: list[str]
) -> tuple[Rollouts, list[int] | None]:
    """The completions of a file, and their token counts where these count all of the text."""
    names = list(dict.fromkeys(str(name) for row in records for name in row))
    known = ", ".join(names) or "none"
    try:
        found = find_columns(records, {})
    except SdlabError:
        found = {}
    if column is None and not found:
        if folder or (longest := _longest(records, names)) is None:
            raise _NoText(
                f"no column with text that a model wrote; its columns are: {known}; name one with --column"
            )
        column = longest
    whole = column is None or (column == found.get("response") and "thinking" not in found)
    if not whole:
        if not any(isinstance(cell_of(row, column), (str, list, dict)) for row in records):
            raise _NoText(f"no text column {column!r}; its columns are: {known}; name one with --column")
        records = [{column: cell_of(row, column)} for row in records]
    try:
        rollouts = rollouts_of(records, file, {} if column is None else {"response": column}, about)
    except SdlabError as error:
        reason = str(error).removeprefix(f"{file}: ").removesuffix("; name another with --response")
        raise _NoText(f"no text that a model wrote: {reason}; name one with --column") from error
    earlier = any(row["earlier"] for row in rollouts.rows)
    return rollouts, token_counts(rollouts.rows)[0] if whole and not earlier else None


def _longest(records: list[dict], names: list[str]) -> str | None:
    """The column of unknown name with the longest texts of several words, so no hashes and identifiers."""
    sizes = {}
    for name in names:
        texts = [row[name] for row in records if isinstance(row.get(name), str)]
        if texts and not is_known(name) and 2 * sum(len(text.split()) > 1 for text in texts) >= len(texts):
            sizes[name] = sum(map(len, texts)) / len(texts)
    return max(sizes, key=lambda name: sizes[name], default=None)
