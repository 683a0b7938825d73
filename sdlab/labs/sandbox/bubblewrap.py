"""Bubblewrap, where it is installed: a container for one process, made by `bwrap` without root."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from sdlab.labs.sandbox.folders import hidden_places, needed_folders

CLOSED_OFF = ("files", "network", "processes")


def command(folder: Path, hidden: list[Path]) -> list[str]:
    """Return the start of a command line that runs the rest inside bubblewrap; [] where it cannot be used.

    Inside, only `folder` can be written. The files that a submission needs can be read, except those in the
    folders `hidden`. No other file exists there.
    """
    return [] if find()[1] else _command(find()[0], folder, hidden)


def refusal() -> str:
    """Return one line when bubblewrap is installed but does not start here, "" otherwise."""
    path, reason = find()
    return (
        f"bubblewrap does not start on this machine ({reason});"
        " using the kernel's namespaces and Landlock instead"
        if path and reason
        else ""
    )


@cache
def find() -> tuple[str, str]:
    """Return the path of `bwrap` ("" when it is not installed) and why it cannot be used ("" when it can)."""
    path = shutil.which("bwrap") if sys.platform == "linux" else None
    if path is None:
        return "", "not installed"
    with tempfile.TemporaryDirectory(prefix="sdlab-bwrap-") as folder:
        trial = [*_command(path, Path(folder), []), sys.executable, "-I", "-c", ""]
        try:
            ended = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return path, type(error).__name__
    lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
    return path, lines[-1][:200] if ended.returncode else ""


def _command(path: str, folder: Path, hidden: list[Path]) -> list[str]:
    place, needed = os.path.realpath(folder), needed_folders(hidden)[0]
    needed = sorted({*needed, *map(os.path.realpath, needed)})  # a path may lead through a link
    arguments = [path, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    mounts = [(Path(one).parts, 0, ["--ro-bind-try", one, one]) for one in needed]
    for one in needed:
        for empty in hidden_places(one, hidden):
            mounts.append((Path(empty).parts, 1, ["--tmpfs", empty, "--remount-ro", empty]))
    for _, _, mount in sorted(mounts):  # a folder before those in it
        arguments += mount
    arguments += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    return [*arguments, "--bind", place, place, "--remount-ro", "/", "--chdir", place]
