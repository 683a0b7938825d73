"""Resource limits and sandboxing that Linux offers to unprivileged users: namespaces and Landlock.

Each protection is tried, and those that this machine refuses are reported. A container often forbids
namespaces, an older kernel has no Landlock (5.13; 6.7 for TCP, 6.12 for signals), and other systems have
neither.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import resource
else:
    try:
        import resource
    except ModuleNotFoundError:  # Windows; check_system refuses it
        resource = None

PROTECTED = {"network": "the network", "files": "other files", "processes": "other processes"}
NEWUSER, NEWPID, NEWNET, NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000  # linux/sched.h
NO_NEW_PRIVS, DEATH_SIGNAL = 38, 1  # prctl
LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same numbers on every architecture
# linux/landlock.h: execute, read file, read directory; write file
READ, WRITE_DEVICE = 1 << 0 | 1 << 2 | 1 << 3, 1 << 1
LIST = 1 << 3
OF_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
DEVICES = ("/proc", "/dev", "/run/nvidia-persistenced")
LARGEST_FILE = 256 << 20  # bytes


def check_system() -> None:
    """Raise SdlabError where processes cannot be limited at all."""
    if resource is None or not hasattr(os, "fork"):
        raise SdlabError(
            f"cannot limit the processes of submissions on {sys.platform}; only Linux and macOS can;"
            " use a container, or WSL on Windows"
        )


def left_open(closed_off: Iterable[Collection[str]]) -> str:
    """Return one line on what was open to a submission, "" when everything was closed off for all.

    `closed_off`: for each submission the names of what was closed to it.
    """
    closed_off = list(closed_off)
    left = [words for name, words in PROTECTED.items() if any(name not in one for one in closed_off)]
    return (
        f"not closed off on this machine: {', '.join(left)}; run submissions of strangers in a container"
        if left
        else ""
    )


def enter_namespaces() -> set[str]:
    """Leave the host's network and processes where the kernel allows it.

    Return what is closed off: "network", "processes", both or neither. Only the process forked next is in the
    new process namespace; when it ends, all its descendants end.
    """
    if sys.platform != "linux":
        return set()
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    for flags, closed_off in ((NEWNET | NEWPID | NEWIPC, {"network", "processes"}), (NEWNET, {"network"})):
        if libc.unshare(NEWUSER | flags) == 0:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{uid} {uid} 1"),
                ("gid_map", f"{gid} {gid} 1"),
            ):
                try:
                    Path("/proc/self", name).write_text(text)
                except OSError:
                    pass  # then the process has the fewer rights of "nobody" there
            return closed_off
    return set()


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def limit(memory_mb: float, cpu_seconds: int, threads: int) -> None:
    """Set the limits for each process of a submission.

    Memory is RLIMIT_DATA (heap and private writable pages, with thread stacks), not RLIMIT_AS: mapped
    libraries take no memory until they are used, and their size differs by machine (a CUDA build maps tens of
    GB). `threads`: the number of threads of the user now. The kernel counts them together with the
    submission's, which may start 256 more.
    """
    _set(resource.RLIMIT_DATA, int(memory_mb) << 20)
    _set(resource.RLIMIT_CPU, cpu_seconds)
    _set(resource.RLIMIT_FSIZE, LARGEST_FILE)
    _set(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        _set(resource.RLIMIT_NPROC, threads + 256)


def threads_of_user() -> int:
    """Return the number of threads that the user runs on this machine."""
    import psutil

    fields = [process.info for process in psutil.process_iter(["uids", "num_threads"])]
    return sum(
        one["num_threads"] or 0 for one in fields if one["uids"] and one["uids"].effective == os.geteuid()
    )


def restrict_files(writable: Path, readable: list[str], listable: list[str]) -> set[str]:
    """Restrict files with Landlock: write below `writable`, read there and below `readable`, list `listable`.

    This cannot be undone and holds for every process started from here. Return what is closed off: "files",
    and with newer kernels "tcp" and "signals".
    """
    if sys.platform != "linux":
        return set()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    abi = libc.syscall(LANDLOCK[0], None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return set()
    every = (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    # File rights; TCP bind and connect; abstract sockets and signals.
    words = [every] + ([3] if abi >= 4 else []) + ([3] if abi >= 6 else [])
    attributes = struct.pack(f"={len(words)}Q", *words)
    rules = libc.syscall(LANDLOCK[0], attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return set()
    granted = [(str(writable), every), ("/dev/null", READ | WRITE_DEVICE | 1 << 14 | 1 << 15)]
    granted += [(path, READ) for path in (*DEVICES, *readable)] + [(path, LIST) for path in listable]
    for path, rights in granted:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights &= every if os.path.isdir(path) else every & OF_A_FILE
        libc.syscall(LANDLOCK[1], rules, 1, struct.pack("=Qi", rights, handle), 0)
        os.close(handle)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    done = libc.syscall(LANDLOCK[2], rules, 0) == 0
    os.close(rules)
    return (
        ({"files"} | ({"tcp"} if abi >= 4 else set()) | ({"signals"} if abi >= 6 else set()))
        if done
        else set()
    )


def block_sockets() -> None:
    """Refuse Python's own sockets where there is no network namespace.

    This stops accidents, not attackers.
    """
    import socket

    class Refused(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **options: Any) -> None:
            if family in (socket.AF_INET, socket.AF_INET6, -1) and options.get("fileno") is None:
                raise PermissionError("no network while a lab is graded")
            super().__init__(family, *arguments, **options)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise PermissionError("no network while a lab is graded")

    socket.socket = Refused
    socket.create_connection = socket.getaddrinfo = refuse


def _set(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(what, (value, value))
    except (ValueError, OSError):
        pass  # macOS refuses some; the limits of time and memory from outside remain
