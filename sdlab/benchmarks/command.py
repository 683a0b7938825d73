"""`sdlab benchmarks`: the names with their sizes, sources and licences; with a name, its counts and an example."""

from pathlib import Path

from sdlab.benchmarks.catalogue import BENCHMARKS, Benchmark, find_benchmark
from sdlab.benchmarks.load import load_with_report, local_file

GRADED = {"math": "\\boxed{}", "choice": "a letter", "calls": "tool calls", "": "not graded"}


def benchmarks_command(
    name: str | None = None, split: str | None = None, source: str | Path | None = None
) -> None:
    """Print the list of benchmarks, or one of them: every split, or the one named, read from `source` or where it is found.

    The list counts what lies on this machine and downloads nothing; with a name the hub is asked where no file is here.
    Raises SdlabError as `load_benchmark` does.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if name is None:
        console.print(benchmarks_table(source))
        print("(in brackets: expected, not counted on this machine)")
        return
    benchmark = find_benchmark(name)
    for part in (
        [benchmark.split(split)] if split or len(benchmark.files) == 1 else _splits(benchmark, source)
    ):
        problems, report = load_with_report(name, split=part, source=source)
        print(f"{name} ({part}): {benchmark.about}")
        print(
            f"  rows {report.raw:,}; distinct questions {report.distinct:,}; problems {report.problems:,}; repeated with another answer {report.conflicts:,}"
        )
        print(f"  read from {report.used}; licence {benchmark.licence}; graded: {GRADED[benchmark.grading]}")
        print(f"  hub: {benchmark.hub or 'none'}; else: {benchmark.origin}")
        for note in report.notes:
            print(f"  note: {note}")
        print(f"  example {problems[0].id}, answer {problems[0].answer or 'none'}:\n")
        print("\n".join(f"    {line}" for line in problems[0].prompt.splitlines()) + "\n")


def benchmarks_table(source: str | Path | None = None):
    """A rich table of all benchmarks and splits; sizes counted where the file is on this machine (in the folder `source`, or the real data)."""
    from rich.table import Column, Table

    columns = [
        Column(name, no_wrap=name in ("name", "distinct", "rows"), overflow="fold")
        for name in ("name", "split", "distinct", "rows", "graded", "licence", "read from")
    ]
    table = Table(*columns, title="Benchmarks")
    for benchmark in BENCHMARKS.values():
        for split in benchmark.files:
            table.add_row(
                benchmark.name,
                split,
                *_sizes(benchmark, split, source),
                GRADED[benchmark.grading],
                benchmark.licence,
                _place(benchmark, split, source),
            )
    return table


def _here(benchmark: Benchmark, split: str, source) -> Path | None:
    if source is None:
        return local_file(benchmark, split, None)
    path = Path(source) / benchmark.files[split]
    return path if path.is_file() else None


def _sizes(benchmark: Benchmark, split: str, source) -> tuple[str, str]:
    file = _here(benchmark, split, source)
    if file is None:
        return f"({benchmark.distinct[split]:,})" if split in benchmark.distinct else "-", "-"
    _, report = load_with_report(benchmark.name, split=split, source=file)
    return f"{report.distinct:,}", f"{report.raw:,}"


def _place(benchmark: Benchmark, split: str, source) -> str:
    file = _here(benchmark, split, source)
    if file is not None:
        return file.name
    if benchmark.drawn:
        return "drawn from dapo-math-17k"
    return (
        f"{benchmark.repo}@{benchmark.revision[:7]}" if benchmark.repo else f"give {benchmark.files[split]}"
    )


def _splits(benchmark: Benchmark, source) -> list[str]:
    """Those that can be read: all on the hub, else those whose file is here."""
    found = [split for split in benchmark.files if benchmark.repo or _here(benchmark, split, source)]
    return found or list(benchmark.files)
