"""The table of differences between TRL 1.16, the paper and a job, with the source of the job's choice.

There is one row per choice. `tests/test_scale_differences.py` checks every row against the installed TRL. The
paper is arXiv 2603.24472 with its code; "not stated" means that neither states the choice. The defaults of
TRL are those of GRPOConfig, trl.experimental.sdpo.SDPOConfig and SFTConfig.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdlab.scale.differences_grpo import grpo_rows
from sdlab.scale.differences_repair import repair_rows
from sdlab.scale.differences_sdpo import sdpo_rows
from sdlab.scale.differences_sft import sft_rows
from sdlab.scale.differences_shared import Difference, rollout_rows, shared_rows
from sdlab.scale.job import Job

if TYPE_CHECKING:
    from rich.console import Console


def differences(job: Job) -> list[Difference]:
    """Return the rows that concern the method of a job, also those where TRL's default is already right."""
    rows = shared_rows(job)
    if job.method == "sft":
        return rows + sft_rows()
    own = {"grpo": grpo_rows, "sdpo": sdpo_rows, "repair": repair_rows}[job.method]
    return rows + rollout_rows(job) + own(job)


def render(rows: Sequence[Difference], console: "Console | None" = None) -> None:
    """Print the table of differences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="TRL's defaults, the paper, and this run", title_justify="left", show_lines=False)
    for name in ("what", "TRL's default", "paper", "this run", "how"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.trl, row.paper, row.run, row.how)
    console = console or Console()
    if not console.is_terminal:  # a log file, where 80 columns would break every word
        console = Console(file=console.file, width=180)
    console.print(table, markup=False)
