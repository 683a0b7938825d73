"""Start a vLLM engine, and name the tokens that end its completions."""

import os
import warnings
from typing import TYPE_CHECKING, Any

import torch

from sdlab.errors import SdlabError, first_line
from sdlab.rollout.checks import OutOfMemory, lack_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLM

# Variables that vLLM reads on a machine without a GPU. A value that the user has set stays.
CPU_ENVIRONMENT = {
    # GiB. By default vLLM requires 92% of the machine's memory, and does not start when other programs use
    # some.
    "VLLM_CPU_KVCACHE_SPACE": "2",
    # Do not bind threads to cores that other processes use.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Run in this process: notebooks work, and a script needs no `if __name__ == "__main__"`.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def start(on_cpu: bool, **settings: Any) -> "LLM":
    """Start vLLM and return the `vllm.LLM`.

    Raises OutOfMemory or SdlabError, in one line, when it does not start.
    """
    for name, value in (CPU_ENVIRONMENT if on_cpu else {}).items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    set_num_threads = torch.set_num_threads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from vllm import LLM

            return LLM(**settings, use_tqdm_on_load=False)
    except (
        ValueError,
        RuntimeError,
        OSError,
        MemoryError,
        ImportError,
        NotImplementedError,
        AssertionError,
    ) as error:
        if memory := lack_of_memory(error):
            setting = (
                "VLLM_CPU_KVCACHE_SPACE (GiB)"
                if on_cpu
                else "gpu_memory_utilization when others use the GPU (else raise it)"
            )
            raise OutOfMemory(
                f"vLLM ran out of memory for {settings['model']!r} ({memory}); "
                f"lower max_model_len (now {settings['max_model_len'] or 'the whole context'}), "
                f"set {setting}, or raise tensor_parallel_size (now {settings['tensor_parallel_size']})"
            ) from error
        # On a GPU vLLM's engine process prints the cause and does not pass it on.
        above = (
            " (its messages above say why; "
            "for a lack of memory lower max_model_len or gpu_memory_utilization)"
            if "Engine core" in str(error)
            else ""
        )
        raise SdlabError(
            f"vLLM could not load {settings['model']!r}: {first_line(error)}{above}; "
            'check that vLLM supports this model, or use engine="torch"'
        ) from error
    finally:
        # vLLM's CPU worker replaces this function by one that does nothing.
        torch.set_num_threads = set_num_threads


def end_ids(model: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the token ids that end a completion, as the default engine does.

    They come from the generation config and from the tokenizer.
    """
    from transformers import AutoConfig, GenerationConfig

    from sdlab.rollout import rows

    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:
        generation = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(model, trust_remote_code=False)
        )
    return rows.end_ids(generation, tokenizer)
