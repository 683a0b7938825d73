"""Store trained models as small differences from their base organism, and load them again.

A folder of checkpoints has one file per model and training step, and `index.json`. A checkpoint holds, for
every matrix of the model, the difference from the base: whole numbers from -63 to 63 (int8) and one scale per
row (float16). The base counts as rounded to float16. Vectors (the norms' weights) are stored whole, in
float32. The files are safetensors, compressed with gzip, so a browser reads them too.
"""

import gzip
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from sdlab import paths
from sdlab.errors import SdlabError, first_line, unknown
from sdlab.files import sha256, to_json, write_atomic
from sdlab.rollout.loading import load_engine

if TYPE_CHECKING:
    from sdlab.rollout.torch_engine import TorchEngine

INDEX, VERSION = "index.json", 1
# The largest code; the smallest is -LEVELS. After 10 steps of SDPO the mean error of a token's
# log-probability was 2e-5, and 39 of 40 greedy completions were the same. With 127 all 40 were, and a file is
# 14% larger.
LEVELS = 63
CODES, SCALES = ".codes", ".scales"  # what follows the name of a matrix


@dataclass(frozen=True)
class Checkpoint:
    """One line of the index."""

    name: str  # of the model: "sdpo"
    label: str  # for readers: "SDPO"
    method: str  # of training; it gives the model its colour
    step: int  # training steps since the base
    file: str
    sha256: str  # of the file
    base: str  # sha256 of the base organism's weights


