r"""Is the answer right? math-verify made safe: last box only, no hang, any thread.

Most answers never reach sympy: integers, decimals, choices and equal texts are decided here in microseconds. The rest
go to one persistent worker process (`sdlab/_grader.py`) that is killed at a time limit and started again.

What counts as the answer: the last `\boxed{...}` of the whole completion, thinking included, so a model that boxed a
number while thinking and then stopped has answered. A last box that never closes is no answer (the model was cut off
while writing it, or was changing its mind). Without any box, the last `<answer>...</answer>`. Two kinds of truth are asked
for in another form: for a choice (a letter A to J) the last `<answer>` counts even beside a box, as in SDPO's reward for
SciKnowEval; for tool calls see `sdlab.tool_calls`. Programs are not graded: model output is never executed.
"""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from sdlab.errors import SdlabError
from sdlab.tool_calls import is_calls, read_calls, same_calls

MAX_ANSWER_CHARS = (
    500  # ten times MATH500's longest truth; a longer answer is right only as the truth's very text
)
CPU_SECONDS = 2.0  # of sympy per answer; CPU time, so a busy machine grades like an idle one
WALL_SECONDS = 30.0  # the parent's own limit, should the worker sleep or its timer not exist
START_SECONDS = 120.0
_CPU_LIMIT_HIT = -getattr(signal, "SIGPROF", 0) or None  # exit status of a worker ended by its own timer

_BOX = re.compile(r"\\boxed\s*\{")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace, \{, is text
_NUMBER = re.compile(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+|(?=\.\d))(?:\.(\d*))?(?:_\{?(\d+)\}?)?", re.ASCII)
_CHOICE = re.compile(r"\(?([A-Ja-j])[).:]?")
_WORD = re.compile(r"[A-Za-z]{4,}")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}\\$]*)\}")
_NOISE = re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\[!,;]")
_LOOSE_SPACE = re.compile(r"(?<!\w) | (?!\w)")


def extract_answer(text: str, truth: str | None = None) -> str | None:
    r"""The content of the last `\boxed{...}` in `text`, braces matched, outer spaces cut; None when it never closes.

    Without a box: the content of the last `<answer>...</answer>`, or None. Linear in the length of `text`.
    truth: when given, says what form the answer has: for a letter the last `<answer>` comes first, then the box; for tool calls
    they are all read (`sdlab.tool_calls.read_calls`). Raises SdlabError when it is "": such a problem cannot be graded.
    """
    if truth == "":
        raise SdlabError(
            "a problem without a ground truth cannot be graded (programs are listed, never run); choose another benchmark"
        )
    if truth is not None and is_calls(truth):
        return read_calls(text)
    if truth is not None and _CHOICE.fullmatch(_plain(truth)):
        tagged = _tagged(text)
        if tagged is not None:
            return tagged
    start = text.rfind("\\boxed")
    if start >= 0:
        box = _BOX.match(text, start)
        if box is None:  # a stray \boxed without a brace is no box; look at all of them
            for box in _BOX.finditer(text):
                pass
        if box is not None:
            depth = 1
            for brace in _BRACES.finditer(text, box.end()):
                depth += {"{": 1, "}": -1}.get(brace[0], 0)
                if depth == 0:
                    return text[box.end() : brace.start()].strip()
            return None
    return _tagged(text)


def _tagged(text: str) -> str | None:
    """The content of the last `<answer>...</answer>`."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if 0 <= start < end else None


@lru_cache(4096)
def _plain(text: str) -> str:
    """`text` without what never changes an answer: `$`, \\left, \\right, thin spaces, \\dfrac, spaces off words."""
    text = _NOISE.sub("", text.strip().strip("$")).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = " ".join(text.split())
    whole = _WRAPPED.fullmatch(text)
    return _LOOSE_SPACE.sub("", whole[1] if whole else text).rstrip(".")


def _number(text: str) -> tuple[str, str, str, str] | None:
    """(sign, whole digits, decimals, base) of a plain number in canonical form, as text: no limit on its length."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, decimals = match[2].replace(",", "").lstrip("0"), (match[3] or "").rstrip("0")
    return "-" if match[1] == "-" and (whole or decimals) else "", whole, decimals, match[4] or ""


