"""Find the columns of questions and of answers in a file of problems."""

from collections.abc import Sequence

from sdlab.benchmarks.cells import question_of, truth_in
from sdlab.errors import SdlabError
from sdlab.grading.score import verify

QUESTIONS = ("prompt", "question", "problem")
ANSWERS = ("reward_model", "answer", "ground_truth", "solution")
VERL = ("prompt", "reward_model")
# The layouts of mathematics in benchmarks, best first.
MATH = (
    VERL,
    ("prompt", "answer"),
    ("problem", "answer"),
    ("problem", "solution"),
    ("question", "answer"),
)
OPTIONS = {"question": "--question-column", "answer": "--answer-column"}


def find_columns(
    rows: Sequence[dict], where: str, question: str | None = None, answer: str | None = None
) -> tuple[str, str]:
    """Return the column of the questions and the column of the answers.

    question, answer: their names, when they are named; otherwise QUESTIONS and ANSWERS, whatever their case.
    Several candidates are no problem when they agree in every row. verl's layout, with a chat in `prompt` and
    a `reward_model`, is recognised first.

    Raises SdlabError when a column is missing, and when candidates differ.
    """
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    for role, name in (("question", question), ("answer", answer)):
        if name is not None and name not in columns:
            raise SdlabError(
                f"{where} has no column {name!r}; it has {', '.join(columns)}; "
                f"name one of them with {OPTIONS[role]}"
            )
    if question is None and answer is None and set(VERL) <= set(columns):
        return VERL
    if question is None:
        question = _choose(rows, where, "question", _candidates(columns, QUESTIONS, answer), columns)
    if answer is None:
        answer = _choose(rows, where, "answer", _candidates(columns, ANSWERS, question), columns)
    return question, answer


def _candidates(columns: list[str], names: Sequence[str], taken: str | None) -> list[str]:
    """Return the columns with one of the names, in the order of the names."""
    return [column for name in names for column in columns if column.lower() == name and column != taken]


def _choose(rows: Sequence[dict], where: str, role: str, candidates: list[str], columns: list[str]) -> str:
    """Return the first candidate for a role.

    Raises SdlabError without a candidate, and when two differ in a row.
    """
    if not candidates:
        usual = QUESTIONS if role == "question" else ANSWERS[1:]
        raise SdlabError(
            f"{where} has no column of {role}s; it has {', '.join(columns)}; "
            f"name the column {' or '.join(usual)}, or give its name with {OPTIONS[role]}"
        )
    first = candidates[0]
    for other in candidates[1:]:
        for number, row in enumerate(rows):
            texts = [_text(row, column, role) for column in (first, other)]
            if None not in texts and not _same(role, str(texts[0]), str(texts[1])):
                raise SdlabError(
                    f"{where}, row {number}: the columns {first!r} ({_short(texts[0])}) and {other!r} "
                    f"({_short(texts[1])}) differ, and both may hold the {role}; "
                    f"name one with {OPTIONS[role]}"
                )
    return first


def _text(row: dict, column: str, role: str) -> str | None:
    """Return the question or the answer in a cell; None for an empty cell and for one that has none."""
    try:
        text = (
            question_of(row.get(column))
            if role == "question"
            else truth_in({column: row.get(column)}, column)
        )
    except SdlabError:  # a worked solution without a marked answer says nothing against the other column
        return None
    return text or None


def _same(role: str, a: str, b: str) -> bool:
    return a.split() == b.split() if role == "question" else a == b or verify(a, b)


def _short(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 30 else f"{text[:27]}...")