def base_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model in `folder` rounded to float16, by name.

    Raises SdlabError when the folder has no model, and for weights that float16 cannot hold.
    """
    from safetensors.torch import load_file

    path = _weights_file(folder)
    try:
        weights = {name: tensor.half() for name, tensor in load_file(path).items()}
    except Exception as error:  # safetensors has an exception of its own
        raise SdlabError(
            f"the weights {path} cannot be read ({first_line(error)}); {paths.restore_hint(path)}"
        ) from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise SdlabError(f"{name} of {path} does not fit float16; the explorer needs smaller weights")
    return weights


def write_checkpoint(
    base_folder: str | Path,
    model: torch.nn.Module,
    folder: str | Path,
    name: str,
    step: int,
    *,
    label: str | None = None,
    method: str | None = None,
) -> Checkpoint:
    """Store `model` as its difference from the base in `base_folder`, and enter it in the folder's index.

    A checkpoint of the same name and step is replaced. label, method: default to `name`.
    Raises SdlabError when model and base have different weights, when the folder holds checkpoints of another
    base, and when a weight is not finite.
    """
    base, origin = base_weights(base_folder), sha256(_weights_file(base_folder))
    entries = checkpoints_of_base(folder, base_folder)
    data = gzip.compress(_packed(base, dict(model.named_parameters())), mtime=0)
    entry = Checkpoint(
        name, label or name, method or name, int(step), f"{name}-{int(step):04d}.gz", "", origin
    )
    path = write_atomic(Path(folder, entry.file), data)
    entry = replace(entry, sha256=sha256(path))
    entries = [old for old in entries if (old.name, old.step) != (entry.name, entry.step)] + [entry]
    order = list(dict.fromkeys(old.name for old in entries))
    entries.sort(key=lambda one: (order.index(one.name), one.step))
    text = to_json({"version": VERSION, "checkpoints": [asdict(one) for one in entries]}, indent=1)
    write_atomic(Path(folder, INDEX), text + "\n")
    return entry


def checkpoints_of_base(folder: str | Path, base_folder: str | Path) -> list[Checkpoint]:
    """Return the checkpoints of a folder to which those of the base in `base_folder` may be added.

    Raises SdlabError when the folder holds checkpoints of another base.
    """
    entries = list_checkpoints(folder) if Path(folder, INDEX).exists() else []
    origin = sha256(_weights_file(base_folder))
    if other := [entry for entry in entries if entry.base != origin]:
        raise SdlabError(
            f"the checkpoints in {folder} belong to another base organism (sha256 {other[0].base[:12]}, here "
            f"{origin[:12]}); write to another folder"
        )
    return entries


def list_checkpoints(folder: str | Path | None = None) -> list[Checkpoint]:
    """Return the checkpoints of a folder (default `data/checkpoints`) by model and step; [] without one.

    Raises SdlabError for an index that is missing, damaged or of another version.
    """
    folder = paths.checkpoints_dir() if folder is None else Path(folder)
    path = folder / INDEX
    if not folder.is_dir():
        return []
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        entries = [Checkpoint(**entry) for entry in index["checkpoints"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SdlabError(
            f"the index {path} is missing or damaged ({first_line(error)}); {paths.restore_hint(path)}"
        ) from error
    if index.get("version") != VERSION:
        raise SdlabError(
            f"the index {path} has version {index.get('version')!r}; this sdlab reads version {VERSION}; "
            "write the checkpoints again"
        )
    return entries


def find_checkpoint(name: str, step: int | None = None, folder: str | Path | None = None) -> Checkpoint:
    """Return the checkpoint of a model after `step` training steps; None means its last.

    Raises SdlabError for an unknown name or step.
    """
    entries = list_checkpoints(folder)
    own = [entry for entry in entries if entry.name == name]
    if not own:
        raise unknown("checkpoint", name, {entry.name for entry in entries})
    steps = {entry.step: entry for entry in own}
    if step is not None and step not in steps:
        raise unknown(f"training step of {name}", step, steps)
    return steps[max(steps) if step is None else step]


def read_checkpoint(entry: Checkpoint, base_folder: str | Path, folder: str | Path | None = None) -> bytes:
    """Return the bytes of a checkpoint's file after checking them and its base.

    Raises SdlabError for a checkpoint of another base organism and for a file that is missing or damaged.
    """
    path = (paths.checkpoints_dir() if folder is None else Path(folder)) / entry.file
    origin = sha256(_weights_file(base_folder))
    if entry.base != origin:
        raise SdlabError(
            f"checkpoint {entry.name!r} belongs to another base organism (sha256 {entry.base[:12]}, "
            f"{base_folder} has {origin[:12]}); name its base organism"
        )
    if not path.is_file() or sha256(path) != entry.sha256:
        state = "damaged (its sha256 differs from the index)" if path.is_file() else "missing"
        raise SdlabError(f"the checkpoint {path} is {state}; {paths.restore_hint(path)}")
    return path.read_bytes()


def load_checkpoint(
    name: str,
    step: int | None = None,
    *,
    folder: str | Path | None = None,
    base_folder: str | Path | None = None,
) -> "TorchEngine":
    """Load the model of a checkpoint as an engine; the weights are exactly those of the explorer.

    name: a model of the index, or "base" for the base rounded to float16. step: default the last. folder:
    default `data/checkpoints`. base_folder: default the organism.
    Raises SdlabError for an unknown name or step, for a checkpoint of another base organism, and for a file
    that is missing or damaged.
    """
    # the shipped organism by its name, because its checksums are then verified
    engine = load_engine(
        paths.ORGANISM if base_folder is None else str(base_folder), device="cpu", dtype="float32"
    )
    base_folder = paths.data_dir() / paths.ORGANISM if base_folder is None else base_folder
    weights = {tensor: value.float() for tensor, value in base_weights(base_folder).items()}
    if name != "base":
        entry = find_checkpoint(name, step, folder)
        weights = _unpacked(weights, gzip.decompress(read_checkpoint(entry, base_folder, folder)), entry.file)
    with torch.no_grad():
        for tensor, parameter in engine.model.named_parameters():
            parameter.copy_(weights[tensor])
    return cast("TorchEngine", engine)


def _weights_file(folder: str | Path) -> Path:
    path = Path(folder, "model.safetensors")
    if not path.is_file():
        raise SdlabError(f"{folder} holds no model.safetensors; name the folder of an organism")
    return path


def _packed(base: dict[str, torch.Tensor], trained: dict[str, torch.Tensor]) -> bytes:
    """Return the safetensors bytes of a model's difference from its base."""
    from safetensors.torch import save

    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (base, trained)]
    if shapes[0] != shapes[1]:
        raise SdlabError("the model's weights have other names or shapes than its base; name its own base")
    tensors = {}
    for name, before in base.items():
        after = trained[name].detach().float().cpu()
        if not torch.isfinite(after).all():
            raise SdlabError(f"{name} of the trained model is not finite; go back to an earlier step")
        if after.dim() == 1:
            tensors[name] = after.clone()
        else:
            tensors[name + CODES], tensors[name + SCALES] = _rounded(after - before.float())
    return save(tensors)


def _rounded(difference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the int8 codes (R, C) and float16 scales (R,) of a matrix of differences (R, C)."""
    largest = difference.abs().amax(1)
    scales = (largest / LEVELS).half()
    up = torch.from_numpy(np.nextafter(scales.numpy(), np.float16(np.inf)))
    scales = torch.where(scales.float() * LEVELS < largest, up, scales)
    safe = torch.where(scales > 0, scales, torch.ones_like(scales)).float()
    codes = (difference / safe[:, None]).round().clamp(-LEVELS, LEVELS)
    return codes.to(torch.int8), scales


def _unpacked(base: dict[str, torch.Tensor], data: bytes, file: str) -> dict[str, torch.Tensor]:
    """Return the weights of a model, float32, from its base and its checkpoint's bytes."""
    from safetensors.torch import load

    tensors = load(data)
    try:
        return {
            name: tensors[name]
            if before.dim() == 1
            else before + tensors[name + CODES].float() * tensors[name + SCALES].float()[:, None]
            for name, before in base.items()
        }
    except KeyError as error:
        raise SdlabError(f"the checkpoint {file} lacks {error}; write it again") from error
