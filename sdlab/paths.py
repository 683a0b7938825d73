"""Where the shipped data lies, and how many threads this machine grants."""

import os
from pathlib import Path


def data_dir() -> Path:
    """The repository's `data` folder, or the folder named by the environment variable SDLAB_DATA."""
    return Path(os.environ.get("SDLAB_DATA") or Path(__file__).resolve().parent.parent / "data")


def cpu_limit() -> int | None:
    """Whole processors granted by JupyterHub or Binder (environment variable CPU_LIMIT, such as "1.5"), None where it is unset.

    torch sees every core of the host inside a container that may use only one; threads beyond the limit are throttled.
    """
    try:
        return max(1, int(float(os.environ["CPU_LIMIT"])))
    except (KeyError, ValueError, OverflowError):
        return None
