r"""Read rows of every benchmark layout as prompt, answer and type; prompts ask for the form that is graded.

Mathematics asks for a box (`sdlab.benchmarks.prompts`). Multiple choice keeps the format of SDPO's system
message, `<answer>A</answer>`, which SDPO's reward reads. A problem is one user message here, so the system
message comes before the question.
"""

from collections.abc import Callable
from typing import NamedTuple

from sdlab.benchmarks.cells import kind_of, question_of, system_of, text_of, truth_in, unpacked
from sdlab.benchmarks.columns import MATH, VERL
from sdlab.benchmarks.prompts import BOXED, boxed_prompt, with_system
from sdlab.errors import SdlabError
from sdlab.grading.spelling import plain
from sdlab.grading.tool_calls import truth_calls
from sdlab.grading.words import choice_of

CHOICE = (
    "Given a question and four options, please select the right answer. "
    "Respond in the following format:\n<reasoning>\n...\n</reasoning>\n"
    "<answer>\n...\n</answer>\n\nFor the answer, only output the letter corresponding to the correct option "
    "(A, B, C, or D), and nothing else. "
    'Do not restate the answer text. For example, if the answer is "A", just output:\n<answer>\nA\n</answer>'
)  # SDPO's system message, which its files carry and the hub's rows do not


class Row(NamedTuple):
    """A row of a benchmark."""

    prompt: str
    answer: str
    kind: str


def _math(question: str, answer: str) -> Callable[[dict], Row]:
    """Return the function that reads a row of mathematics with these columns."""
    return lambda row: Row(boxed_prompt(question_of(row[question])), truth_in(row, answer), kind_of(row))


def _with_system(answer: str) -> Callable[[dict], Row]:
    """Return the function that reads a row whose system message is in its chat or in a column."""
    return lambda row: Row(
        with_system(system_of(row), question_of(row["prompt"])), truth_in(row, answer), kind_of(row)
    )


def _choices(row: dict) -> Row:
    choices = unpacked(row["choices"])
    options = "\n".join(
        f"{label}: {text}" for label, text in zip(choices["label"], choices["text"], strict=True)
    )
    question = f"{text_of(row['question'])}\n\n{options}\nPlease reason step by step."
    return Row(f"{CHOICE}\n\n{question}", text_of(row["answerKey"]), "mcq")


def _program(row: dict) -> Row:
    starter = text_of(row["starter_code"]).strip()
    signature = f"\n\nStart from this code:\n```python\n{starter}\n```" if starter else ""
    return Row(text_of(row["question_content"]).strip() + signature, "", text_of(row.get("difficulty")))


# For each kind of grading, the layouts that rows may have: needed columns -> function that reads a row.
# The first layout whose columns are all there is used.
_PLAIN = ("prompt", "answer")
LAYOUTS: dict[str, dict[tuple[str, ...], Callable[[dict], Row]]] = {
    "math": {needed: _math(*needed) for needed in MATH},
    "choice": {
        VERL: _with_system("reward_model"),
        _PLAIN: _with_system("answer"),
        ("question", "choices", "answerKey"): _choices,
    },
    "calls": {VERL: _with_system("reward_model"), _PLAIN: _with_system("answer")},
    "": {("question_content", "starter_code"): _program},
}


def reader(grading: str, columns: list[str], where: str) -> tuple[tuple[str, ...], Callable[[dict], Row]]:
    """Return the columns that hold question and answer, and the function that reads a row.

    Raises SdlabError with the missing column and the existing ones.
    """
    layouts = LAYOUTS[grading]
    for needed, read in layouts.items():
        if set(needed) <= set(columns):
            return needed, _checked(grading, read)
    nearest = max(layouts, key=lambda needed: len(set(needed) & set(columns)) / len(needed))
    missing = ", ".join(repr(name) for name in nearest if name not in columns)
    known = "; ".join(" and ".join(needed) for needed in layouts)
    raise SdlabError(
        f"{where} lacks the column {missing}; it has {', '.join(columns) or 'none'}, "
        f"and needs those of one layout ({known})"
    )


def _checked(grading: str, read: Callable[[dict], Row]) -> Callable[[dict], Row]:
    """Return `read` with a check of the truth's form: a letter, or a list of tool calls."""

    def checked(row: dict) -> Row:
        record = read(row)
        if grading == "choice" and record.answer and choice_of(plain(record.answer)) is None:
            raise SdlabError(f"the answer {record.answer[:60]!r} is no choice; give a letter from A to J")
        if grading == "calls" and record.answer:
            truth_calls(record.answer)
        return record

    return checked


def read_row(read: Callable[[dict], Row], row: dict, number: int, where: str, graded: bool) -> Row:
    """Return one row, read by `read`.

    Raises SdlabError when it has no question, no answer although it is `graded`, or cells of the wrong shape.
    """
    try:
        record = read(row)
    except SdlabError as error:
        raise SdlabError(f"{where}, row {number}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SdlabError(
            f"{where}, row {number} is not as its columns say ({type(error).__name__}: {error}); "
            "mend or remove it"
        ) from error
    asks = record.prompt.strip() and record.prompt != f"\n{BOXED}"
    if not asks or (graded and not record.answer.strip()):
        raise SdlabError(
            f"{where}, row {number}: no {'answer' if asks else 'question'}; "
            "every row needs both, mend or remove it"
        )
    return record
