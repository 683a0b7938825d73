"""Many training runs: each in a process of its own with one thread, on this machine or as tasks of a Ray cluster; a failed one stops no other.

A cell is one run with its run folder. The folder makes everything repeatable: its lock lets one process write at a time, its
finished marker says that nothing is left to do, and a cell that was killed goes on from its last step.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from sdlab.errors import SdlabError
from sdlab.runs.cell import Cell, is_done
from sdlab.runs.processes import run_here, usable_cores
from sdlab.runs.ray_cluster import run_on_ray
from sdlab.settings import Count, Positive, checked


@checked
def run_cells(
    cells: Sequence[Cell],
    *,
    jobs: Count | None = None,
    ray: str | None = None,
    timeout: Positive | None = None,
    on_done: Callable[[Cell, str], None] | None = None,
) -> dict[str, str]:
    """Run the cells that are not finished, in this order; returns {name: reason} of those that failed.

    jobs: processes at once on this machine, one thread each (default: one per core it grants). ray: the address HOST:PORT of a
    Ray cluster that this machine is part of, "auto" for the one running here, "local" to start one with `jobs` cores for the
    time being; its machines must share the folders and have sdlab installed. A cell whose Ray worker dies is started again
    and goes on. timeout: seconds a cell may take. on_done(cell, reason) is called as each ends, with "" for success.
    Ctrl-C stops what runs; every folder can go on. Raises SdlabError for bad arguments and a cluster that does not answer.
    """
    if jobs and ray not in (None, "local"):
        raise SdlabError(
            f"jobs={jobs} is for this machine alone; the Ray cluster {ray} has as many at once as it has cores"
        )
    waiting, failed = [cell for cell in cells if not _left_alone(cell)], {}
    ended = (
        run_on_ray(waiting, ray, jobs, timeout) if ray else run_here(waiting, jobs or usable_cores(), timeout)
    )
    for cell, reason in ended:
        if reason:
            failed[cell.name] = reason
        if on_done:
            on_done(cell, reason)
    return failed


def _left_alone(cell: Cell) -> bool:
    with suppress(SdlabError):  # told when the cell is run
        return is_done(cell)
    return False
