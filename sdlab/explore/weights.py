"""Pack the base organism and its checkpoints as the texts that the explorer's page holds."""

import base64
import gzip
from pathlib import Path

from sdlab import paths
from sdlab.runs.checkpoints import Checkpoint, base_weights, list_checkpoints, read_checkpoint


def pack_base(folder: str | Path) -> str:
    """Return the base's weights as float16 in safetensors form, compressed with gzip, as base64.

    Raises SdlabError as `sdlab.runs.checkpoints.base_weights`.
    """
    from safetensors.torch import save

    return base64.b64encode(gzip.compress(save(base_weights(folder)), mtime=0)).decode()


def pack_checkpoint(entry: Checkpoint, base_folder: str | Path, folder: str | Path | None = None) -> str:
    """Return a checkpoint's file as base64, after checking it and its base.

    Raises SdlabError as `sdlab.runs.checkpoints.read_checkpoint`.
    """
    return base64.b64encode(read_checkpoint(entry, base_folder, folder)).decode()


def key(entry: Checkpoint) -> str:
    """Return the name of a checkpoint within the page: "sdpo-10"."""
    return f"{entry.name}-{entry.step}"


def models(folder: str | Path | None = None) -> list[Checkpoint]:
    """Return the checkpoints to show, by model and step; none when there is no folder."""
    return list_checkpoints(paths.checkpoints_dir() if folder is None else folder)
