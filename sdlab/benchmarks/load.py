"""Load a benchmark by name: from files, from the folder of real data, or from the hub at a pinned commit.

All reading goes through `datasets`. The rows come from the first of these: `source` when there is one; the
folder of real data (`sdlab.paths.real_data`) when it holds the benchmark's file; the hub. A subset of
DAPO-Math-17k whose file is missing is drawn from the whole set, deterministically. It has as many questions,
nested like the study's (8 among the 64 among the 512), but other ones; the report says so.

SciKnowEval's hub rows are split like SDPO's: level 3, four choices, `train_test_split(test_size=0.1,
seed=42)`. For the study's 2,100 chemistry questions this gives its 210 test questions in their order.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sdlab.benchmarks.catalogue import BENCHMARKS, DAPO, Benchmark, find_benchmark
from sdlab.benchmarks.rows import Row, read_row, reader
from sdlab.benchmarks.sources import HIDDEN, local_file, rows_from_file, rows_from_hub
from sdlab.errors import SdlabError
from sdlab.seeds import stream
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from datasets import Dataset

TEST_SIZE, SPLIT_SEED = 0.1, 42  # SDPO's data/split_tasks.py
FROM, UNTIL = "2025-02-01", "2025-05-01"  # contest dates of LiveCodeBench v6 in SDPO's code


@dataclass(frozen=True)
class Report:
    """The source of a benchmark's problems, and their number.

    used: file, or repository and commit. raw: rows; distinct: different questions among them; problems: those
    kept. conflicts: different rows that repeat a question with another answer (the first is kept). notes:
    what a reader should know of this load.
    """

    name: str
    split: str
    used: str
    raw: int
    distinct: int
    problems: int
    conflicts: int
    notes: tuple[str, ...] = ()


def load_benchmark(
    name: str, *, split: str | None = None, source: str | Path | None = None, limit: int | None = None
) -> list[Problem]:
    """Return the problems of a benchmark in the order of its rows, without repeated questions.

    Only the small training subsets of DAPO keep their repeated rows (1 question x 64 is 64 rows), as the
    study trains on them. split: None for the only one. source: a parquet, json or jsonl file, or a folder
    with files named as in the catalogue. limit: how many of the first problems to return.
    Prompts ask for the form that is graded (`sdlab.benchmarks.rows`). LiveCodeBench has no answers: its
    hidden tests are never decoded and programs never run, so `sdlab.grading.score.grade` refuses it.

    Raises SdlabError for an unknown name or split, missing packages, an unreadable or missing source, an
    unreachable hub or another commit, a missing column, a row without question or answer, no rows, and a
    limit beyond the number of problems.
    """
    problems, _ = load_with_report(name, split=split, source=source)
    if limit is not None and not 1 <= limit <= len(problems):
        raise SdlabError(
            f"{limit} problems asked of {name}, which has {len(problems)}; choose 1 to {len(problems)}"
        )
    return problems[:limit]


def describe(name: str, *, split: str | None = None, source: str | Path | None = None) -> Report:
    """Return the report on `load_benchmark` with these arguments; raise the same errors."""
    return load_with_report(name, split=split, source=source)[1]


def load_with_report(
    name: str, *, split: str | None = None, source: str | Path | None = None
) -> tuple[list[Problem], Report]:
    """Return the problems and the report on their source; see `load_benchmark`."""
    benchmark = find_benchmark(name)
    split = benchmark.split(split)
    file = local_file(benchmark, split, source)
    if file is None and benchmark.drawn:
        return _drawn(benchmark, benchmark.drawn, split, source)
    table, used, notes = rows_from_file(file) if file else rows_from_hub(benchmark)
    table = _part(benchmark, split, table, used)
    problems, raw, distinct, conflicts = _problems(benchmark, split, table, used)
    if benchmark.drawn and len(problems) != benchmark.drawn[0] * benchmark.drawn[1]:
        asked = benchmark.drawn[0] * benchmark.drawn[1]
        raise SdlabError(
            f"{used} has {len(problems)} rows and {name} has {asked}; "
            f"to draw it, give the folder that holds {BENCHMARKS[DAPO].files['train']}"
        )
    expected = benchmark.distinct.get(split, distinct)
    if distinct != expected:
        notes = (*notes, f"{distinct:,} distinct questions, {expected:,} expected")
    return problems, Report(name, split, used, raw, distinct, len(problems), conflicts, notes)


def _part(benchmark: Benchmark, split: str, table: "Dataset", used: str) -> "Dataset":
    """Return the rows of the split.

    Files already hold one split. The hub's SciKnowEval and LiveCodeBench are reduced to the study's rows.
    """
    if HIDDEN in table.column_names:
        table = table.remove_columns(HIDDEN)
    if benchmark.grading == "choice" and "choices" in table.column_names:
        science = benchmark.name.rpartition("-")[2].capitalize()
        needed = ("domain", "type", "details")
        _columns(table, needed, used)
        keep = [
            i
            for i, row in enumerate(_rows(table.select_columns(list(needed))))
            if row["domain"] == science and row["type"] == "mcq-4-choices"
            if (row["details"] or {}).get("level") == "L3"
        ]
        table = table.select(keep)
        if len(table) > 1:
            table = table.train_test_split(test_size=TEST_SIZE, seed=SPLIT_SEED)[split]
    if not benchmark.grading and len(table):
        _columns(table, ("contest_date",), used)
        table = table.select(
            [i for i, date in enumerate(table["contest_date"]) if FROM <= _day(date) < UNTIL]
        )
    if not len(table):
        raise SdlabError(
            f"{used} has no rows for {benchmark.name} ({split}); give a file with at least one problem"
        )
    return table


def _columns(table: "Dataset", needed: tuple[str, ...], used: str) -> None:
    """Raise SdlabError when the table lacks one of the needed columns."""
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise SdlabError(
            f"{used} lacks the column {', '.join(map(repr, missing))}; it has {', '.join(table.column_names)}"
        )


def _day(date: object) -> str:
    """Return a date as text, for example 2025-02-01."""
    return date.date().isoformat() if isinstance(date, datetime.datetime) else str(date)[:10]


def _problems(
    benchmark: Benchmark, split: str, table: "Dataset", used: str
) -> tuple[list[Problem], int, int, int]:
    """Return problems, rows, distinct questions, and rows that repeat a question with another answer."""
    needed, read = reader(benchmark.grading, table.column_names, used)
    known: dict[str, Row] = {}  # a row with the cells of an earlier one is not read again
    answers: dict[str, str] = {}  # question, white space aside -> its first answer
    problems, conflicts = [], 0
    for number, cells in enumerate(_rows(table)):
        text = str([cells[name] for name in needed])
        if text in known and not benchmark.drawn:
            continue
        row = known[text] = known.get(text) or read_row(read, cells, number, used, bool(benchmark.grading))
        question = " ".join(row.prompt.split())
        if question not in answers or benchmark.drawn:
            problems.append(
                Problem(
                    f"{benchmark.name}/{split}/{number:05d}",
                    benchmark.name,
                    split,
                    row.kind,
                    row.prompt,
                    row.answer,
                )
            )
        conflicts += answers.setdefault(question, row.answer) != row.answer
    return problems, len(table), len(answers), conflicts


def _rows(table: "Dataset") -> Iterator[dict]:
    """Yield the rows as dictionaries.

    Reading by batches is ten times as fast as one by one (DAPO-Math-17k has 1.8 million).
    """
    for batch in table.iter(batch_size=1000):
        columns = cast("dict[str, list]", batch)
        for cells in zip(*columns.values(), strict=True):
            yield dict(zip(columns, cells, strict=True))


def _drawn(
    benchmark: Benchmark, drawn: tuple[int, int], split: str, source: str | Path | None
) -> tuple[list[Problem], Report]:
    """Return a subset drawn from the whole set, and its report.

    `stream("benchmarks", "dapo subsets")` orders the questions; the first are taken, in turns.
    """
    try:
        whole, report = load_with_report(DAPO, source=source)
    except SdlabError as error:
        raise SdlabError(
            f"no {benchmark.files[split]} here to read {benchmark.name} from, "
            f"and to draw it the whole set is needed: {error}"
        ) from error
    questions, copies = drawn
    if len(whole) < questions:
        raise SdlabError(
            f"{benchmark.name} draws {questions} questions and {report.used} has {len(whole)}; "
            "give the whole DAPO-Math-17k"
        )
    order = stream("benchmarks", "dapo subsets").sample(whole, len(whole))[:questions]
    problems = [
        Problem(
            f"{benchmark.name}/{split}/{number:05d}",
            benchmark.name,
            split,
            problem.kind,
            problem.prompt,
            problem.answer,
        )
        for number, problem in enumerate(order * copies)
    ]
    notes = (
        f"drawn here from {DAPO}: as many questions as the study's file, not the same ones",
        *report.notes,
    )
    return problems, Report(
        benchmark.name, split, report.used, report.raw, questions, len(problems), report.conflicts, notes
    )
