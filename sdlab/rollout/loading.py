"""Loading a model: the shipped organism (checked against its sums), a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256

if TYPE_CHECKING:
    from sdlab.rollout.torch_engine import TorchEngine

MEND = "run `git checkout data/organism` to restore it, or `sdlab pretrain` to make the organism again"


def check_organism(folder: Path) -> None:
    """Compare every file named in folder/SHA256SUMS ("<hash>  <file>" lines) with its hash. Raises SdlabError on the first that differs."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise SdlabError(f"the organism's file {sums} is missing; {MEND}")
    lines = [line.split(maxsplit=1) for line in sums.read_text(errors="replace").splitlines() if line.strip()]
    if not lines or any(len(line) != 2 for line in lines):
        raise SdlabError(f"the organism's file {sums} is damaged; {MEND}")
    for expected, name in lines:
        path = folder / name.strip().lstrip("*")
        if not path.is_file():
            raise SdlabError(f"the organism's file {path} is missing; {MEND}")
        if sha256(path) != expected:
            raise SdlabError(f"the organism's file {path} is damaged (its sha256 is not the one in SHA256SUMS); {MEND}")


@contextmanager
def quiet(wanted: bool):
    """No progress bar of transformers inside: for a file of 4 MB it is over before it is drawn, and stays in the notebook."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if wanted:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if wanted and shown:
            logging.enable_progress_bar()


def load_engine(model: str = "organism", *, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None) -> TorchEngine:
    """A TorchEngine for "organism" (the shipped one, checksums verified), a folder, or a hub name such as "Qwen/Qwen3-8B".

    device: "cuda" if there is one, else "cpu". dtype: float32 on a CPU, bfloat16 on a GPU. Custom code from the hub never runs.
    Raises SdlabError, in one line, when the model is missing, damaged or cannot be reached.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sdlab.rollout.torch_engine import TorchEngine

    limit = paths.cpu_limit()
    if limit is not None and limit < torch.get_num_threads():
        torch.set_num_threads(limit)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    source = model
    if paths.shipped(model):
        source = paths.shipped(model)
        check_organism(source)
    elif not Path(model).expanduser().is_dir():
        if Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or Path(model).exists():
            raise SdlabError(f"the model folder {model!r} does not exist; name a folder with a saved model, a hub name, or \"organism\"")
    else:
        source = Path(model).expanduser()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with quiet(paths.shipped(model) is not None):
            loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise SdlabError(
            f"could not load the model {model!r}{offline}: {reason[:200]}; check the name and the network, or give a folder or \"organism\""
        ) from error
    return TorchEngine(loaded.to(device).eval(), tokenizer)
