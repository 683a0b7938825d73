"""Where a result came from: code, libraries, weights, seed, time and machine."""

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import sdlab
from sdlab import paths
from sdlab.files import sha256

LIBRARIES = ("torch", "transformers", "numpy")
MOMENTARY = (
    "time",
    "commit",
    "cores",
    "machine",
    "python",
    "peak_memory_mb",
)  # differ between two equal runs


def provenance(model: str | None = None, seed: int | None = None, **extra) -> dict:
    """Everything needed to make a result again, as JSON values.

    `model` is the string a notebook was given. For the organism or a local folder, `model_sha256` holds
    the sha256 of each weight and tokenizer file, and `knobs` the knobs of the reasoner it was pretrained on
    (None for a model from elsewhere). `peak_memory_mb` is the largest resident size of this
    process so far, in MiB. `extra` is added as it is.
    """
    found = {
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
    return {**found, **extra}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with `+` when tracked files differ from it; None outside a checkout."""
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # no git here, or a clone owned by someone else
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def _model_files(model: str | None) -> dict[str, str] | None:
    """File name -> sha256 for a model that lies in a folder; None for a hub name."""
    if model is None:
        return None
    folder = paths.shipped(model) or Path(model)
    if not folder.is_dir():
        return None
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".json", ".jinja")]
    return {path.name: sha256(path) for path in files}


def _model_knobs(model: str | None) -> dict[str, float] | None:
    """Return the knobs stored with a model in a folder; None for a model that sdlab did not pretrain."""
    if model is None:
        return None
    try:
        config = json.loads(((paths.shipped(model) or Path(model)) / "config.json").read_text())
    except (OSError, ValueError):  # a hub name, or a folder without a readable configuration
        return None
    from sdlab.world.knobs import Knobs  # with numpy, which the workers of the labs do without

    return Knobs.of(config).as_dict() if isinstance(config, dict) and config.get("sdlab") else None


def granted_cores() -> int | None:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what this process may use, not what the host has
    return os.cpu_count()


def peak_memory_mb() -> int | None:
    """The largest resident size of this process so far, in MiB; None on Windows."""
    with suppress(
        OSError, StopIteration
    ):  # Linux's own mark: getrusage counts what the parent had when it started this process
        line = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        return round(int(line.split()[1]) / 1024)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
