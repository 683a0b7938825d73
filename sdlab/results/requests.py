"""The problems that an evaluation names: benchmarks, splits of the world, and files."""

from collections.abc import Sequence
from pathlib import Path

from sdlab.benchmarks.catalogue import BENCHMARKS
from sdlab.benchmarks.problems import ProblemSource
from sdlab.benchmarks.sources import local_file
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.world.problems import Problem
from sdlab.world.splits import SPLITS, load_split


def requests(benchmarks: Sequence[str | ProblemSource]) -> dict[str, ProblemSource | None]:
    """Return name -> source for benchmarks; the source is None for a split and for a benchmark as it is.

    Raises SdlabError when two sources have the same name.
    """
    requested: dict[str, ProblemSource | None] = {}
    for one in benchmarks:
        origin = ProblemSource(one) if isinstance(one, str) else one
        own = origin.is_own or origin != ProblemSource(origin.name)
        value, label = (origin if own else None), origin.label
        if requested.get(label, value) != value:
            raise SdlabError(f"two files of problems are called {label}; rename one, or evaluate them apart")
        requested[label] = value
    return requested


def source_file(benchmark: str, source: str) -> dict[str, str] | None:
    """Return name and sha256 of the file that a benchmark is read from; None for the hub.

    Raises SdlabError for a file that is not called like the benchmark's own, because its results would be
    stored and compared as the benchmark's, and for a split of the world, which has no file.
    """
    name, _, split = benchmark.partition(":")
    if name in SPLITS:
        raise SdlabError(
            f"--source {source} does nothing for {benchmark}, a split of the world, which has no file; "
            f"leave it out, or use --problems {source}"
        )
    if name not in BENCHMARKS:
        return None
    split = BENCHMARKS[name].split(split or None)
    path = local_file(BENCHMARKS[name], split, source)
    own = BENCHMARKS[name].files[split]
    if path is None:
        return None
    if Path(path.name).stem != Path(own).stem:
        raise SdlabError(
            f"{path.name} is not the file of {benchmark}, which is called {own}, so its results may not be "
            f"stored as {benchmark}; use --problems {source}"
        )
    return {"name": path.name, "sha256": sha256(path)}


def load_problems(
    benchmark: str, source: str | None = None, limit: int | None = None, seed: int = 0
) -> list[Problem]:
    """Return the first `limit` problems of a split of the world, or of a benchmark.

    A benchmark is named by its name, or by name:split where it has several.
    """
    if benchmark in SPLITS:
        return load_split(benchmark, seed, limit)
    from sdlab.benchmarks.load import load_benchmark

    name, _, split = benchmark.partition(":")
    return load_benchmark(name, split=split or None, source=source, limit=limit)
