"""Run the tuning of the arena's learning rates (`sdlab reproduce arena-rates`) as a race of two seeds."""

from pathlib import Path

from sdlab import paths
from sdlab.study.arena_conditions import tuning_conditions
from sdlab.study.arena_rates import TUNING_SEEDS, left_behind
from sdlab.study.reproduction import reproduce


def tune(
    *,
    work: Path = Path("runs/reproduce"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
) -> list[Path]:
    """Train every method at every rate with the first tuning seed, then again where a rate may still win.

    `sdlab.study.arena_rates.rates_table` says which rates are left behind. The arguments and the errors are
    those of `reproduce`, and an interrupted tuning resumes. Returns the files that `reproduce` returned.
    """
    names = list(tuning_conditions())
    written = reproduce(names, TUNING_SEEDS[:1], work=work, output=output, jobs=jobs, model=model)
    behind = left_behind(names, output or paths.record_dir() / "runs")
    again = [name for name in names if name not in behind]
    if len(TUNING_SEEDS) > 1:
        written += reproduce(again, TUNING_SEEDS[1:], work=work, output=output, jobs=jobs, model=model)
    return list(dict.fromkeys(written))
