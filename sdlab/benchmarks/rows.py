r"""Read rows of every benchmark layout as prompt, answer and type; prompts ask for the form that is graded.

Mathematics asks for a box: "Prompts reformatted to \boxed{}" (arXiv 2603.24472; its change_math_prompts.py
does the same to DAPO's texts). Multiple choice keeps the format of SDPO's system message,
`<answer>A</answer>`, which SDPO's reward reads. A problem is one user message here, so the system message
comes before the question.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from sdlab.benchmarks.files import question_of, read_verl, text_of, truth_of, unpacked
from sdlab.errors import SdlabError
from sdlab.grading.spelling import plain
from sdlab.grading.tool_calls import truth_calls
from sdlab.grading.words import choice_of

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_ANSWER_FIRST = re.compile(
    r"Solve the following math problem step by step\.\s+"
    r"The last line of your response should be of the form Answer: \$Answer "
    r"\(without quotes\) where \$Answer is the answer to the problem\.\s*"
)
_ONE_BREAK = re.compile(r"[^\n]\n\Z")
_ANSWER_LAST = 'Remember to put your answer on its own line after "Answer:"'
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


def boxed_prompt(question: str) -> str:
    r"""Return `question` with the instruction to answer within \boxed{} on its last line.

    The instruction replaces DAPO's "Answer: $Answer" lines. The function is idempotent: an existing
    instruction to box is brought to the same form. The question itself is not changed.
    """
    text = question.strip()
    opening = _ANSWER_FIRST.match(text)
    text = text[opening.end() :] if opening else text
    body = text.removesuffix(BOXED)
    # In the study's form, white space before its line break stays (as in AMC23's file).
    study_form = body != text and _ONE_BREAK.search(body)
    body = body[:-1] if study_form else body.rstrip()
    for ending in (f"{_ANSWER_LAST}.", _ANSWER_LAST):
        if body.rstrip().endswith(ending):
            body = body.rstrip().removesuffix(ending).rstrip()
    return f"{body}\n{BOXED}"


def _verl_math(row: dict) -> Row:
    question, answer, _, kind = read_verl(row)
    return Row(boxed_prompt(question), answer, kind)


def _plain_math(row: dict) -> Row:
    return Row(boxed_prompt(question_of(row["prompt"])), truth_of(row["answer"]), text_of(row.get("kind")))


def _hub_math(question: str, answer: str) -> Callable[[dict], Row]:
    def read(row: dict) -> Row:
        truth = truth_of(row[answer])
        if answer == "solution" and truth and truth == text_of(row[answer]).strip():
            raise SdlabError(
                rf"no \boxed{{}} and no #### in the solution {truth[:60]!r}; mark its answer with one of them"
            )
        parts = text_of(row.get("unique_id")).split("/")  # MATH names its questions split/subject/number.json
        return Row(boxed_prompt(text_of(row[question])), truth, parts[1] if len(parts) == 3 else "")

    return read


def _verl_with_system(row: dict) -> Row:
    question, answer, _, kind = read_verl(row)
    chat = unpacked(row["prompt"])
    system = (
        next((m.get("content") for m in chat if isinstance(m, dict) and m.get("role") == "system"), "")
        if isinstance(chat, list)
        else ""
    )
    return Row(_with_system(system, question), answer, kind)


def _plain_with_system(row: dict) -> Row:
    return Row(
        _with_system(row.get("system"), question_of(row["prompt"])),
        truth_of(row["answer"]),
        text_of(row.get("kind")),
    )


def _with_system(system: object, question: str) -> str:
    """Return the system message and the question as one user message."""
    text = text_of(system).strip()
    return question if text in ("", "None", "-") or not question else f"{text}\n\n{question}"


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
_VERL, _PLAIN = ("prompt", "reward_model"), ("prompt", "answer")
LAYOUTS: dict[str, dict[tuple[str, ...], Callable[[dict], Row]]] = {
    "math": {
        _VERL: _verl_math,
        _PLAIN: _plain_math,
        ("problem", "answer"): _hub_math("problem", "answer"),
        ("problem", "solution"): _hub_math("problem", "solution"),
        ("question", "answer"): _hub_math("question", "answer"),
    },
    "choice": {
        _VERL: _verl_with_system,
        _PLAIN: _plain_with_system,
        ("question", "choices", "answerKey"): _choices,
    },
    "calls": {_VERL: _verl_with_system, _PLAIN: _plain_with_system},
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
