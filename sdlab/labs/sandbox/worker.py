"""The separate process of one notebook: it runs the cells that it is asked to run.

`python -m sdlab.labs.sandbox.worker`, started by sdlab.labs.sandbox.steps.
Requests come as JSON lines on standard input, replies go to a pipe of their own. Each reply carries the token
of its request, which is drawn anew for every cell.
"""

import json
import os
import signal
import sys
from contextlib import suppress

from sdlab.labs.sandbox.inside import enter
from sdlab.provenance import peak_memory_mb


class CellTimeout(BaseException):
    """Raised inside a cell that takes too long; not an Exception, so that `except Exception` lets it pass."""


def main() -> None:
    """Answer requests until there are no more. The guard's snapshot is taken before the first cell."""
    settings, requests, closed_off = enter()
    replies = settings["replies"]

    from IPython.core.interactiveshell import InteractiveShell

    from sdlab.labs.cells import assigned
    from sdlab.labs.sandbox.guard import Guard, load

    write, dumps = os.write, json.dumps

    def reply(**content) -> None:
        data = (dumps(content) + "\n").encode()
        while data:
            data = data[write(replies, data) :]

    shell = InteractiveShell.instance(colors="nocolor")
    shell.history_manager.enabled = False
    shell.display_formatter.active_types = ["text/plain"]  # nobody looks at the pictures
    guard = Guard(load(settings["imports"]))
    fixed: dict = {}  # what the source's own cells defined
    reply(token="ready", closed_off=closed_off, peak_mb=peak_memory_mb())

    def late(*_):
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


def _test_names(names: dict, fixed: dict, statements: list[str]) -> dict:
    """Return the names that a test cell sees.

    They are the submission's, but `abs`, `torch` and the lab's helpers are the real ones.
    """
    import builtins

    seen = {name: value for name, value in names.items() if not hasattr(builtins, name)}
    for statement in statements:
        with suppress(Exception):  # the test says what it lacks
            exec(statement, seen)
    return {**seen, **fixed, "__builtins__": builtins, "__name__": "__main__"}


def _line(error: BaseException | None, code: str, seconds: float) -> str:
    """One line on what went wrong, with the failing line of the cell where the error has no message."""
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
