"""`sdlab markers`: count epistemic markers in files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sdlab.reading.texts import read_texts
from sdlab.text.markers import marker_table

if TYPE_CHECKING:
    import pandas
    from rich.table import Table


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


def render_markers(table: "pandas.DataFrame", title: str = "") -> "Table":
    """Return a rich table of a `marker_table`."""
    from rich.table import Table

    rate = table.columns[-1]
    out = Table(title=title or None, title_justify="left")
    out.add_column("marker")
    for heading in ("count", "texts with it", "per text", f"per 1,000 {rate.rsplit('_')[-1]}"):
        out.add_column(heading, justify="right")
    for row in table.to_dict("records"):
        numbers = (f"{row['count']:,}", f"{row['texts']:,}", f"{row['per_text']:.2f}", f"{row[rate]:.2f}")
        out.add_row(row["marker"], *numbers, style="bold" if row["marker"] == "total" else None)
    return out


def markers_command(
    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    match: Literal["word", "substring"] = "word",
    column: str | None = None,
) -> int:
    """Count the ten epistemic markers (wait, hmm, perhaps ...) in a file of completions.

    Args:
        path: A json, jsonl, parquet or txt file, or a folder of them.
        match: Whole words, or substrings as the paper counts.
        column: The column that holds the completions; by default found by its name.
    """
    from rich.console import Console
    from rich.text import Text

    table = markers_report(path, match, column)
    console = Console()
    console.print(Text(f"{path}: {table.attrs['source']}"))
    for note in table.attrs["notes"]:
        console.print(Text(note))
    console.print(Text(f"match={match}"), render_markers(table), sep="\n")
    return 0
