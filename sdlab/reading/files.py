"""Read rollouts from files: one row for every completion, and notes on what was read and left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.reading.columns import find_columns
from sdlab.reading.completions import Reading
from sdlab.reading.notes import sentences
from sdlab.reading.rows import read_rows
from sdlab.reading.values import number_of

FEW = 8  # characters; in a shorter completion the numbers of characters and of tokens may be equal


@dataclass(frozen=True)
class Rollouts:
    """The completions of one file.

    rows: one dict per completion: row (its number in the file), prompt, truth and completion (texts, "" for
    none), id, model and benchmark (None when the file does not contain them), earlier (the model's text in
    earlier turns), tokens, truncated and recorded (1.0, 0.0 or None). columns: role -> column. notes:
    sentences on what was read, and on what was left out and why.
    """

    file: Path
    rows: list[dict]
    columns: dict[str, str]
    notes: list[str]
    left_out: int  # completions that are missing in the file


def read_rollouts(
    file: str | Path, columns: Mapping[str, str | None] | None = None, errors: str = "strict"
) -> Rollouts:
    """Return the completions in a json, jsonl, parquet or txt file.

    columns: role -> column, for columns that are not recognised by their names.
    Raises SdlabError when the file cannot be read whole, a column does not exist, or no row has a completion.
    """
    records, notes = read_rows(file, errors)
    return rollouts_of(records, file, columns, notes)


def rollouts_of(
    records: list[dict],
    file: str | Path,
    columns: Mapping[str, str | None] | None = None,
    notes: list[str] | None = None,
) -> Rollouts:
    """Return the completions in the rows of `file`.

    Raises the errors of `read_rollouts`.
    """
    file, notes = Path(file), list(notes or [])
    try:
        roles = find_columns(records, columns or {})
    except SdlabError as error:
        raise SdlabError(f"{file}: {error}") from error
    reading = Reading(roles)
    for number, record in enumerate(records):
        reading.take(number, record)
    if not reading.rows:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reading.tally.left_out.items())
        names = ", ".join(map(str, records[0])) if records else "none"
        where = roles.get("response", roles.get("thinking"))
        raise SdlabError(
            f"{file}: no row has a completion in column {where!r} ({why}); the columns are: {names}; "
            "name another with --response"
        )
    all_names = list(dict.fromkeys(str(name) for row in records for name in row))
    notes += sentences(reading.tally, reading.rows, roles, all_names)
    return Rollouts(file, reading.rows, roles, notes, reading.tally.left_out.total())


def token_counts(rows: list[dict]) -> tuple[list[int] | None, str]:
    """Return (the token counts of the completions, "") if every row has one, otherwise (None, reason)."""
    numbers = [number_of(row["tokens"]) for row in rows]
    counts = [number for number in numbers if number is not None and 0 <= number < float("inf")]
    missing = len(rows) - len(counts)
    if missing == len(rows):
        return None, "the file has no token counts"
    if missing:
        return None, f"{missing:,} completions have no token count"
    sizes = [len(row["completion"]) for row in rows]
    for what, there in (("characters", sizes), ("words", [len(row["completion"].split()) for row in rows])):
        same = sum(
            abs(count - size) <= (what == "characters") for count, size in zip(counts, there, strict=True)
        )
        if 2 * same > len(rows) and sorted(sizes)[len(rows) // 2] >= FEW * (1 if what == "characters" else 5):
            return None, f"the counts are the numbers of {what}"
    return [int(count) for count in counts], ""
