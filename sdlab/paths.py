"""Where the shipped data and real data lie, and how many threads this machine grants."""

import os
from pathlib import Path


def data_dir() -> Path:
    """The repository's `data` folder, or the folder named by the environment variable SDLAB_DATA."""
    return Path(os.environ.get("SDLAB_DATA") or Path(__file__).resolve().parent.parent / "data")


SHIPPED = (
    "organism",
    "organism-small",
)  # models that lie in `data`; the second is there to see what depends on size


def shipped(model: str) -> Path | None:
    """The folder of a shipped model, None for any other."""
    return data_dir() / model if model in SHIPPED else None


def real_data(name: str) -> Path | None:
    """A file of real models' output, which the repository does not hold: in the folder that the environment variable
    SDLAB_REAL_DATA names, else in `shared/real` next to the checkout. None when it is not there."""
    folder = os.environ.get("SDLAB_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "real"
    path = Path(folder) / name
    return path if path.is_file() else None


def cpu_limit() -> int | None:
    """Whole processors granted by JupyterHub or Binder (environment variable CPU_LIMIT, such as "1.5"), None where it is unset.

    torch sees every core of the host inside a container that may use only one; threads beyond the limit are throttled.
    """
    try:
        return max(1, int(float(os.environ["CPU_LIMIT"])))
    except (KeyError, ValueError, OverflowError):
        return None
