"""`sdlab leaderboard`: rank the repairs of lab 4."""

import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sdlab.commands.options import default
from sdlab.errors import SdlabError
from sdlab.files import write_atomic
from sdlab.labs.leaderboard import SECRET, UNTRAINED, Budget, leaderboard, sandbox_notes
from sdlab.labs.ranking import Entry

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = ("score", "tokens", "in_domain")


def leaderboard_command(
    files: tyro.conf.Positional[tuple[Path, ...]],
    secret: str | None = None,
    seeds: int = Budget.seeds,
    steps: int = Budget.config.steps,
    problems: int = Budget.problems,
    timeout: float = Budget.timeout,
    memory_gb: float = Budget.memory_gb,
    jobs: int = default(leaderboard, "jobs"),
    output: Path = Path("leaderboard.csv"),
    model: str = Budget.model,
) -> int:
    """Train the repairs of lab 4 on hidden seeds and problems, and rank them on other hidden problems.

    Args:
        files: Python files or lab-4 notebooks that define `repair`.
        secret: Chooses seeds and problems; it is safer in the variable SDLAB_LEADERBOARD_SECRET.
        seeds: Training runs of each submission; with fewer than three no difference is significant.
        steps: Training steps, the same for all submissions.
        problems: Hidden problems of each of three kinds.
        timeout: Seconds for the training of one submission.
        memory_gb: Memory of its process.
        jobs: Submissions trained at once, each with one thread.
        output: The table as csv; finished results are kept beside it, in <output>_results.
        model: The organism, or a folder with a model.
    """
    budget = Budget(
        replace(Budget.config, steps=steps),
        seeds,
        problems,
        timeout=timeout,
        memory_gb=memory_gb,
        model=model,
    )
    return rank_submissions(files, secret, budget, output, jobs)


def rank_submissions(
    files: Sequence[Path], secret: str | None, budget: Budget, output: Path, jobs: int
) -> int:
    """Print the table of the leaderboard and write it as csv; return 1 when a submission failed.

    Finished results are kept in the folder <output>_results beside the table and reused by the next call.
    """
    from rich.console import Console

    if output.is_dir() or not output.name:  # before the training, not after
        raise SdlabError(f"{output} is a folder; name the csv file of the table with --output")
    console, kept = Console(), output.with_name(output.stem + "_results")
    ranked = leaderboard(
        files,
        secret or os.environ.get(SECRET, ""),
        budget,
        jobs=jobs,
        kept=kept,
        on_done=lambda entry: console.print(f"{entry.name}: {_said(entry)}", markup=False, highlight=False),
    )
    counts = [place for place, entry in ranked if not entry.reason]
    rows = []
    for place, entry in ranked:
        figures = {} if entry.reason else {name: entry.interval(name) for name in FIGURES}
        row: dict[str, object] = {"rank": place, "submission": entry.name}
        for name in FIGURES:
            for key in ("mean", "low", "high"):
                column = name if key == "mean" else f"{name}_{key}"
                row[column] = round(getattr(figures[name], key), 4) if figures else ""
        rows.append(row | {"note": entry.reason or ("tied" if counts.count(place) > 1 else "")})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(output, text.getvalue())  # before the table, whose reader may go away (`| head`)
    title = f"Out of distribution, {budget.seeds} hidden seeds, {budget.config.steps} steps; 95% intervals"
    console.print(title, markup=False, highlight=False)
    console.print(ranks_table(ranked))
    for _, entry in ranked:
        if entry.reason:
            console.print(f"{entry.name}: {entry.reason}", markup=False, highlight=False)
    console.print(f"wrote {output}; finished results are in {kept}", markup=False)
    for line in sandbox_notes(ranked):
        print(line, file=sys.stderr)
    return 1 if any(entry.reason for _, entry in ranked) else 0


def _said(entry: Entry) -> str:
    """Return what is printed when a submission has its result."""
    reused = entry.closed_off is None and entry.name != UNTRAINED
    return entry.reason or ("as judged before" if reused else "judged")


def ranks_table(ranked: Sequence[tuple[int, Entry]]) -> "Table":
    """Return the table of the leaderboard for a terminal of 80 columns or more, best first.

    An equals sign after a rank says that it is shared. Long names take several lines.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    counts = [place for place, entry in ranked if not entry.reason]
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), caption="=: tied with others of this rank")
    table.add_column("rank", no_wrap=True)
    table.add_column("submission", overflow="fold", max_width=24)
    for column in ("score", "tokens", "in-domain"):
        table.add_column(column, no_wrap=True)
    for place, entry in ranked:
        rank = f"{place}=" if not entry.reason and counts.count(place) > 1 else str(place)
        figures = ["failed", "", ""] if entry.reason else [str(entry.interval(name)) for name in FIGURES]
        table.add_row(rank, escape(entry.name), *figures)
    return table
