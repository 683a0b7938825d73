"""Pack the base organism and its checkpoints as the texts that the explorer's page holds."""

import base64
import gzip
from pathlib import Path

from sdlab import paths
from sdlab.runs.checkpoints import Checkpoint, base_weights, list_checkpoints, read_checkpoint


def pack_base(folder: str | Path) -> str:
    """Return the base's weights as float16 in safetensors form, compressed with gzip, as text.

    Raises SdlabError as `sdlab.runs.checkpoints.base_weights`.
    """
    from safetensors.torch import save

    return to_text(gzip.compress(save(base_weights(folder)), mtime=0))


def pack_checkpoint(entry: Checkpoint, base_folder: str | Path, folder: str | Path | None = None) -> str:
    """Return a checkpoint's file as text, after checking it and its base.

    Raises SdlabError as `sdlab.runs.checkpoints.read_checkpoint`.
    """
    return to_text(read_checkpoint(entry, base_folder, folder))


def to_text(data: bytes) -> str:
    """Return bytes as text in base 85: Python's digits, with "," and "." for "<" and "&", which HTML reads.

    Four bytes become five characters. Base64 would be 7% longer.
    """
    return base64.b85encode(data).decode().translate(str.maketrans("<&", ",."))


def key(entry: Checkpoint) -> str:
    """Return the name of a checkpoint within the page: "sdpo-10"."""
    return f"{entry.name}-{entry.step}"


def models(folder: str | Path | None = None) -> list[Checkpoint]:
    """Return the checkpoints to show, by model and step; none when there is no folder."""
    return list_checkpoints(paths.checkpoints_dir() if folder is None else folder)
