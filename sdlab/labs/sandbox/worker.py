"""Run the cells of one notebook in its own process, and call the functions that they define.

`python -m sdlab.labs.sandbox.worker`, started by sdlab.labs.sandbox.steps. Requests are JSON lines on
standard input, and replies go to a separate pipe. Each reply has the token of its request, which is new for
every request. The tests are not in this process: the grader sends arguments and receives values.
"""

import ast
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sdlab.labs.cells import definitions
from sdlab.labs.sandbox.exchange import Received, Sent
from sdlab.labs.sandbox.inside import enter
from sdlab.labs.sandbox.switched_off import ASKED, stand_in, switch_off
from sdlab.provenance import peak_memory_mb


class CellTimeout(BaseException):
    """A cell takes too long; not an Exception, so that `except Exception` does not catch it."""


def main() -> None:
    """Answer requests until there are no more."""
    settings, requests, closed_off = enter()
    replies = settings["replies"]

    from IPython.core.interactiveshell import InteractiveShell

    write, dumps = os.write, json.dumps

    def reply(**content: Any) -> None:
        data = (dumps(content) + "\n").encode()
        while data:
            data = data[write(replies, data) :]

    shell: Any = InteractiveShell.instance(colors="nocolor")
    shell.history_manager.enabled = False
    shell.display_formatter.active_types = ["text/plain"]  # no picture is needed
    if settings["rules"] is not None:
        rules = settings["rules"]
        values = {name: Received().read(value) for name, value in rules["values"].items()}
        switch_off(rules["asked"], values, rules["blocked"])
    answers = Answers(shell.user_ns)
    kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
        "call": answers.call,
        "value": answers.value,
        "slopes": answers.slopes,
        "lab": lambda request: run_definitions(request["code"], shell.user_ns),
    }
    reply(token="ready", closed_off=closed_off, peak_mb=peak_memory_mb())

    def late(*_: Any) -> None:
        raise CellTimeout

    for line in requests:
        request, error, value = json.loads(line), None, None
        ASKED.now = request.get("name", "") if request["kind"] == "call" else ""
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            if request["kind"] in kinds:
                value = kinds[request["kind"]](request)
            else:
                result = shell.run_cell(request["code"], store_history=False)
                error = result.error_before_exec or result.error_in_exec
                if isinstance(error, Exception) and settings["rules"] is not None:
                    run_definitions(request["code"], shell.user_ns)
        except BaseException as raised:  # SystemExit and KeyboardInterrupt too
            error = raised
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(Exception):  # the submission may have closed it
            sys.stdout.flush()
        reply(
            token=request["token"],
            ok=error is None,
            value=value if error is None else None,
            error=in_one_line(ASKED.explained(error), request["allowed"]),
            memory=out_of_memory(error),
            late=isinstance(error, CellTimeout),
            peak_mb=peak_memory_mb(),
        )


class Answers:
    """Calls of the functions in `names`, the student's variables."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.kept: dict[
            str, tuple[list[Any], list[Any]]
        ] = {}  # by call: outputs, inputs that need a gradient

    def call(self, request: dict[str, Any]) -> Any:
        """Call the function `name` with `arguments`; return its result as JSON."""
        received, sent = Received(objects=True), Sent()
        positional, keywords = received.read(request["arguments"])
        result = sent.write(self._named(request["name"])(*positional, **keywords))
        if received.differentiable:
            leaves = [received.differentiable[place] for place in sorted(received.differentiable)]
            self.kept[request["token"]] = sent.tensors, leaves
        return result

    def value(self, request: dict[str, Any]) -> Any:
        """Return the variable `name` as JSON."""
        return Sent().write(self._named(request["name"]))

    def slopes(self, request: dict[str, Any]) -> Any:
        """Return the gradients of an earlier call's inputs (None where unused), given its outputs'."""
        import torch

        outputs, leaves = self.kept[request["call"]]
        pairs = [
            (output, slope)
            for output, slope in zip(outputs, Received().read(request["slopes"]), strict=True)
            if output.requires_grad and slope is not None
        ]
        if not pairs:
            return Sent().write([None] * len(leaves))
        ends, slopes = zip(*pairs, strict=True)
        found = torch.autograd.grad(ends, leaves, slopes, allow_unused=True, retain_graph=True)
        return Sent().write(list(found))

    def _named(self, name: str) -> Any:
        if name not in self.names:
            raise NameError(f"name {name!r} is not defined")
        return self.names[name]


def run_definitions(code: str, names: dict[str, Any]) -> None:
    """Run the imports, functions, classes and constants in `code`, each of them even if others fail.

    A library that is switched off becomes a stand-in, so that only its use fails.
    """
    for part in definitions(code):
        try:
            exec(compile(ast.Module([part], []), "<cell>", "exec"), names)
        except ImportError:
            assert isinstance(part, (ast.Import, ast.ImportFrom))
            for alias in part.names:
                whole = f"{part.module}.{alias.name}" if isinstance(part, ast.ImportFrom) else alias.name
                names.setdefault(alias.asname or alias.name.partition(".")[0], stand_in(whole))
        except Exception:  # the student sees the error where the name is missing
            pass


def in_one_line(error: BaseException | None, seconds: float, code: str = "") -> str:
    """Return `error` in one line, with the failing line of `code` where the error has no message."""
    if error is None:
        return ""
    if isinstance(error, CellTimeout):
        return f"took longer than {seconds:g} s"
    try:
        words = " ".join(str(error).split())[:300]
    except BaseException:
        words = "(its message cannot be shown)"
    if not words and error.__traceback__ is not None:
        step, number = error.__traceback__, 0
        while step is not None:
            number = step.tb_lineno if step.tb_frame.f_code.co_filename == "<test cell>" else number
            step = step.tb_next
        words = code.split("\n")[number - 1].strip()[:200] if number else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether `error` says that there is no memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "allocat" in str(error) and "memory" in str(error)
    )


if __name__ == "__main__":
    main()
