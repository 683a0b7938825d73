"""The separate process of one submission, started by sdlab.labs.process only: `python -m sdlab.labs.worker FD`.

FD is an open file that holds the settings.

Three processes: the one that is started holds no foreign code and takes SIGTERM; its child is the first of the process
namespace, so that its end ends everything below; the grandchild runs the cells. Requests come as JSON lines on standard
input, replies go to a pipe of their own. Each reply carries the token of its request, which is drawn anew for every cell.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from sdlab.labs.isolation import block_sockets, die_with_parent, enter_namespaces, limit, wall_files


class CellTimeout(BaseException):
    """Raised inside a cell that takes too long; not an Exception, so that `except Exception` lets it pass."""


def main(settings: dict) -> None:
    requests, replies = os.dup(0), settings["replies"]
    os.set_inheritable(replies, False)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    walls = enter_namespaces()
    _fork_and_wait(keep=requests)
    die_with_parent()
    if "processes" in walls:
        _fork_and_wait(
            keep=None
        )  # the first process of a namespace ignores signals, so the cells run in the second
    os.setsid()  # its own group: what a submission sends to its group reaches nobody else
    limit(settings["memory_mb"], settings["cpu_seconds"])
    walls |= wall_files(Path.cwd(), settings["readable"], settings["listable"])
    if "network" not in walls:
        block_sockets()
    serve(os.fdopen(requests, "r", encoding="utf-8"), replies, sorted(walls), settings)


def _fork_and_wait(keep: int | None) -> None:
    """Fork; the child returns, this process waits for it and ends as it ended. SIGTERM here kills the child."""
    child = os.fork()
    if child == 0:
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    if keep is not None:
        os.close(keep)
    while True:
        try:
            ended, status = os.wait()  # the first process of a namespace inherits its orphans
        except InterruptedError:
            continue
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(status) % 256)  # killed by signal n: 256 - n


def serve(requests, replies: int, walls: list[str], settings: dict) -> None:
    """Answer requests until there are no more. The picture for the guard is taken before the first cell."""
    from IPython.core.interactiveshell import InteractiveShell

    from sdlab.labs.cells import assigned
    from sdlab.labs.guard import Guard, load

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
    reply(token="ready", walls=walls, peak_mb=_peak_mb())

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
            peak_mb=_peak_mb(),
        )


def _test_names(names: dict, fixed: dict, statements: list[str]) -> dict:
    """What a test cell sees: the submission's names, but no other `abs`, no other `torch` and no other helper than the lab's."""
    import builtins

    seen = {name: value for name, value in names.items() if not hasattr(builtins, name)}
    for statement in statements:
        with suppress(Exception):  # the test says what it lacks
            exec(statement, seen)
    return {**seen, **fixed, "__builtins__": builtins, "__name__": "__main__"}


def _line(error: BaseException | None, code: str, seconds: float) -> str:
    """One line on what went wrong, with the failing line of the cell where the error has no words of its own."""
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


def _peak_mb() -> float:
    import resource

    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


if __name__ == "__main__":
    with open(int(sys.argv[1]), encoding="utf-8") as file:
        main(json.load(file))
