"""Read the questions of real benchmarks from their files as problems."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdlab.errors import SdlabError
from sdlab.grading.score import MAX_ANSWER_CHARS, extract_answer
from sdlab.grading.tool_calls import is_calls
from sdlab.reading.rows import read_frame
from sdlab.world.problems import Problem

# Layout -> the columns by which it is known.
LAYOUTS = {"verl": ("prompt", "reward_model"), "question and answer": ("prompt", "answer")}


def load_problems(path: str | Path, limit: int | None = None, split: str | None = None) -> list[Problem]:
    """Return the questions of a json, jsonl or parquet file, in the file's order, with repeated rows.

    Two layouts are recognised by their columns: verl's (`prompt` a chat, `reward_model` with the
    `ground_truth`; DAPO-Math, AIME, AMC, MATH-500) and plain rows (`prompt`, `answer`; SDPO's SciKnowEval and
    ToolAlpaca files). Cells may be JSON text. `prompt` is the last user message. `kind` is the file's own
    type of question, or "". `split` defaults to the file's name, and so does the id, with the row's number.

    Raises SdlabError on a missing or damaged file, an unknown layout, a row without a question or an
    extractable answer, a missing pyarrow for parquet, and a limit beyond the file's questions.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise SdlabError(f'reading {path.name} needs pyarrow; install it with: pip install "sdlab[data]"')
    if not path.is_file():
        raise SdlabError(f"no file {path}; give a json, jsonl or parquet file of questions")
    frame = read_frame(path)
    rows = frame.to_dict("records")
    read = _reader(path, list(map(str, frame.columns)))
    if limit is not None and not 1 <= limit <= len(rows):
        raise SdlabError(
            f"{limit} questions asked of {path.name}, which has {len(rows)}; choose 1 to {len(rows)}"
        )
    problems = []
    for number, row in enumerate(rows[:limit]):
        try:
            prompt, answer, domain, kind = read(row)
        except SdlabError as error:
            raise SdlabError(f"{path.name}, row {number}: {error}") from error
        if not prompt or not answer:
            raise SdlabError(
                f"{path.name}, row {number}: no {'answer' if prompt else 'question'}; "
                "every row needs both, mend or remove it"
            )
        problems.append(
            Problem(
                f"{path.stem}/{number:04d}", domain or path.stem, split or path.stem, kind, prompt, answer
            )
        )
    return problems


def _reader(path: Path, columns: list[str]) -> Callable[[dict], tuple[str, str, str, str]]:
    """Return the function row -> (question, answer, domain, kind) for the layout with these columns."""
    if set(LAYOUTS["verl"]) <= set(columns):
        return read_verl
    if set(LAYOUTS["question and answer"]) <= set(columns):
        return lambda row: (
            question_of(row["prompt"]),
            truth_of(row["answer"]),
            text_of(row.get("dataset")),
            text_of(row.get("kind")),
        )
    known = "; ".join(f"{name}: {' and '.join(needed)}" for name, needed in LAYOUTS.items())
    raise SdlabError(
        f"{path.name} has columns {', '.join(columns)}; "
        f"a file of questions needs those of one layout ({known})"
    )


def read_verl(row: dict) -> tuple[str, str, str, str]:
    """Return (question, answer, domain, kind) of a row in verl's layout."""
    reward, extra = unpacked(row["reward_model"]), unpacked(row.get("extra_info"))
    truth = truth_of(reward.get("ground_truth")) if isinstance(reward, dict) else ""
    index = text_of(extra.get("index")) if isinstance(extra, dict) else ""
    parts = index.split("/")  # MATH names its questions split/subject/number.json
    return (
        question_of(row["prompt"]),
        truth,
        text_of(row.get("data_source")),
        parts[1] if len(parts) == 3 else "",
    )


def truth_of(cell: object) -> str:
    r"""Return the ground truth of a cell.

    It is the content of the box in a worked solution, what follows its last ####, or the text itself.

    Raises SdlabError when a solution has no answer that can be extracted: its text is never taken for the
    answer.
    """
    text = text_of(cell).strip()
    if is_calls(text):
        return text
    if "\\boxed" in text or "\\fbox" in text:
        answer = extract_answer(text) or ""
    elif "####" in text:
        answer = text.rpartition("####")[2].strip()
    else:
        answer = text
    if (text and not answer) or len(answer) > MAX_ANSWER_CHARS or "\n" in answer:
        raise SdlabError(
            f"no answer can be extracted from {text[:60]!r}; "
            r"give the answer alone, in \boxed{} or after ####"
        )
    return answer


def question_of(cell: object) -> str:
    """Return the last user message of a chat, or the text itself."""
    cell = unpacked(cell)
    if isinstance(cell, str):
        return cell.strip()
    users = (
        [m.get("content") for m in cell if isinstance(m, dict) and m.get("role") == "user"]
        if isinstance(cell, list)
        else []
    )
    return text_of(users[-1]).strip() if users else ""


def unpacked(cell: Any) -> Any:
    """Return a cell without its wrapping: arrays as lists, JSON text as its content."""
    if hasattr(cell, "tolist"):  # parquet gives numpy arrays
        cell = cell.tolist()
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell  # a question may begin with a bracket
    return cell


def text_of(cell: object) -> str:
    """Return a cell as text, "" for a missing one."""
    # A missing number is NaN, which differs from itself.
    return "" if cell is None or cell != cell else str(cell)
