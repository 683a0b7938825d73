"""Where the shipped data, the notebooks and real data lie, and how many threads this machine grants."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ORGANISM = "organism"  # the model that is used when no other is named
# Models that lie in `data`: two further pretraining seeds, one without intuition, one of a quarter of the size.
SHIPPED = (ORGANISM, "organism-1", "organism-2", "organism-blind", "organism-small")


def checkout() -> Path | None:
    """Return the repository that sdlab runs from; None where it was installed from a wheel."""
    return None if (PACKAGE / "_data").is_dir() else PACKAGE.parent


def data_dir() -> Path:
    """Return the folder of the shipped data: SDLAB_DATA where it is set, else `data` of the checkout or the wheel."""
    return Path(os.environ.get("SDLAB_DATA") or _shipped_folder("data"))


def notebooks_dir() -> Path:
    """Return the folder of the shipped notebooks, `notebooks` of the checkout or of the wheel."""
    return _shipped_folder("notebooks")


def record_dir() -> Path:
    """Return the folder that new records go to: `data_dir()`, but never inside an installed package."""
    if os.environ.get("SDLAB_DATA") or checkout():
        return data_dir()
    return Path("sdlab-data")


def restore_hint(path: str | Path) -> str:
    """Say how a file or folder of data or notebooks that is missing or damaged is restored."""
    root, place = checkout(), Path(path).resolve()
    if not place.is_relative_to(root or PACKAGE):  # in the folder that SDLAB_DATA names, or in a copy
        return "restore it from a copy that is whole"
    if root:
        return f"restore it with `git checkout {place.relative_to(root)}`"
    return "restore it with `pip install --force-reinstall --no-deps sdlab`"


def _shipped_folder(name: str) -> Path:
    """`name` of the checkout, or its copy in an installed package (pyproject.toml, hatch's sources)."""
    root = checkout()
    return root / name if root else PACKAGE / f"_{name}"


def shipped(model: str) -> Path | None:
    """The folder of a shipped model, None for any other."""
    return data_dir() / model if model in SHIPPED else None


def real_data(name: str) -> Path | None:
    """A file of real models' output, which the repository does not hold: in the folder that the environment variable
    SDLAB_REAL_DATA names, else in `shared/real` next to the checkout. None when it is not there."""
    root = checkout()
    folder = os.environ.get("SDLAB_REAL_DATA") or (root and root.parent / "shared" / "real")
    path = Path(folder, name) if folder else None
    return path if path and path.is_file() else None


def cpu_limit() -> int | None:
    """Whole processors granted by JupyterHub or Binder (environment variable CPU_LIMIT, such as "1.5"), None where it is unset.

    torch sees every core of the host inside a container that may use only one; threads beyond the limit are throttled.
    """
    try:
        return max(1, int(float(os.environ["CPU_LIMIT"])))
    except (KeyError, ValueError, OverflowError):
        return None
