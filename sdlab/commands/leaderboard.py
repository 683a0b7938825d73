"""`sdlab leaderboard`: the ranking of lab 4's repairs."""

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sdlab.labs.isolation import left_open
from sdlab.labs.leaderboard import SECRET, Budget, leaderboard


def leaderboard_command(
    files: Sequence[Path], secret: str | None, budget: Budget, output: Path, jobs: int = 1
) -> int:
    """Print the table and write it as csv; returns 1 when a submission failed. Behind `sdlab leaderboard`.

    Finished results are kept in the folder <output>_results beside the table, and taken from there when it is run again.
    """
    from rich.console import Console
    from rich.table import Table

    console, kept = Console(), output.with_name(output.stem + "_results")
    ranked = leaderboard(
        files, secret or os.environ.get(SECRET, ""), budget, jobs=jobs, kept=kept,
        on_done=lambda entry: console.print(f"{entry.name}: {entry.reason or ('judged' if entry.walls is not None else 'as judged before')}", markup=False, highlight=False),
    )  # fmt: skip
    counts = [place for place, entry in ranked if not entry.reason]
    table = Table(
        title=f"Out of distribution, {budget.seeds} hidden seeds, {budget.config.steps} steps; 95% intervals"
    )
    for column in ("rank", "submission", "score", "tokens", "in-domain", ""):
        table.add_column(column)
    rows = []
    for place, entry in ranked:
        note = entry.reason or ("tied" if counts.count(place) > 1 else "")
        figures = (
            {} if entry.reason else {what: entry.interval(what) for what in ("score", "tokens", "in_domain")}
        )
        table.add_row(
            str(place),
            _plain(entry.name),
            *(str(figures.get(what, "")) for what in ("score", "tokens", "in_domain")),
            _plain(note),
        )
        row = {"rank": place, "submission": entry.name}
        for what in ("score", "tokens", "in_domain"):
            numbers = vars(figures[what]) if figures else dict.fromkeys(("mean", "low", "high"), "")
            row |= {
                f"{what}{'' if key == 'mean' else '_' + key}": round(value, 4) if value != "" else ""
                for key, value in numbers.items()
            }
        rows.append(row | {"note": note})
    console.print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    console.print(f"wrote {output}; finished results are in {kept}", markup=False)
    if line := left_open(entry.walls for _, entry in ranked if entry.walls is not None):
        print(line, file=sys.stderr)
    return 1 if any(entry.reason for _, entry in ranked) else 0


def _plain(text: str) -> str:
    """Text that rich shows as it is."""
    from rich.markup import escape

    return escape(text)
