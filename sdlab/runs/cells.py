"""Many training runs, each in its own process with one thread, on this machine or on a Ray cluster.

A cell is one run with its run folder. A failed cell does not stop the others. The folder makes everything
repeatable: its lock lets one process write at a time, its finished marker says that the run is complete, and
a cell that was killed resumes from its last step.
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
    """Run the cells that are not finished, in this order, and return {name: reason} of those that failed.

    jobs: processes at once on this machine, one thread each (default: one per core that it grants). ray: the
    address HOST:PORT of a Ray cluster that this machine is part of, "auto" for the one running here, "local"
    to start one with `jobs` cores for this call. The cluster's machines must share the folders and have sdlab
    installed. A cell whose Ray worker dies is started again and resumes. timeout: seconds that a cell may
    take. on_done(cell, reason) is called as each cell ends, with "" for success. Ctrl-C stops the running
    cells; every folder can be resumed.

    Raises SdlabError for bad arguments and for a cluster that does not answer.
    """
    if jobs and ray not in (None, "local"):
        raise SdlabError(
            f"jobs={jobs} is not allowed with the Ray cluster {ray}, which runs one cell per core; "
            "leave jobs out"
        )
    waiting, failed = [cell for cell in cells if not _is_finished(cell)], {}
    ended = (
        run_on_ray(waiting, ray, jobs, timeout) if ray else run_here(waiting, jobs or usable_cores(), timeout)
    )
    for cell, reason in ended:
        if reason:
            failed[cell.name] = reason
        if on_done:
            on_done(cell, reason)
    return failed


def _is_finished(cell: Cell) -> bool:
    with suppress(SdlabError):  # reported when the cell is run
        return is_done(cell)
    return False
