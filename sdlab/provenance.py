"""Record the origin of a result: code, libraries, weights, seed, time and machine."""

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sdlab
from sdlab import paths
from sdlab.files import sha256

LIBRARIES = ("torch", "transformers", "numpy")
# These entries differ between two equal runs.
MOMENTARY = ("time", "commit", "cores", "machine", "python", "peak_memory_mb")


def provenance(model: str | None = None, seed: int | None = None, **extra: Any) -> dict:
    """Return everything that is needed to reproduce a result, as JSON values.

    `model` is the name passed to the notebook. For the organism or a local folder, `model_sha256` has the
    sha256 of each weight and tokenizer file. `knobs` are the knobs of the reasoner that the model was
    pretrained on (None for a model from elsewhere). `peak_memory_mb` is the largest resident size of this
    process so far, in MiB. `extra` is added unchanged.
    """
    facts = {
        "sdlab": sdlab.__version__,
        "commit": _commit(),
        **{name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "model": model,
        "model_sha256": _model_files(model),
        "knobs": _model_knobs(model),
        "seed": seed,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": granted_cores(),
        "machine": f"{platform.system()} {platform.machine()}",
        "peak_memory_mb": peak_memory_mb(),
    }
    return {**facts, **extra}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the checkout's commit, with `+` when tracked files differ from it; None outside a checkout."""
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # git is missing, or the clone belongs to another user
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def _model_files(model: str | None) -> dict[str, str] | None:
    """Return file name -> sha256 for a model in a folder; None for a hub name."""
    if model is None:
        return None
    folder = paths.shipped(model) or paths.given(model)
    if not folder.is_dir():
        return None
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".json", ".jinja")]
    return {path.name: sha256(path) for path in files}


def _model_knobs(model: str | None) -> dict[str, float] | None:
    """Return the knobs stored with a model in a folder; None for a model that sdlab did not pretrain."""
    if model is None:
        return None
    try:
        config = json.loads(((paths.shipped(model) or paths.given(model)) / "config.json").read_text())
    except (OSError, ValueError):  # a hub name, or a folder without a readable configuration
        return None
    from sdlab.world.knobs import Knobs  # with numpy, which the workers of the labs do without

    return Knobs.of(config).as_dict() if isinstance(config, dict) and config.get("sdlab") else None


def granted_cores() -> int | None:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # the cores of this process, not those of the host
    return os.cpu_count()


def peak_memory_mb() -> int | None:
    """Return the largest resident size of this process so far, in MiB; None on Windows."""
    # On Linux VmHWM is exact. getrusage also counts the memory of the parent when it started this process.
    with suppress(OSError, StopIteration):
        line = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        return round(int(line.split()[1]) / 1024)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
