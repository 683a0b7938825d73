r"""Is the answer right? The last box only, compared by structure and exact algebra; no hang, any thread.

Most answers never reach sympy: integers, decimals, choices, words and equal texts are decided here.
`sdlab.grading.structure` takes lists, intervals, units and equations apart; what is left to algebra goes to one
persistent worker process (`sdlab.grading.process`) that is killed at a time limit and started again.

What counts as the answer: the last `\boxed{...}` (or `\fbox{...}`) of the whole completion, thinking
included, so a model that boxed a number while thinking and then stopped has answered. A last box that never
closes is no answer (the model was cut off while writing it, or was changing its mind). `\boxed 2` boxes the
number after it. Without any box, the last `<answer>...</answer>`, then the number on the last line `####
42`. Two kinds of truth are asked for in another form: for a choice (a letter A to J) the last `<answer>`
counts even beside a box, as in SDPO's reward for SciKnowEval; for tool calls see `sdlab.grading.tool_calls`.
Programs are not graded: model output is never executed.
"""

import re
from functools import lru_cache

from sdlab.errors import SdlabError
from sdlab.grading.process import ask
from sdlab.grading.spelling import plain
from sdlab.grading.structure import NeedsAlgebra, no_algebra, same
from sdlab.grading.tool_calls import is_calls, read_calls, same_calls
from sdlab.grading.words import choice_of

MAX_ANSWER_CHARS = (
    500  # ten times MATH500's longest truth; a longer answer is right only as the truth's very text
)

_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?P<bare>-?\d[\d,./]*))")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace, \{, is text
_MARKED = re.compile(r"^####[ \t]*(\S?[-+]?\d[\d,./]*%?)[ \t]*$", re.MULTILINE)
_INTEGER = re.compile(r"-?\d+", re.ASCII)


def extract_answer(text: str, truth: str | None = None) -> str | None:
    r"""Return the content of the last `\boxed{...}` in `text`, stripped; None when the box never closes.

    `\fbox{...}` counts too, and a number after `\boxed `. Without a box: the content of the last
    `<answer>...</answer>`, then the number on the last line `#### 42`, or None. Linear in the length of
    `text`. truth: when given, says what form the answer has: for a letter the last `<answer>` comes first,
    then the box; for tool calls they are all read (`sdlab.grading.tool_calls.read_calls`). Raises SdlabError when
    it is blank: such a problem cannot be graded.
    """
    if truth is not None and not _INTEGER.fullmatch(truth):
        if not truth.strip():
            raise SdlabError(
                "a problem without a ground truth cannot be graded; programs are listed, never run; "
                "choose another benchmark"
            )
        if is_calls(truth):
            return read_calls(text)
        if _is_choice(truth):
            tagged = _tagged(text)
            if tagged is not None:
                return tagged
    box = _last_box(text)
    if box is not None:
        if box["bare"]:
            return box["bare"].rstrip(",./")
        depth = 1
        for brace in _BRACES.finditer(text, box.end()):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                return text[box.end() : brace.start()].strip()
        return None
    tagged = _tagged(text)
    if tagged is not None:
        return tagged
    marked = _MARKED.findall(text) if "####" in text else []
    return marked[-1] if marked else None


def _last_box(text: str) -> re.Match | None:
    """The last box that opens; a command without a brace or a number after it is no box."""
    start = text.rfind("\\boxed")
    start = max(start, text.rfind("\\fbox", max(start, 0)))
    if start < 0:
        return None
    box = _BOX.match(text, start)
    if box is None:  # look at all of them
        *_, box = (None, *_BOX.finditer(text))
    return box


@lru_cache(1024)
def _is_choice(truth: str) -> bool:
    choice = choice_of(plain(truth))
    return choice is not None and not choice[1]


def _tagged(text: str) -> str | None:
    """The content of the last `<answer>...</answer>`."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if 0 <= start < end else None


def verify(answer: str | None, truth: str) -> bool:
    """Return whether `answer` (from `extract_answer`; None is wrong) means the same as `truth`.

    Safe in any thread; verdicts are cached. Numbers and multiple-choice letters A to J are compared
    exactly, lists, sets, intervals, matrices, units and equations by their structure
    (`sdlab.grading.structure`), and what is left by sympy. An answer that takes it more than CPU_SECONDS is
    wrong; so is one longer than MAX_ANSWER_CHARS that is not the truth verbatim. Tool calls are compared as
    `sdlab.grading.tool_calls` says. Raises SdlabError when math-verify cannot be started.
    """
    if answer is None:
        return False
    if is_calls(truth):
        return same_calls(answer, truth)
    if len(answer) > MAX_ANSWER_CHARS:
        return answer == truth.strip()
    return _verify(answer, truth)


@lru_cache(65536)
def _verify(answer: str, truth: str) -> bool:
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(truth):
        return answer == truth or _canonical(answer) == _canonical(truth)
    try:
        return same(answer, truth, no_algebra)
    except (NeedsAlgebra, RecursionError):  # what is nested too deeply here may be read there
        return ask(answer, truth)


def _canonical(integer: str) -> str:
    digits = integer.lstrip("-").lstrip("0")
    return "-" + digits if digits and integer[0] == "-" else digits


def grade(completions: list[str], truths: list[str]) -> list[float]:
    """Return the rewards (B,), 1.0 or 0.0, of B completions against their B truths.

    Raises SdlabError when the lengths differ or a truth is blank.
    """
    if len(completions) != len(truths):
        raise SdlabError(
            f"{len(completions)} completions but {len(truths)} truths; give one truth per completion"
        )
    return [float(verify(extract_answer(text, truth), truth)) for text, truth in zip(completions, truths)]
