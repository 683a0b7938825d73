"""Print results as a table, with the notes that a reader of the numbers needs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdlab.commands.tables import Column, TableOptions, note, print_table

if TYPE_CHECKING:
    import pandas

    from sdlab.results.result import Result

LABELS = {
    "reward": "score (avg@n)",
    "pass@16": "pass@16",
    "length": "length",
    "markers": "markers",
    "density": "markers\nper 1,000",
    "truncated": "cut off",
    "markers_substring": "markers\n(substring)",
    "entropy": "entropy",
}
# Columns that are left out of a narrow table; those with larger numbers first.
OPTIONAL = {"entropy": 5, "markers_substring": 4, "density": 3, "pass@16": 2, "truncated": 1}
NO_ANSWER = "No answer: completions without a readable answer, which count as wrong."


def show(results: "Sequence[Result]", options: TableOptions = TableOptions()) -> None:
    """Print the table of results, the notes needed to read it, and the folders of the results."""
    from sdlab.results.comparison import comparison

    print_results(comparison(results, results[0].model), results, options)
    for result in results:
        # The warnings are printed with the table.
        notes = [sentence for sentence in result.notes if sentence not in result.warnings]
        note(options, [f"{result.model}, {result.benchmark}: {sentence}" for sentence in notes])
        if result.folder:
            note(options, [f"wrote {result.folder}"])


def print_results(
    table: "pandas.DataFrame", results: "Sequence[Result]", options: TableOptions = TableOptions()
) -> None:
    """Print a `comparison` of results, and why a score cannot be used."""
    from sdlab.results.comparison import wide

    cells = wide(table, tuple(LABELS))
    by = {(result.benchmark, result.model): result for result in results}
    rows = [by[str(benchmark), str(model)] for benchmark, model in cells.index]
    columns = []
    for name in map(str, cells.columns):
        texts = [str(cell) for cell in cells[name]]
        if name == "reward":
            texts = [f"{text} !" if row.warnings else text for text, row in zip(texts, rows, strict=True)]
        short = None if name == "reward" else [text.partition(" [")[0] for text in texts]
        columns.append(Column(LABELS[name], texts, short, OPTIONAL.get(name, 0)))
    missing = Column("no answer", [row.unreadable for row in rows])
    columns.insert(1 + next((i for i, c in enumerate(columns) if c.heading == LABELS["markers"]), 0), missing)
    print_table(
        Column("model", [row.model for row in rows]),
        columns,
        table,
        options,
        title="Score, length and markers, with 95% intervals over problems",
        groups=[row.benchmark for row in rows],
    )
    note(options, [NO_ANSWER] if any(row.unreadable_count for row in rows) else [])
    for result in rows:
        words = [f"{result.model}, {result.benchmark}: {sentence}" for sentence in result.warnings]
        note(options, words, "bold yellow")
