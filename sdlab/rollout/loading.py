"""Loading a model: the shipped organism (checked against its sums), a folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sdlab import paths
from sdlab.errors import SdlabError, first_line, unknown
from sdlab.files import sha256
from sdlab.rollout.checks import memory_told, require_vllm

if TYPE_CHECKING:
    from sdlab.rollout.torch_engine import TorchEngine
    from sdlab.rollout.vllm_engine import VllmEngine

ENGINES = ("torch", "vllm")
VLLM_SETTINGS = ("tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "enforce_eager")


def check_organism(folder: Path) -> None:
    """Compare every file named in folder/SHA256SUMS ("<hash>  <file>" lines) with its hash. Raises SdlabError on the first that differs."""
    sums = folder / "SHA256SUMS"
    mend = f"{paths.restore_hint(folder)}, or make the organism again with `sdlab pretrain`"
    if not sums.is_file():
        raise SdlabError(f"the organism's file {sums} is missing; {mend}")
    lines = [line.split(maxsplit=1) for line in sums.read_text(errors="replace").splitlines() if line.strip()]
    if not lines or any(len(line) != 2 for line in lines):
        raise SdlabError(f"the organism's file {sums} is damaged; {mend}")
    for expected, name in lines:
        path = folder / name.strip().lstrip("*")
        if not path.is_file():
            raise SdlabError(f"the organism's file {path} is missing; {mend}")
        if sha256(path) != expected:
            raise SdlabError(
                f"the organism's file {path} is damaged (its sha256 is not the one in SHA256SUMS); {mend}"
            )


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


def load_engine(
    model: str = "organism",
    *,
    engine: str = "torch",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    **settings,
) -> TorchEngine | VllmEngine:
    """An engine for "organism" (the shipped one, checksums verified), a folder, or a hub name such as "Qwen/Qwen3-8B".

    engine: "torch" (samples, scores and trains) or "vllm" (samples and scores large models; `settings` are VllmEngine's:
    tensor_parallel_size, max_model_len, gpu_memory_utilization, enforce_eager). device, torch's only: "cuda" if there is one, else
    "cpu". dtype: float32 on a CPU, bfloat16 on a GPU. Custom code from the hub never runs.
    Raises SdlabError, in one line, when the model is missing, damaged, cannot be reached or does not fit the memory.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    allowed = VLLM_SETTINGS if engine == "vllm" else ()
    for name in settings:
        if name not in allowed:
            raise SdlabError(
                f"engine {engine!r} has no setting {name!r}; it has {', '.join(('dtype', *allowed) if allowed else ('device', 'dtype'))}"
            )
    if engine == "vllm" and device is not None:
        raise SdlabError(
            f"device={device!r} is not for engine 'vllm', which finds its GPUs itself; set CUDA_VISIBLE_DEVICES to choose among them"
        )
    if engine == "vllm":
        require_vllm()
    source = find_model(model)
    return (
        _load_torch(model, source, device, dtype)
        if engine == "torch"
        else _load_vllm(model, source, dtype, settings)
    )


def find_model(model: str) -> str | Path:
    """The folder of a model, or its hub name. Raises SdlabError for a folder that does not exist and a damaged organism."""
    shipped = paths.shipped(model)
    if shipped:
        check_organism(shipped)
        return shipped
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    if (
        Path(model).is_absolute()
        or model.startswith((".", "~"))
        or model.count("/") > 1
        or Path(model).exists()
    ):
        raise SdlabError(
            f'the model folder {model!r} does not exist; name a folder with a saved model, a hub name, or "organism"'
        )
    return model


@contextmanager
def told(model: str):
    """Errors of loading `model` inside become one line."""
    lower = 'load it with dtype="bfloat16", choose a smaller model, or free memory that other programs use'
    try:
        with memory_told(lower):
            yield
    except SdlabError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        reason = first_line(error)
        raise SdlabError(
            f'could not load the model {model!r}{offline}: {reason}; check the name and the network, or give a folder or "organism"'
        ) from error


def _load_torch(model: str, source: str | Path, device, dtype) -> TorchEngine:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sdlab.rollout.torch_engine import TorchEngine

    limit = paths.cpu_limit()
    if limit is not None and limit < torch.get_num_threads():
        torch.set_num_threads(limit)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with told(model):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with quiet(paths.shipped(model) is not None):
            loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, trust_remote_code=False)
        return TorchEngine(loaded.to(device).eval(), tokenizer)


def _load_vllm(model: str, source: str | Path, dtype, settings: dict) -> VllmEngine:
    from transformers import AutoTokenizer

    from sdlab.rollout.vllm_engine import VllmEngine

    with told(model):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        return VllmEngine(str(source), tokenizer, dtype=dtype, **settings)
