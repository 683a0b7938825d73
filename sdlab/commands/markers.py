"""`sdlab markers`: count epistemic markers in files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sdlab.commands.tables import Column, TableOptions, note, print_table
from sdlab.reading.texts import read_texts
from sdlab.text.markers import marker_table

if TYPE_CHECKING:
    import pandas


def markers_report(path: str | Path, match: str = "word", column: str | None = None) -> "pandas.DataFrame":
    """Return the `marker_table` of the texts in `path`.

    `.attrs["source"]` is one sentence on what was read, `.attrs["notes"]` a list of sentences on each file.

    Raises the errors of `read_texts`.
    """
    read = read_texts(path, column)
    table = marker_table(read.texts, read.lengths, match)
    names = ", ".join(repr(name) for name in read.columns)
    several = "s" * (len(read.files) > 1)
    parts = [f"{len(read.texts):,} texts of column {names} in {len(read.files):,} file{several}"]
    if read.skipped:
        parts.append(f"skipped without text: {', '.join(file.name for file in read.skipped)}")
    if read.left_out:
        parts.append(f"{read.left_out:,} completions are missing and left out")
    parts.append(
        "rates per 1,000 " + ("words: the files give no token counts" if read.lengths is None else "tokens")
    )
    table.attrs["source"] = "; ".join(parts)
    table.attrs["notes"] = read.notes
    return table


def print_markers(table: "pandas.DataFrame", options: TableOptions = TableOptions(), title: str = "") -> None:
    """Print a `marker_table`."""
    rate = str(table.columns[-1])
    columns = [
        Column("count", [f"{value:,}" for value in table["count"]]),
        Column("texts\nwith it", [f"{value:,}" for value in table["texts"]], optional=1),
        Column("per text", [f"{value:.2f}" for value in table["per_text"]]),
        Column(f"per 1,000\n{rate.rsplit('_')[-1]}", [f"{value:.2f}" for value in table[rate]]),
    ]
    print_table(Column("marker", list(table["marker"])), columns, table, options, title=title)


def markers_command(
    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    match: Literal["word", "substring"] = "word",
    column: str | None = None,
    options: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
) -> int:
    """Count the ten epistemic markers (wait, hmm, perhaps ...) in a file of completions.

    Args:
        path: A json, jsonl, parquet, txt or .gz file, a folder of them, or a folder with results or a run.
        match: Whole words, or substrings as the paper counts.
        column: The column that holds the completions; by default found by its name.
        options: The form of the table.
    """
    table = markers_report(path, match, column)
    note(options, [f"{path}: {table.attrs['source']}", *table.attrs["notes"], f"match={match}"])
    print_markers(table, options)
    return 0
