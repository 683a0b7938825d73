"""Write files completely or not at all; write and read JSON; compute checksums."""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from sdlab.errors import SdlabError


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write `content` to `path` through a temporary file beside it and one rename.

    Raises SdlabError when the disk is full or the folder cannot be written; `path` is then unchanged.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes the file private; others must be able to read a report
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise SdlabError(
            f"could not write {path}: {error.strerror}; free some space or choose another folder"
        ) from error
    return path


def to_json(value: Any, **options: Any) -> str:
    """Return `value` as valid JSON.

    JSON has no NaN and no infinities, so these become null. NumPy's numbers become Python's. options: of
    `json.dumps`.
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def from_json(text: str | bytes) -> Any:
    """Read what `to_json` wrote, with null as NaN.

    Raises ValueError for a text that is not JSON.
    """
    return _with_nan(json.loads(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if not isinstance(value, (str, int, float, type(None))) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nan(one) for one in value]
    return math.nan if value is None else value


def sha256(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes.

    Raises SdlabError when the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SdlabError(f"cannot read {path}: {error.strerror}; check its name and its rights") from error


def files_below(folder: str | Path) -> list[Path]:
    """Return the files in a folder and its subfolders, in order, without hidden ones.

    `Path.rglob` skips a subfolder that this user may not read, and its files would be missing silently.
    Raises SdlabError for such a folder.
    """

    def refuse(error: OSError) -> None:
        raise SdlabError(
            f"cannot read the folder {error.filename}: {error.strerror}; check its name and its rights"
        ) from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)
