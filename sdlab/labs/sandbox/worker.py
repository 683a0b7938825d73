"""Run the requested cells of one notebook in its own process.

`python -m sdlab.labs.sandbox.worker`, started by sdlab.labs.sandbox.steps. Requests are JSON lines on
standard input, and replies go to a separate pipe. Each reply has the token of its request, which is new for
every cell.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from sdlab.labs.sandbox.inside import enter
from sdlab.provenance import peak_memory_mb


class CellTimeout(BaseException):
    """A cell takes too long; not an Exception, so that `except Exception` does not catch it."""


def main() -> None:
    """Answer requests until there are no more. The guard's snapshot is taken before the first cell."""
    settings, requests, closed_off = enter()
    replies = settings["replies"]

    from IPython.core.interactiveshell import InteractiveShell

    from sdlab.labs.cells import assigned
    from sdlab.labs.sandbox.guard import Guard, load

    write, dumps = os.write, json.dumps

    def reply(**content: Any) -> None:
        data = (dumps(content) + "\n").encode()
        while data:
            data = data[write(replies, data) :]

    shell: Any = InteractiveShell.instance(colors="nocolor")
    shell.history_manager.enabled = False
    shell.display_formatter.active_types = ["text/plain"]  # no picture is needed
    guard = Guard(load(settings["imports"]))
    fixed: dict[str, Any] = {}  # the names that the source's own cells defined
    reply(token="ready", closed_off=closed_off, peak_mb=peak_memory_mb())

    def late(*_: Any) -> None:
        raise CellTimeout

    for line in requests:
        request = json.loads(line)
        code, put_back, error = request["code"], [], None
        if request["kind"] == "test":
            put_back = guard.put_back()
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            if request["kind"] == "test":
                exec(
                    compile(shell.transform_cell(code), "<test cell>", "exec"),
                    _test_names(shell.user_ns, fixed, settings["imports"]),
                )
            else:
                result = shell.run_cell(code, store_history=False)
                error = result.error_before_exec or result.error_in_exec
                if request["kind"] == "given":
                    fixed.update(
                        {name: shell.user_ns[name] for name in assigned(code) if name in shell.user_ns}
                    )
        except BaseException as raised:  # SystemExit and KeyboardInterrupt too
            error = raised
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(Exception):  # the submission may have closed it
            sys.stdout.flush()
        reply(
            token=request["token"],
            ok=error is None,
            error=_line(error, code, request["seconds"]),
            put_back=put_back,
            memory=_out_of_memory(error),
            late=isinstance(error, CellTimeout),
            peak_mb=peak_memory_mb(),
        )


def _test_names(names: dict[str, Any], fixed: dict[str, Any], statements: list[str]) -> dict[str, Any]:
    """Return the names for a test cell.

    They are the submission's, but Python's builtins, the imported libraries and the lab's helpers are the
    original ones.
    """
    import builtins

    visible = {name: value for name, value in names.items() if not hasattr(builtins, name)}
    for statement in statements:
        with suppress(Exception):  # the test reports a missing name
            exec(statement, visible)
    return {**visible, **fixed, "__builtins__": builtins, "__name__": "__main__"}


def _line(error: BaseException | None, code: str, seconds: float) -> str:
    """Return the error in one line, with the failing line of the cell where the error has no message."""
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


def _out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "allocat" in str(error) and "memory" in str(error)
    )


if __name__ == "__main__":
    main()
