"""Read a file of problems: json, jsonl or parquet."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from sdlab import paths
from sdlab.benchmarks.cells import kind_of, question_of, system_of, text_of, truth_in
from sdlab.benchmarks.columns import ANSWERS, find_columns
from sdlab.benchmarks.prompts import PromptStyle, with_system
from sdlab.errors import MissingPackage, SdlabError
from sdlab.grading.tool_calls import is_calls
from sdlab.reading.rows import read_rows
from sdlab.world.problems import Problem

NO_ANSWER = {"nan", "none", "null", "n/a", "<na>"}  # spellings of a missing answer
MOST_WORDS = 12  # an answer with more words is a sentence, which only the same sentence would match
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


def load_problems(
    path: str | Path,
    limit: int | None = None,
    split: str | None = None,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    style: PromptStyle | None = None,
) -> list[Problem]:
    r"""Return the problems of a json, jsonl or parquet file, in the file's order, with repeated rows.

    The columns are found by their names (`sdlab.benchmarks.columns`), or named. A question is a text, or a
    chat whose last user message is taken. An answer stands alone, in \boxed{}, or after #### at the end of a
    worked solution. Cells may be JSON text. `kind` is the file's own type of problem, or "". `split` defaults
    to the file's name, and so does the id, with the row's number. style: how prompts are written, with the
    system text of the row before the question; None for the question alone.

    Raises SdlabError on a missing or damaged file, missing or differing columns, a row without a question or
    a readable answer, a missing pyarrow for parquet, and a limit beyond the file's problems.
    """
    path = paths.given(path)
    return problems_of(
        file_rows(path), path.name, path.stem, limit, split, (question_column, answer_column), style
    )


def file_rows(path: Path) -> list[dict]:
    """Return the rows of a file of problems.

    Raises SdlabError when it is missing or cannot be read.
    """
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingPackage(f'reading {path.name} needs pyarrow; install it with: pip install "sdlab[data]"')
    if not path.is_file():
        raise SdlabError(f"no file {path}; give a json, jsonl or parquet file of problems")
    return read_rows(path)[0]


def problems_of(
    rows: Sequence[dict],
    where: str,
    stem: str,
    limit: int | None = None,
    split: str | None = None,
    names: tuple[str | None, str | None] = (None, None),
    style: PromptStyle | None = None,
) -> list[Problem]:
    """Return the problems in the rows of a file or a data set, which `where` names in errors.

    stem: the first part of the ids. names: the columns of questions and answers, where they are named.

    Raises the errors of `load_problems`.
    """
    question_column, answer_column = find_columns(rows, where, *names)
    if limit is not None and not 1 <= limit <= len(rows):
        raise SdlabError(f"{limit} problems asked of {where}, which has {len(rows)}; choose 1 to {len(rows)}")
    problems = []
    for number, row in enumerate(rows[:limit]):
        question, answer = _read(row, question_column, answer_column, f"{where}, row {number}")
        if style is not None:
            question = style.prompt(with_system(system_of(row), question), answer)
        domain = text_of(row.get("data_source")) or text_of(row.get("dataset")) or stem
        problems.append(
            Problem(f"{stem}/{number:04d}", domain, split or stem, kind_of(row), question, answer)
        )
    return problems


def _read(row: dict, question_column: str, answer_column: str, place: str) -> tuple[str, str]:
    """Return the question and the answer of a row.

    Raises SdlabError, which begins with `place`, when one is missing or cannot be read.
    """
    try:
        question = question_of(row.get(question_column))
        answer = truth_in({answer_column: row.get(answer_column)}, answer_column)
    except SdlabError as error:
        raise SdlabError(f"{place}: {error}") from error
    if answer.lower() in NO_ANSWER:
        answer = ""
    if not question or not answer:
        raise SdlabError(
            f"{place}: no {'answer' if question else 'question'} in column "
            f"{answer_column if question else question_column!r}; every row needs both, mend or remove it"
        )
    if isinstance(row.get(answer_column), dict) and answer_column != "reward_model":
        raise SdlabError(f"{place}: the answer is an object, {answer[:60]!r}; give a text or a number")
    words = len(_WORD.findall(answer))
    if words > MOST_WORDS and not is_calls(answer):
        raise SdlabError(
            f"{place}: the answer {answer[:40]!r}... is a sentence of {words} words, which no grader can "
            rf"compare; give the result alone, in \boxed{{}} or after ####"
        )
    return question, answer


def worked_solution(row: dict, answer: str) -> str:
    r"""Return the longest text that solves a row's problem, with its answer in \boxed{}.

    It is the text of `solution` or of another column of answers; #### becomes a sentence with a box.
    """
    texts = [text_of(row.get(name)).strip() for name in ANSWERS[1:]]
    text = max(texts, key=len)
    if "\\boxed" in text:
        return text
    work = text.rpartition("####")[0].strip() if "####" in text else text.removesuffix(answer).strip()
    return f"{work}\nThe answer is \\boxed{{{answer}}}.".strip()
