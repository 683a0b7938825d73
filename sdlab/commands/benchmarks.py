"""`sdlab benchmarks`: names, sizes, sources and licences; with a name, its counts and an example."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sdlab.benchmarks.catalogue import BENCHMARKS, Benchmark, find_benchmark
from sdlab.benchmarks.load import load_with_report
from sdlab.benchmarks.sources import local_file, missing_libraries
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from rich.table import Table

GRADED = {"math": "\\boxed{}", "choice": "a letter", "calls": "tool calls", "": "not graded"}
WIDE = 110  # columns of a terminal that also shows licences and sources


def benchmarks_command(
    name: tyro.conf.Positional[str | None] = None, split: str | None = None, source: Path | None = None
) -> int:
    """List the real benchmarks; with a name, print its counts and an example.

    The list counts the files on this machine and downloads nothing. With a name, a file that is not on this
    machine is read from the hub.

    Args:
        name: One benchmark; by default all are listed.
        split: train or test, where a benchmark has both.
        source: A parquet, json or jsonl file, or a folder of them; by default the real data, else the hub.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if name is None:
        if split is not None:
            raise SdlabError(
                f"--split {split} is for one benchmark; name it: sdlab benchmarks NAME --split {split}"
            )
        if source is not None and not source.is_dir():
            raise SdlabError(
                f"--source {source} is no folder; the list needs the folder with the benchmarks' files, "
                "and a file needs the benchmark's name"
            )
        wide = console.width >= WIDE
        console.print(benchmarks_table(source, wide))
        print("(in brackets: expected, not counted on this machine)")
        if missing_libraries():
            print(f"Nothing was counted: {missing_libraries()}")
        if not wide:
            print("Licence and source of one: sdlab benchmarks NAME")
        return 0
    benchmark = find_benchmark(name)
    one_split = split or len(benchmark.files) == 1
    for part in [benchmark.split(split)] if one_split else _splits(benchmark, source):
        problems, report = load_with_report(name, split=part, source=source)
        print(f"{name} ({part}): {benchmark.about}")
        print(
            f"  rows {report.raw:,}; distinct questions {report.distinct:,}; problems {report.problems:,}; "
            f"repeated with another answer {report.conflicts:,}"
        )
        print(f"  read from {report.used}; licence {benchmark.licence}; graded: {GRADED[benchmark.grading]}")
        print(f"  hub: {benchmark.hub or 'none'}; else: {benchmark.origin}")
        for note in report.notes:
            print(f"  note: {note}")
        print(f"  example {problems[0].id}, answer {problems[0].answer or 'none'}:\n")
        print("\n".join(f"    {line}" for line in problems[0].prompt.splitlines()) + "\n")
    return 0


def benchmarks_table(source: str | Path | None = None, wide: bool = True) -> "Table":
    """Return a rich table of all benchmarks and splits.

    Sizes are counted where the file is on this machine (in the folder `source`, or the real data). wide: add
    licences and whole sources; without them no cell needs more than one line of 80 columns.
    """
    from rich import box
    from rich.table import Column, Table

    names = (
        "name",
        "split",
        "distinct",
        "rows",
        "graded",
        *(("licence", "read from") if wide else ("from",)),
    )
    columns = [Column(name, no_wrap=name not in ("licence", "read from"), overflow="fold") for name in names]
    table = Table(*columns, title="Benchmarks", box=box.HEAVY_HEAD if wide else box.SIMPLE)
    for benchmark in BENCHMARKS.values():
        for split in benchmark.files:
            sizes, place = _sizes(benchmark, split, source), _place(benchmark, split, source)
            more = (benchmark.licence, place) if wide else (_short_place(benchmark, split, source),)
            table.add_row(benchmark.name, split, *sizes, GRADED[benchmark.grading], *more)
    return table


def _here(benchmark: Benchmark, split: str, source: str | Path | None) -> Path | None:
    """Return the file of a split on this machine, None when there is none."""
    if source is None:
        return local_file(benchmark, split, None)
    path = Path(source) / benchmark.files[split]
    return path if path.is_file() else None


def _sizes(benchmark: Benchmark, split: str, source: str | Path | None) -> tuple[str, str]:
    """Return the numbers of distinct problems and of rows as text; expected numbers are in brackets."""
    file = _here(benchmark, split, source)
    if file is None or missing_libraries():
        return f"({benchmark.distinct[split]:,})" if split in benchmark.distinct else "-", "-"
    _, report = load_with_report(benchmark.name, split=split, source=file)
    return f"{report.distinct:,}", f"{report.raw:,}"


def _place(benchmark: Benchmark, split: str, source: str | Path | None) -> str:
    """Return from where a split is read."""
    file = _here(benchmark, split, source)
    if file is not None:
        return file.name
    if benchmark.drawn:
        return "drawn from dapo-math-17k"
    return (
        f"{benchmark.repo}@{benchmark.revision[:7]}" if benchmark.repo else f"give {benchmark.files[split]}"
    )


def _short_place(benchmark: Benchmark, split: str, source: str | Path | None) -> str:
    """Return from where a split is read, in one or two words."""
    if _here(benchmark, split, source) is not None:
        return "this machine"
    return "dapo-math-17k" if benchmark.drawn else "the hub" if benchmark.repo else "your file"


def _splits(benchmark: Benchmark, source: str | Path | None) -> list[str]:
    """Return the splits that can be read.

    These are all splits that are on the hub, else those whose file is on this machine.
    """
    readable = [split for split in benchmark.files if benchmark.repo or _here(benchmark, split, source)]
    return readable or list(benchmark.files)
