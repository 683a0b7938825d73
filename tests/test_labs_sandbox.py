"""The sandbox of the labs, with and without bubblewrap, and where the kernel lacks protections.

Slow: each machine grades a good submission, three grade a bad one, two train three (of the leaderboard).
The kernel's refusals are real (tests/lab_without.py); a sitecustomize, which only the processes under test
see, plays a machine that is not Linux.
"""

import ast
import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from lab_maker import handed_in, tiny_lab, write
from lab_without import UNSHARE
from patience import PATIENCE

from sdlab.errors import SdlabError
from sdlab.labs import leaderboard
from sdlab.labs.sandbox import bubblewrap, family, folders, isolation, session, steps

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
LINUX = pytest.mark.skipif(sys.platform != "linux" or not UNSHARE, reason="needs Linux on x86-64 or arm64")
NOT_LINUX = """
import ctypes, resource, sys, types
from sdlab.labs.sandbox import isolation

def refuse(*_):
    raise AssertionError("a system call of Linux was made")

def setrlimit(what, limits, own=resource.setrlimit):
    if what == resource.RLIMIT_DATA:
        raise ValueError("as macOS may say")
    own(what, limits)

isolation.sys = types.SimpleNamespace(**{**vars(sys), "platform": "darwin"})
isolation.ctypes = types.SimpleNamespace(CDLL=refuse)
isolation.resource = types.SimpleNamespace(**{**vars(resource), "setrlimit": setrlimit})
"""
OPEN = {  # the machine: what its report says is left open
    "landlock": "other files",
    "namespaces": "the network, other processes",
    "process namespaces": "other processes",
    "both": "the network, other files, other processes",
    "not Linux": "the network, other files, other processes",
}
LINE = "not closed off on this machine: {}; run submissions of strangers in a container\n"
LOOPS = "def double(x):\n    while True: pass"
GROWS = "def mean(values):\n    hog = []\n    while True: hog.append(bytearray(b'x' * 20_000_000))"