def _quick(answer: str, truth: str) -> bool | None:
    """The verdict when it takes no algebra, else None. Arguments are `_plain` texts."""
    if answer == truth:
        return truth != ""
    if not answer or not truth:
        return False
    left, right = _number(answer), _number(truth)
    if left and right:  # a base that only one side writes, 52_8 against 52, is taken as understood
        return left[:3] == right[:3] and (left[3] == right[3] or "" in (left[3], right[3]))
    left, right = _CHOICE.fullmatch(answer), _CHOICE.fullmatch(truth)
    if left and right:
        return left[1].upper() == right[1].upper()  # math-verify ignores case too
    if _WORD.fullmatch(answer) and _WORD.fullmatch(truth) and sorted(answer.lower()) != sorted(truth.lower()):
        return False  # read as products of letters or as words, they differ
    return None


def verify(answer: str | None, truth: str) -> bool:
    """Whether `answer` (from `extract_answer`; None is wrong) means the same as `truth`. Safe in any thread; verdicts are cached.

    Numbers and multiple-choice letters A to J are compared exactly, everything else by math-verify 0.9, which knows
    fractions, sets, intervals, matrices, units and equations. An answer that takes it more than CPU_SECONDS is wrong;
    so is one longer than MAX_ANSWER_CHARS that is not the truth verbatim. Tool calls are compared as `sdlab.tool_calls` says.
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
    quick = _quick(_plain(answer), _plain(truth))
    return _ask(answer, truth) if quick is None else quick


def grade(completions: list[str], truths: list[str]) -> list[float]:
    """Rewards (B,), 1.0 or 0.0, of B completions against their B truths. Raises SdlabError when the lengths differ or a truth is ""."""
    if len(completions) != len(truths):
        raise SdlabError(
            f"{len(completions)} completions but {len(truths)} truths; give one truth per completion"
        )
    return [float(verify(extract_answer(text, truth), truth)) for text, truth in zip(completions, truths)]


class _Worker:
    """One grader process and the clock that kills it."""

    def __init__(self):
        self.owner = os.getpid()  # after a fork the pipes belong to the parent
        script = Path(__file__).with_name("_grader.py")
        # -P: the script's folder stays off sys.path, so that no module of ours shadows a library's
        command = [sys.executable, "-P", str(script), str(CPU_SECONDS)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        if self._reply(START_SECONDS) != "ready":
            self.stop()
            raise SdlabError(
                'the grader did not start; install it with: pip install "math-verify[antlr4_13_2]==0.9.*"'
            )

    def usable(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, answer: str, truth: str) -> bool | None:
        """The verdict; False when it hit the time limit; None when the process died of something else."""
        try:
            self.process.stdin.write(json.dumps([answer, truth]) + "\n")
            self.process.stdin.flush()
            reply = self._reply(WALL_SECONDS)
        except BrokenPipeError:
            reply = ""
        except (
            BaseException
        ):  # interrupted between question and reply: the next reply would answer the wrong question
            self.stop()
            raise
        if reply:
            return reply == "1"
        self.stop()
        return False if self.timed_out or self.process.returncode == _CPU_LIMIT_HIT else None

    def _reply(self, seconds: float) -> str:
        self.timed_out = False
        clock = threading.Timer(seconds, self._expire)
        clock.daemon = True
        clock.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            clock.cancel()

    def _expire(self) -> None:
        self.timed_out = True
        self.process.kill()

    def stop(self) -> None:
        if self.owner != os.getpid():
            return
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # closing flushes what the dead process never read
            return


_worker: _Worker | None = None
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # a lock held by another thread at the fork would never open in the child
    os.register_at_fork(after_in_child=_renew_lock)


def _ask(answer: str, truth: str) -> bool:
    global _worker
    with _lock:
        for _ in range(2):  # a worker that died for no fault of the answer gets a second try
            if _worker is None or not _worker.usable():
                _worker = _Worker()
            verdict = _worker.ask(answer, truth)
            if verdict is not None:
                return verdict
    return False


@atexit.register
def _stop_worker() -> None:
    if _worker is not None:
        _worker.stop()
