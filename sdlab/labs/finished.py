"""Store finished results of the leaderboard in a folder; a repeated command trains only new submissions."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from sdlab import __version__
from sdlab.errors import SdlabError
from sdlab.files import write_atomic

if TYPE_CHECKING:
    from sdlab.labs.budget import Budget

TABLES = ("score", "tokens", "in_domain")


class Finished:
    """The results in `folder` for one secret, budget and model.

    A result belongs to the content of a submission, not to the name of its file. It does not depend on the
    allowed time and memory.

    Raises SdlabError when the folder cannot be created.
    """

    def __init__(self, folder: Path, secret: str, budget: Budget) -> None:
        from sdlab.rollout.loading import load_engine

        self.folder, self.seeds = Path(folder), budget.seeds
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SdlabError(
                f"could not create the folder {folder} for finished results: {error.strerror}"
            ) from error
        settings = {
            key: value for key, value in asdict(budget).items() if key not in ("timeout", "memory_gb")
        }
        weights = hashlib.sha256()
        for name, parameter in load_engine(budget.model).model.named_parameters():
            weights.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
        self._circumstances = (
            json.dumps(
                [secret, settings, weights.hexdigest(), __version__], sort_keys=True, default=str
            ).encode()
            + b"\n"
        )

    def find(self, source: Path | str) -> dict[str, np.ndarray] | None:
        """Return the stored tables of the submission `source` (a file, or Python text), or None.

        A damaged file counts as none.
        """
        try:
            with np.load(self._path(source), allow_pickle=False) as kept:
                tables = {what: kept[what] for what in TABLES}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        whole = all(
            table.ndim == 2 and len(table) == self.seeds and np.isfinite(table).all()
            for table in tables.values()
        )
        return tables if whole and tables["score"].shape == tables["tokens"].shape else None

    def keep(self, tables: dict[str, np.ndarray], source: Path | str) -> None:
        """Store `tables` as the result of `source`.

        The file is written completely or not at all. Raises SdlabError when that is not possible.
        """
        content = io.BytesIO()
        arrays: dict[str, Any] = dict(tables)
        np.savez(content, **arrays)
        try:
            path = self._path(source)
        except OSError as error:
            raise SdlabError(
                f"could not read {source} again: {error.strerror}; its result was not kept"
            ) from error
        write_atomic(path, content.getvalue())

    def _path(self, source: Path | str) -> Path:
        content = source.read_bytes() if isinstance(source, Path) else source.encode()
        return self.folder / f"{hashlib.sha256(self._circumstances + content).hexdigest()[:32]}.npz"