def on_a_machine(
    without: str, folder: Path, *arguments: str, bubblewrap: bool = False
) -> subprocess.CompletedProcess:
    """`sdlab ARGUMENTS...` on a machine that lacks something, with bubblewrap on its PATH or not."""
    patch = folder / "patch"
    patch.mkdir(exist_ok=True)
    if without == "not Linux":
        (patch / "sitecustomize.py").write_text(NOT_LINUX)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ["PATH"] if bubblewrap else str(patch),
        "PYTHONPATH": os.pathsep.join([str(patch), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    found = subprocess.run(
        [sys.executable, HERE / "lab_without.py", without, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=env,
        timeout=2 * PATIENCE,
        check=False,
    )
    if found.returncode == 77:
        pytest.skip("this kernel has no seccomp filters")
    return found


def graded_on(without: str, folder: Path, source: Path, *options, bubblewrap: bool):
    """`sdlab labs grade` of folder/class, into folder/class.csv, on a machine that lacks something."""
    where = ("labs", "grade", folder / "class", "--source", source, "--csv", folder / "class.csv")
    return on_a_machine(without, folder, *where, *options, bubblewrap=bubblewrap)


RUNS = not bubblewrap.find()[1]
BWRAP = [LINUX, pytest.mark.skipif(not RUNS, reason="bubblewrap is not installed, or does not start here")]
MACHINES = [
    pytest.param(name, False, OPEN[name], id=name, marks=LINUX) for name in OPEN if name != "not Linux"
] + [
    pytest.param("not Linux", False, OPEN["not Linux"], id="not Linux"),
    pytest.param("landlock", True, "", id="bubblewrap, no landlock", marks=BWRAP),
    pytest.param("namespaces", True, OPEN["namespaces"], id="bubblewrap that is refused", marks=BWRAP),
]


@pytest.mark.parametrize("without, bubblewrap, left_open", MACHINES)
def test_with_fewer_protections_the_others_hold_and_one_line_says_what_is_open(
    tmp_path, without, bubblewrap, left_open
):
    source = write(tiny_lab(), tmp_path / "source" / "lab9_tiny.ipynb")
    reaches = (
        "" if "other files" in left_open else f"assert unreachable({str(source)!r}), 'reads the solution'\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        call = f"""import math, urllib.request
LOG = []
try:
    urllib.request.urlopen('http://127.0.0.1:{port}', timeout=2)
except OSError as error:
    LOG.append(error)

def unreachable(path):
    try:
        open(path).close()
    except OSError:
        pass
    else:
        return False
    for other in (path, path + ".new", "/dev/shm/new", "/new", "/usr/new"):
        try:
            open(other, "a").close()
            return False
        except OSError:
            continue
    open("own", "w").close()
    return True
{reaches}"""
        handed_in(
            tmp_path / "class" / "lab9_good.ipynb",
            imports=call,
            double="def double(x):\n    assert len(LOG) == 1\n    return 2 * x",
        )
        graded = graded_on(without, tmp_path, source, "--cell-timeout", PATIENCE, bubblewrap=bubblewrap)
        with pytest.raises(TimeoutError):
            server.accept()
    assert graded.returncode == 0 and "Traceback" not in graded.stderr, graded.stderr
    assert graded.stderr.endswith(LINE.format(left_open) if left_open else "s\n"), graded.stderr
    assert graded.stderr.count("not closed off") == bool(left_open), graded.stderr
    refused = bubblewrap and bool(left_open)
    assert graded.stderr.count("bubblewrap does not start on this machine (") == refused, graded.stderr
    (good,) = csv.DictReader((tmp_path / "class.csv").open())
    assert good["total"] == "5" and good["problems"] == good["errors"] == "", good


@pytest.mark.parametrize(
    "without, bubblewrap",
    [
        pytest.param("both", False, id="both", marks=LINUX),
        pytest.param("not Linux", False, id="not Linux"),
        pytest.param("landlock", True, id="bubblewrap", marks=BWRAP),
    ],
)
def test_limits_of_time_and_memory_hold_with_fewer_protections(tmp_path, without, bubblewrap):
    """They come from the process that grades and from resource limits, not from what the others lack."""
    source = write(tiny_lab(), tmp_path / "source" / "lab9_tiny.ipynb")
    handed_in(tmp_path / "class" / "lab9_bad.ipynb", double=LOOPS, mean=GROWS)
    limits = ("--cell-timeout", 10, "--memory", 300)
    graded = graded_on(without, tmp_path, source, *limits, bubblewrap=bubblewrap)
    assert graded.returncode == 1 and "Traceback" not in graded.stderr, graded.stderr
    (bad,) = csv.DictReader((tmp_path / "class.csv").open())
    assert bad["total"] == "0" and "double-test: took longer than 10 s; stopped" in bad["problems"], bad
    assert "mean-test: needs more than the 300 MB allowed" in bad["problems"], bad
    assert float(bad["peak_memory_mb"]) < 3000


@pytest.mark.parametrize("without", [pytest.param("both", marks=LINUX), "not Linux"])
def test_the_leaderboard_with_fewer_protections_stops_what_loops_and_grows_and_says_what_is_open(
    tmp_path, without
):
    (tmp_path / "grows.py").write_text("hog = []\nwhile True: hog.append(bytearray(b'x' * 20_000_000))")
    (tmp_path / "loops.py").write_text("while True: pass")
    (tmp_path / "calls.py").write_text("import socket; socket.create_connection(('127.0.0.1', 9))")
    notes = {}
    for seconds, names in ((str(PATIENCE), ("grows", "calls")), ("8", ("loops",))):
        sizes = (
            "--steps",
            "1",
            "--seeds",
            "1",
            "--problems",
            "2",
            "--timeout",
            seconds,
            "--memory-gb",
            "1",
            "--model",
            "organism-small",
            "--output",
            tmp_path / "ranks.csv",
        )
        found = on_a_machine(
            without,
            tmp_path,
            "leaderboard",
            *(tmp_path / f"{name}.py" for name in names),
            "--secret",
            "plum",
            *sizes,
        )
        assert found.returncode == 1 and "Traceback" not in found.stderr, found.stderr
        assert (
            found.stderr.endswith(LINE.format(OPEN[without])) and found.stderr.count("not closed off") == 1
        ), found.stderr
        with open(tmp_path / "ranks.csv", newline="") as file:
            notes |= {row["submission"]: row["note"] for row in csv.DictReader(file)}
    assert (
        notes["grows"] == "needs more than 1 GiB of memory (memory limit)"
        and notes["loops"] == "stopped after 8 s (time limit)"
    )
    assert notes["calls"] == "PermissionError: no network while a lab is graded"


class Kernel:
    """A libc whose system calls fail from the one named `refused` on; the others seem to work."""

    def __init__(self, refused, abi=6):
        self.refused, self.abi, self.asked = refused, abi, []
        self.syscall, self.prctl = self._syscall, lambda *_: 0

    def _syscall(self, number, *arguments):
        name = {444: "abi" if arguments[0] is None else "ruleset", 445: "rule", 446: "restrict"}[number]
        self.asked.append(name)
        if name == self.refused:
            return -1
        return self.abi if name == "abi" else os.open(os.devnull, os.O_RDONLY) if name == "ruleset" else 0

    def unshare(self, flags):
        self.asked.append(flags)
        return -1 if self.refused == "unshare" or (self.refused == "pids" and flags & isolation.NEWPID) else 0


class Syscall:
    """ctypes wants to set `restype` on it."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, *arguments):
        return self.kernel(*arguments)


@pytest.fixture
def machine(monkeypatch):
    """machine(refused, abi, platform): what `isolation` sees of the system; nothing real is closed off."""

    def make(refused=None, abi=6, platform="linux"):
        kernel = Kernel(refused, abi)
        kernel.syscall = Syscall(kernel._syscall)
        monkeypatch.setattr(
            isolation, "ctypes", SimpleNamespace(CDLL=lambda *_, **__: kernel, c_long=int, c_size_t=int)
        )
        monkeypatch.setattr(isolation, "sys", SimpleNamespace(platform=platform))
        monkeypatch.setattr(isolation, "Path", lambda *_: SimpleNamespace(write_text=lambda _: None))
        return kernel

    return make


@pytest.mark.parametrize(
    "refused, abi, closed_off",
    [
        ("abi", 6, set()),
        ("ruleset", 6, set()),
        ("restrict", 6, set()),
        (None, 1, {"files"}),
        (None, 4, {"files", "tcp"}),
        (None, 6, {"files", "tcp", "signals"}),
        ("rule", 6, {"files", "tcp", "signals"}),
    ],
)
def test_files_are_closed_off_only_when_the_kernel_agrees(machine, tmp_path, refused, abi, closed_off):
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert machine(refused, abi) and isolation.restrict_files(tmp_path, [], []) == closed_off
    assert not before or len(os.listdir("/proc/self/fd")) == before  # nothing is left open


@pytest.mark.parametrize(
    "refused, closed_off, asks",
    [("unshare", set(), 2), ("pids", {"network"}, 2), (None, {"network", "processes"}, 1)],
)
def test_namespaces_fall_back_to_the_network_s_alone(machine, refused, closed_off, asks):
    kernel = machine(refused)
    assert isolation.enter_namespaces() == closed_off and len(kernel.asked) == asks


def test_where_it_is_not_linux_nothing_is_asked_of_the_kernel(machine, tmp_path):
    kernel = machine(platform="darwin")
    assert (
        isolation.enter_namespaces() == isolation.restrict_files(tmp_path, [], []) == set()
        and kernel.asked == []
    )


@pytest.mark.parametrize("error", [ValueError, OSError, PermissionError])
def test_a_limit_that_the_system_refuses_is_let_pass(monkeypatch, error):
    asked = []

    def setrlimit(what, limits):
        asked.append(what)
        raise error

    monkeypatch.setattr(isolation.resource, "setrlimit", setrlimit)
    isolation.limit(600, 60, 0)
    assert len(asked) >= 4


@pytest.mark.parametrize(
    "limited",
    [
        lambda folder: steps.run_steps((), (), [], session.Limits()),
        lambda folder: leaderboard.leaderboard([folder / "a.py"], "plum"),
    ],
)
def test_windows_is_told_in_one_line(monkeypatch, tmp_path, limited):
    monkeypatch.setattr(isolation, "resource", None)
    with pytest.raises(SdlabError, match="only Linux and macOS can"):
        limited(tmp_path)


def test_memory_is_watched_where_only_root_is_told_what_processes_share(monkeypatch):
    """macOS: psutil refuses memory_full_info of another process."""

    def refuse(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    code = "import os, time; hog = bytearray(b'x' * 100_000_000); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        seen = family.Family(os.getpid())
        assert seen.memory_mb(50) > 95 and seen.peak_mb > 95
        seen.kill()
        assert child.wait(10) == -9
    assert family.Family(child.pid).memory_mb(50) == 0


def test_the_line_names_what_any_submission_lacked():
    assert isolation.left_open([{"network", "files", "processes", "tcp"}]) == isolation.left_open([]) == ""
    assert isolation.left_open([{"network", "files", "processes"}, {"files"}]) + "\n" == LINE.format(
        "the network, other processes"
    )


def test_threads_of_the_user_are_those_of_the_kernel():
    counted = sum(
        len(list(entry.glob("task/*")))
        for entry in Path("/proc").glob("[0-9]*")
        if entry.stat().st_uid == os.geteuid()
    )
    assert isolation.threads_of_user() == pytest.approx(counted, rel=0.5) and counted > 1


def test_only_grading_its_matching_and_the_leaderboard_use_the_sandbox():
    package, users = HERE.parent / "sdlab", set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name.startswith("sdlab.labs.sandbox") for name in names):
                users.add(path.relative_to(package))
    outside = {str(path) for path in users if path.parts[:2] != ("labs", "sandbox")}
    assert outside == {"labs/grading.py", "labs/leaderboard.py", "labs/matching.py"}


@pytest.mark.parametrize(
    "script, reason",
    [
        (None, "not installed"),
        ("echo 'bwrap: No permissions to create a new namespace' >&2; exit 1", "bwrap: No permissions"),
        ("exit 3", "exit status 3"),
        ('for last; do :; done; test "$last" = ""', ""),  # runs, whatever it is asked to run
    ],
)
def test_bubblewrap_is_used_only_when_it_starts(monkeypatch, tmp_path, script, reason):
    if script:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "sys", SimpleNamespace(**vars(sys) | {"platform": "linux"}))
    bubblewrap.find.cache_clear()
    try:
        assert bubblewrap.find()[1].startswith(reason) and bool(bubblewrap.find()[1]) == bool(reason)
        assert bool(bubblewrap.command(tmp_path, [])) == (not reason)
        assert (reason in bubblewrap.refusal()) if script and reason else bubblewrap.refusal() == ""
    finally:
        bubblewrap.find.cache_clear()


def test_bubblewrap_is_never_asked_off_linux(monkeypatch):
    monkeypatch.setattr(bubblewrap, "sys", SimpleNamespace(platform="darwin"))
    bubblewrap.find.cache_clear()
    try:
        assert bubblewrap.find() == ("", "not installed")
    finally:
        bubblewrap.find.cache_clear()


@pytest.mark.skipif(not RUNS, reason="bubblewrap is not installed, or does not start here")
def test_in_bubblewrap_hidden_folders_are_empty_whatever_path_leads_there(monkeypatch, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "scratch"
    for name in ("sdlab/labs/source/lab1", "sdlab/cli.py", "other/lab1"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("text")
    folder.mkdir()
    (tmp_path / "link").symlink_to(site)
    needed = [*folders.needed_folders([])[0], str(tmp_path / "link"), str(site / "sdlab")]
    monkeypatch.setattr(bubblewrap, "needed_folders", lambda hidden: (needed, []))
    command = bubblewrap.command(folder, [tmp_path / "link" / "sdlab" / "labs", tmp_path / "nowhere"])
    code = """import pathlib, sys
for root in sys.argv[1:]:
    for path in sorted(pathlib.Path(root).rglob("*")):
        if path.is_file():
            print(path)
for path in map(pathlib.Path, (*sys.argv[1:], "/usr", "/")):
    try:
        (path / "new").write_text("")
        print("wrote", path)
    except OSError:
        pass
pathlib.Path("own").write_text("")
"""
    ended = subprocess.run(
        [*command, sys.executable, "-I", "-c", code, site, tmp_path / "link"], capture_output=True, text=True
    )
    seen = {str(root / name) for root in (site, tmp_path / "link") for name in ("sdlab/cli.py", "other/lab1")}
    assert ended.returncode == 0 and set(ended.stdout.splitlines()) == seen, ended
    assert (folder / "own").exists()
