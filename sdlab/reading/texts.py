"""Read the texts that models wrote from files."""

from dataclasses import dataclass, field
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import files_below
from sdlab.reading.column_names import is_known
from sdlab.reading.columns import cell_of, find_columns
from sdlab.reading.files import Rollouts, rollouts_of, token_counts
from sdlab.reading.json_rows import UnknownShape
from sdlab.reading.rows import ENDINGS, ending, read_rows


@dataclass(frozen=True)
class Texts:
    """N texts, their token counts when every file has them, and the files they came from."""

    texts: list[str]
    lengths: list[int] | None
    columns: list[str]  # the columns used, thinking first, in order of first use ("text" for plain text)
    files: list[Path]
    skipped: dict[Path, str] = field(default_factory=dict)  # file without a model's text -> reason
    notes: list[str] = field(default_factory=list)  # on what was left out, each with its file's name
    left_out: int = 0  # completions that are missing in the files


def read_texts(path: str | Path, column: str | None = None) -> Texts:
    """Return the texts of models in a json, jsonl, parquet or txt file, or in all such files of a folder.

    Of a folder that `sdlab evaluate`, `import` or `train` wrote only the file of completions is read.
    Reasoning is part of a text. Prompts and the turns of users, systems and tools are not. `column` names the
    only column to read. Without it the function reads the completions and their thinking
    (`sdlab.reading.files`); in a single file without known names it reads the column with the longest texts.
    Raises SdlabError for a missing, unreadable or empty file, for an unknown column, and when there is no
    text.
    """
    path = paths.given(path)
    if not path.exists():
        raise SdlabError(f"no file or folder {path}; give a {', '.join(ENDINGS)} file or a folder of them")
    folder = path.is_dir()
    below = files_below(path) if folder else []
    files = [f for f in below if ending(f) and f.is_file() and not beside_samples(f)] if folder else [path]
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
        where = f" in a column {column!r}" if column else ""
        why = "".join(f"; {file.name} has {reason}" for file, reason in list(skipped.items())[:3])
        raise SdlabError(
            f"{path} holds no text{where}{why}; "
            f"give a {', '.join(ENDINGS)} file with text, or a folder of them"
        )
    lengths = None if None in counts else [count for one in counts for count in one]
    return Texts(texts, lengths, columns, used, skipped, notes, left_out)


def beside_samples(file: Path) -> bool:
    """Return whether a file lies in a folder of a result or of a run, and is not its file of completions."""
    folder = file.parent
    result = (folder / "result.json").is_file() and (folder / "samples.jsonl.gz").is_file()
    run = (folder / "config.json").is_file() and (folder / "steps.jsonl").is_file()
    return (result and file.name != "samples.jsonl.gz") or (run and file.name != "samples.jsonl")


class _NoText(SdlabError):
    """A file has no text that a model wrote."""


def _rollouts(
    records: list[dict], file: Path, column: str | None, folder: bool, about: list[str]
) -> tuple[Rollouts, list[int] | None]:
    """Return the completions of a file, and their token counts if these count the whole text."""
    names = list(dict.fromkeys(str(name) for row in records for name in row))
    known = ", ".join(names) or "none"
    try:
        roles = find_columns(records, {})
    except SdlabError:
        roles = {}
    if column is None and not roles:
        if folder or (longest := _longest(records, names)) is None:
            raise _NoText(
                f"no column with text that a model wrote; its columns are: {known}; name one with --column"
            )
        column = longest
    whole = column is None or (column == roles.get("response") and "thinking" not in roles)
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
    """Return the column of unknown name with the longest texts of several words.

    Hashes and identifiers are single words, so their columns do not count.
    """
    sizes = {}
    for name in names:
        texts = [row[name] for row in records if isinstance(row.get(name), str)]
        if texts and not is_known(name) and 2 * sum(len(text.split()) > 1 for text in texts) >= len(texts):
            sizes[name] = sum(map(len, texts)) / len(texts)
    return max(sizes, key=lambda name: sizes[name], default=None)
