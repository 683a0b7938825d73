"""Locate the shipped data, the notebooks and real data, and read the number of processors granted."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from sdlab.errors import SdlabError

PACKAGE = Path(__file__).resolve().parent
ORGANISM = "organism"  # the default model
# The models in `data`: the organism, two more pretraining seeds, one without intuition, and one of a quarter
# of the size.
SHIPPED = (ORGANISM, "organism-1", "organism-2", "organism-blind", "organism-small")
SHOWN = 60  # characters of a name in an error
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.EINVAL)  # of a file that is none


def checkout() -> Path | None:
    """Return the repository that sdlab runs from, or None when it was installed from a wheel."""
    return None if (PACKAGE / "_data").is_dir() else PACKAGE.parent


def data_dir() -> Path:
    """Return the folder of the shipped data.

    That is SDLAB_DATA if it is set, otherwise `data` of the checkout or the wheel.
    """
    return Path(os.environ.get("SDLAB_DATA") or _shipped_folder("data"))


def checkpoints_dir() -> Path:
    """Return the folder of the trained models, stored as differences from the organism."""
    return data_dir() / "checkpoints"


def notebooks_dir() -> Path:
    """Return the folder of the shipped notebooks, `notebooks` of the checkout or of the wheel."""
    return _shipped_folder("notebooks")


def record_dir() -> Path:
    """Return the folder for new records: `data_dir()`, but never a folder inside an installed package."""
    if os.environ.get("SDLAB_DATA") or checkout():
        return data_dir()
    return Path("sdlab-data")


def given(name: str | Path) -> Path:
    """Return the path that a user named, with `~` for the home folder.

    The home of an unknown user ("~nobody/file") stays as it is written, and so no file is found there.
    Raises SdlabError for a name that the system cannot look up: it is too long, or lies in a folder that this
    user may not enter.
    """
    path = Path(name)
    with suppress(RuntimeError):  # an unknown user
        path = path.expanduser()
    try:
        path.stat()
    except OSError as error:
        if error.errno in NOT_THERE:
            return path
        short = str(name) if len(str(name)) <= SHOWN else f"{str(name)[:SHOWN]}..."
        raise SdlabError(
            f"no file or folder can be looked up by the name {short!r} ({error.strerror}); "
            "check the name, and the rights of the folders in it"
        ) from error
    return path


def restore_hint(path: str | Path) -> str:
    """Return the instruction to restore a missing or damaged file or folder of data or notebooks."""
    root, place = checkout(), Path(path).resolve()
    if not place.is_relative_to(root or PACKAGE):  # in the folder that SDLAB_DATA names, or in a copy
        return "restore it from a copy that is whole"
    if root:
        return f"restore it with `git checkout {place.relative_to(root)}`"
    return "restore it with `pip install --force-reinstall --no-deps sdlab`"


def _shipped_folder(name: str) -> Path:
    """Return the folder `name` of the checkout, or its copy in an installed package.

    Source: hatch's sources in pyproject.toml.
    """
    root = checkout()
    return root / name if root else PACKAGE / f"_{name}"


def shipped(model: str) -> Path | None:
    """Return the folder of a shipped model, or None for any other model."""
    return data_dir() / model if model in SHIPPED else None


def real_data(name: str) -> Path | None:
    """Return a file with output of real models, or None when it does not exist.

    The repository does not contain these files. They are in the folder that the environment variable
    SDLAB_REAL_DATA names, otherwise in `shared/real` next to the checkout.
    """
    root = checkout()
    folder = os.environ.get("SDLAB_REAL_DATA") or (root and root.parent / "shared" / "real")
    path = Path(folder, name) if folder else None
    return path if path and path.is_file() else None


def cpu_limit() -> int | None:
    """Return the number of whole processors that JupyterHub or Binder grants, or None if there is no limit.

    It is read from the environment variable CPU_LIMIT, such as "1.5". Inside a container that may use one
    core, torch still sees every core of the host, and threads beyond the limit are slowed down.
    """
    try:
        return max(1, int(float(os.environ["CPU_LIMIT"])))
    except (KeyError, ValueError, OverflowError):
        return None
