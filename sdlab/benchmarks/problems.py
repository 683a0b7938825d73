"""Problems by one name: a split of the world, a real benchmark, or a file."""

from pathlib import Path

from sdlab.benchmarks import files
from sdlab.benchmarks.catalogue import BENCHMARKS
from sdlab.errors import SdlabError, unknown
from sdlab.world.problems import Problem
from sdlab.world.splits import SPLITS, load_split


def load_problems(source: str | Path, limit: int | None = None) -> list[Problem]:
    """Load the problems of a split ("unseen-types"), a benchmark ("math500") or a file ("my.jsonl").

    limit: how many of the first problems; all when None. A file has one column for the question and one for
    the answer (see `sdlab.benchmarks.files`).
    Raises SdlabError for an unknown name, a file that cannot be read, and a limit below 1 or above the number
    of problems.
    """
    name = str(source)
    if Path(name).is_file():
        return files.load_problems(name, limit)
    if name in SPLITS:
        problems = load_split(name)
    elif name in BENCHMARKS:
        from sdlab.benchmarks.load import load_benchmark

        problems = load_benchmark(name)
    elif Path(name).suffix or "/" in name or "\\" in name:
        raise SdlabError(
            f"no file {name}; give a json, jsonl or parquet file of problems, a split or a benchmark"
        )
    else:
        raise unknown("split or benchmark", name, [*SPLITS, *BENCHMARKS])
    if limit is not None and not 1 <= limit <= len(problems):
        raise SdlabError(f"limit={limit} is not allowed for {name}, which has {len(problems)} problems")
    return list(problems[:limit])
