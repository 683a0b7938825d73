r"""Grade completions: extract the answer and compare it with the truth, by structure and exact algebra.

Grading never hangs, and works in any thread. Most answers never reach sympy: integers, decimals, choices,
words and equal texts are compared here. `sdlab.grading.structure` splits lists, intervals, units and
equations. Values that need algebra go to one persistent worker process (`sdlab.grading.process`), which is
killed at a time limit and started again.

The answer is the last `\boxed{...}` (or `\fbox{...}`) of the whole completion, thinking included. A model
that boxed a number while thinking and then stopped has therefore answered. If the last box never closes,
there is no answer: the model was cut off while writing it. `\boxed 2` boxes the number after the command.
Without any box, the answer is the last `<answer>...</answer>`, then the number on the last line `#### 42`.
Two kinds of truth have another form. For a choice (a letter A to J) the last `<answer>` counts even beside a
box, as in SDPO's reward for SciKnowEval. For tool calls see `sdlab.grading.tool_calls`. Programs are not
graded, because model output is never executed.
"""

import re
from functools import lru_cache

from sdlab.errors import SdlabError
from sdlab.grading.process import ask
from sdlab.grading.spelling import plain
from sdlab.grading.structure import NeedsAlgebra, no_algebra, same
from sdlab.grading.tool_calls import is_calls, read_calls, same_calls
from sdlab.grading.words import choice_of

# Ten times the length of MATH500's longest truth. A longer answer is right only if it equals the truth's
# text.
MAX_ANSWER_CHARS = 500

_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?P<bare>-?\d[\d,./]*))")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace, \{, is text
_MARKED = re.compile(r"^####[ \t]*(\S?[-+]?\d[\d,./]*%?)[ \t]*$", re.MULTILINE)
_INTEGER = re.compile(r"-?\d+", re.ASCII)


def extract_answer(text: str, truth: str | None = None) -> str | None:
    r"""Return the content of the last `\boxed{...}` in `text`, stripped; None when the box never closes.

    `\fbox{...}` counts too, and a number after `\boxed `. Without a box the function returns the content of
    the last `<answer>...</answer>`, then the number on the last line `#### 42`, or None. The time is linear
    in the length of `text`. truth: determines the form of the answer when it is passed. For a letter the last
    `<answer>` comes first, then the box. For tool calls all calls are read
    (`sdlab.grading.tool_calls.read_calls`).
    Raises SdlabError when the truth is blank: such a problem cannot be graded.
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
    """Return the last box that opens; a command without a brace or a number after it is not a box."""
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
    """Return the content of the last `<answer>...</answer>`, or None."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if 0 <= start < end else None


def verify(answer: str | None, truth: str) -> bool:
    """Return whether `answer` (from `extract_answer`; None is wrong) means the same as `truth`.

    Safe in any thread; verdicts are cached. Numbers and multiple-choice letters A to J are compared exactly.
    Lists, sets, intervals, matrices, units and equations are compared by their structure
    (`sdlab.grading.structure`), and everything else by sympy. An answer is wrong if sympy takes more than
    CPU_SECONDS, or if it is longer than MAX_ANSWER_CHARS and differs from the truth's text.
    `sdlab.grading.tool_calls` compares tool calls.
    Raises SdlabError when math-verify cannot be started.
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
    except (NeedsAlgebra, RecursionError):  # the worker may read what is nested too deeply here
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
    return [
        float(verify(extract_answer(text, truth), truth))
        for text, truth in zip(completions, truths, strict=True)
    ]
