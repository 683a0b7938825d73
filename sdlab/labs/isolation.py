"""What a submission's process may not do: limits and walls that the Linux kernel gives without being root.

Each wall is tried, and what could not be had is named, because it depends on the machine: a container often forbids
namespaces, an older kernel has no Landlock (5.13; 6.7 for TCP, 6.12 for signals), and other systems have neither.
"""

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from sdlab.errors import SdlabError

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None

WALLS = {"network": "the network", "files": "other files", "processes": "other processes"}
NEWUSER, NEWPID, NEWNET, NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000  # linux/sched.h
NO_NEW_PRIVS, DEATH_SIGNAL = 38, 1  # prctl
LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same numbers on every architecture
READ, WRITE_DEVICE = (
    1 << 0 | 1 << 2 | 1 << 3,
    1 << 1,
)  # linux/landlock.h: execute, read file, read directory; write file
LIST = 1 << 3
OF_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/opt",
    "/nix",
    "/proc",
    "/sys",
    "/dev",
    "/run/nvidia-persistenced",
)
LARGEST_FILE = 256 << 20  # bytes


def check_system() -> None:
    """Raises SdlabError where processes cannot be limited at all."""
    if resource is None or not hasattr(os, "fork"):
        raise SdlabError(
            f"submissions are run in processes that only Linux and macOS can limit, and this is {sys.platform}; use a container, or WSL on Windows"
        )


def left_open(walls: Iterable[Collection[str]]) -> str:
    """One line on what was not closed off for every submission, given the walls that each one had; "" when everything was."""
    walls = list(walls)
    left = [words for name, words in WALLS.items() if any(name not in had for had in walls)]
    return (
        f"not closed off on this machine: {', '.join(left)}; run submissions of strangers in a container"
        if left
        else ""
    )


def readable_folders(hidden: list[Path]) -> tuple[list[str], list[str]]:
    """Say which folders and files a submission may read, and which folders it may only list: they hold `hidden` files.

    Readable are the system, Python, its packages, sdlab and its data. The rest of a checkout is not.
    """
    from sdlab import paths

    hidden = [Path(path).resolve() for path in hidden]
    readable, listable = set(), set()
    for folder in (*SYSTEM, sys.prefix, sys.base_prefix, paths.PACKAGE, paths.data_dir()):
        more = readable_around(folder, hidden)
        readable |= more[0]
        listable |= more[1]
    for entry in filter(os.path.isdir, sys.path + os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        entry = os.path.realpath(entry)
        if paths.checkout() is None and entry == str(paths.PACKAGE.parent):  # the packages, sdlab among them
            more = readable_around(entry, hidden)
            readable |= more[0]
            listable |= more[1]
        else:
            inside = any(path.is_relative_to(entry) for path in hidden)
            (listable if inside else readable).add(entry)
    return sorted(readable), sorted(listable)


def readable_around(folder: str | Path, hidden: list[Path]) -> tuple[set[str], set[str]]:
    """Return what of a folder may be read, and the folders in it that may only be listed, so that no `hidden` file can be read.

    hidden: files and folders by their real paths. Landlock grants whole trees, so the way to a hidden file is
    granted entry by entry.
    """
    place = os.path.realpath(folder)
    inside = [path for path in hidden if path.is_relative_to(place)]
    if not inside:
        return {place}, set()
    readable, listable = set(), set()
    if Path(place) not in inside and os.path.isdir(place):
        listable.add(place)
        for entry in os.scandir(place):
            if not entry.is_symlink():  # what it leads to is granted, or not, where it lies
                more = readable_around(entry.path, inside)
                readable |= more[0]
                listable |= more[1]
    return readable, listable


def enter_namespaces() -> set[str]:
    """Leave the host's network and processes where the kernel allows it; returns what is walled: "network", "processes".

    Only the process forked next is in the new process namespace; when it ends, all its descendants end.
    """
    if sys.platform != "linux":
        return set()
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    for flags, walls in ((NEWNET | NEWPID | NEWIPC, {"network", "processes"}), (NEWNET, {"network"})):
        if libc.unshare(NEWUSER | flags) == 0:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{uid} {uid} 1"),
                ("gid_map", f"{gid} {gid} 1"),
            ):
                try:
                    Path("/proc/self", name).write_text(text)
                except OSError:
                    pass  # then it has nobody's rights there, which are fewer
            return walls
    return set()


def die_with_parent() -> None:
    """Be killed when the process that forked this one ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def limit(memory_mb: int, cpu_seconds: int) -> None:
    """Set the limits that hold for each process of a submission.

    Memory is RLIMIT_DATA (heap and private writable pages, thread stacks among them), not RLIMIT_AS: libraries are mapped,
    but take no memory until used, and how many there are differs by machine (a CUDA build maps tens of GB).
    """
    _set(resource.RLIMIT_DATA, memory_mb << 20)
    _set(resource.RLIMIT_CPU, cpu_seconds)
    _set(resource.RLIMIT_FSIZE, LARGEST_FILE)
    _set(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # counts all of the user's threads, so what runs already comes on top
        _set(resource.RLIMIT_NPROC, _threads_of_user() + 256)


def wall_files(writable: Path, readable: list[str], listable: list[str]) -> set[str]:
    """Landlock: write below `writable` only, read there and below `readable` (files or folders); list `listable`.

    For good, and for every process started from here. Returns what is walled: "files", and with newer kernels "tcp" and "signals".
    """
    if sys.platform != "linux":
        return set()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    abi = libc.syscall(LANDLOCK[0], None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return set()
    every = (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    words = (
        [every] + ([3] if abi >= 4 else []) + ([3] if abi >= 6 else [])
    )  # file rights; TCP bind, connect; abstract sockets, signals
    attributes = struct.pack(f"={len(words)}Q", *words)
    rules = libc.syscall(LANDLOCK[0], attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return set()
    granted = [(str(writable), every), ("/dev/null", READ | WRITE_DEVICE | 1 << 14 | 1 << 15)]
    granted += [(path, READ) for path in readable] + [(path, LIST) for path in listable]
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
    """The fallback where there is no network namespace: Python's own sockets are refused. It stops an import, not an attacker."""
    import socket

    class Refused(socket.socket):
        def __init__(self, family=-1, *arguments, **options):
            if family in (socket.AF_INET, socket.AF_INET6, -1) and options.get("fileno") is None:
                raise PermissionError("no network while a lab is graded")
            super().__init__(family, *arguments, **options)

    def refuse(*arguments, **options):
        raise PermissionError("no network while a lab is graded")

    socket.socket = Refused
    socket.create_connection = socket.getaddrinfo = refuse


def _set(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(what, (value, value))
    except (ValueError, OSError):
        pass  # macOS refuses some; the time limit and the memory watch from outside still hold


def _threads_of_user() -> int:
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == os.geteuid():
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
            except OSError:
                pass
    return total
