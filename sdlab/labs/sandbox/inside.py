"""Close a submission's process off, before it reads any code of the submission.

Without bubblewrap there are three processes. The first one runs no foreign code and handles SIGTERM. Its
child is the first process of the process namespace, so all processes below end with it. The grandchild runs
the submission. Bubblewrap's own two processes do the same. No large library is imported before, because the
kernel refuses namespaces to a process with a second thread, as torch starts them.
"""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from sdlab.labs.sandbox.isolation import (
    block_sockets,
    die_with_parent,
    enter_namespaces,
    limit,
    restrict_files,
)


def enter() -> tuple[dict[str, Any], TextIO, list[str]]:
    """Close this process off as `launch.Process` requests.

    Return its settings, the stream of further requests, and the names of what is closed off. Settings and
    requests are lines on standard input, which is empty for the submission afterwards.
    """
    die_with_parent()
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    settings = json.loads(requests.readline())
    os.set_inheritable(settings["replies"], False)
    closed_off = set(settings["closed_off"])
    if not closed_off:  # not in bubblewrap
        closed_off = enter_namespaces()
        _fork_and_wait(requests)
        if "processes" in closed_off:  # a namespace's first process ignores signals; the second runs the code
            _fork_and_wait(requests)
    os.setsid()  # its own group, so that signals to the group reach no other process
    limit(settings["memory_mb"], settings["cpu_seconds"], settings["threads"])
    closed_off |= restrict_files(Path.cwd(), settings["readable"], settings["listable"])
    if "network" not in closed_off:
        block_sockets()
    return settings, requests, sorted(closed_off)


def _fork_and_wait(requests: TextIO) -> None:
    """Fork: the child returns; this process waits and ends with its status. SIGTERM kills the child."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        return

    def kill(*_: Any) -> None:
        for end in (os.killpg, os.kill):  # the child leads a group after its setsid
            with suppress(ProcessLookupError, PermissionError):
                end(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, kill)
    os.close(requests.fileno())
    while True:
        try:
            ended, status = os.wait()  # the first process of a namespace inherits its orphans
        except InterruptedError:
            continue
        if ended == child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)  # the processes that it started
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)  # killed by signal n: 128 + n, as in a shell
