"""The first steps of a submission's process: it closes itself off before any code of the submission is read.

Without bubblewrap there are three processes. The one that is started holds no foreign code and takes SIGTERM.
Its child is the first of the process namespace, so that its end ends everything below. The grandchild runs
the submission. Bubblewrap's own two processes do the same. Nothing heavy is imported before: a process with a
second thread, as torch starts them, is refused namespaces.
"""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sdlab.labs.sandbox.isolation import (
    block_sockets,
    die_with_parent,
    enter_namespaces,
    limit,
    restrict_files,
)


def enter() -> tuple[dict, TextIO, list[str]]:
    """Close this process off as `launch.Process` asks.

    Return its settings, the stream of further requests, and what is closed off.
    Settings and requests are lines on standard input, which then is empty for the submission.
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
        if (
            "processes" in closed_off
        ):  # the first process of a namespace ignores signals, so the second runs the code
            _fork_and_wait(requests)
    os.setsid()  # its own group: what a submission sends to its group reaches nobody else
    limit(settings["memory_mb"], settings["cpu_seconds"], settings["threads"])
    closed_off |= restrict_files(Path.cwd(), settings["readable"], settings["listable"])
    if "network" not in closed_off:
        block_sockets()
    return settings, requests, sorted(closed_off)


def _fork_and_wait(requests: TextIO) -> None:
    """Fork: the child returns; this process waits for it and ends as it ended. SIGTERM kills the child."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        return

    def kill(*_) -> None:
        for end in (os.killpg, os.kill):  # the child leads a group once it has come so far
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
                os.killpg(child, signal.SIGKILL)  # what it started and left behind
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)  # killed by signal n: 128 + n, as in a shell
