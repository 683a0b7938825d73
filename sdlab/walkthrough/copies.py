"""Copy the shipped notebooks to a folder of the user, and update the copy without losing a change."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import files_below, sha256, to_json, write_atomic

FOLDER = Path("sdlab-notebooks")
SUMS = ".sdlab-sums.json"  # name -> sha256 of what was copied, in the copy's folder


@dataclass(frozen=True)
class Copy:
    """The result of `copy_notebooks`: names of files, relative to `folder`."""

    folder: Path
    written: tuple[str, ...]
    updated: tuple[str, ...]  # not changed by the user, and replaced by a newer version
    kept: tuple[str, ...]  # changed by the user, so left alone

    def lines(self) -> Iterator[str]:
        """Yield lines for the user: the files that were copied, updated and kept."""
        if self.written:
            yield f"copied {len(self.written)} files to {self.folder}"
        if self.updated:
            yield f"updated {', '.join(self.updated)}"
        if self.kept:
            yield f"kept what you changed: {', '.join(self.kept)} (rename one to get the shipped one back)"


def copy_notebooks(folder: Path = FOLDER, source: Path | None = None) -> Copy:
    """Copy the shipped notebooks and labs to `folder`.

    Missing files are written, files that the user did not change are updated, and changed files are kept.

    Raises SdlabError when the folder cannot be read or written.
    """
    source, folder = source or paths.notebooks_dir(), Path(folder).resolve()
    done: dict[str, list[str]] = {"written": [], "updated": [], "kept": []}
    try:
        sums = _read_sums(folder)
        for path in files_below(source):  # without hidden folders, such as checkpoints of JupyterLab
            name, place = path.relative_to(source), folder / path.relative_to(source)
            shipped, there = sha256(path), sha256(place) if place.exists() else None
            if there not in (None, shipped, sums.get(str(name))):
                done["kept"].append(str(name))
                continue
            if there != shipped:
                write_atomic(place, path.read_bytes())
                done["updated" if there else "written"].append(str(name))
            sums[str(name)] = shipped
        write_atomic(folder / SUMS, to_json(sums, indent=1) + "\n")
    except OSError as error:
        raise SdlabError(
            f"could not copy the notebooks to {folder}: {error.strerror}; start sdlab where you may write"
        ) from error
    return Copy(folder, **{what: tuple(names) for what, names in done.items()})


def _read_sums(folder: Path) -> dict[str, str]:
    """Return the sums of an earlier copy; {} when missing or damaged, so all files count as changed."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return sums if isinstance(sums, dict) else {}
