"""Start a vLLM engine."""

import os
import warnings

import torch

from sdlab.errors import SdlabError, first_line
from sdlab.rollout.checks import OutOfMemory, lack_of_memory

CPU_ENVIRONMENT = {  # what vLLM reads on a machine without a GPU; a value that the user has set stays
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB; by default it wants 92% of the machine's memory and refuses to start when others use some
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # leave other processes their cores
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process: no `if __name__ == "__main__"` needed, notebooks work
}


def start(on_cpu: bool, **settings):
    """A `vllm.LLM`. Raises OutOfMemory or SdlabError, in one line, where it does not come up."""
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
            what = (
                "VLLM_CPU_KVCACHE_SPACE (GiB)"
                if on_cpu
                else "gpu_memory_utilization when others use the GPU (else raise it)"
            )
            raise OutOfMemory(
                f"vLLM has not the memory for {settings['model']!r} ({memory}); lower max_model_len (now {settings['max_model_len'] or 'the whole context'}), "
                f"set {what}, or raise tensor_parallel_size (now {settings['tensor_parallel_size']})"
            ) from error
        # vLLM's engine process on a GPU keeps the cause to itself and prints it
        above = (
            " (its messages above say why; for a lack of memory lower max_model_len or gpu_memory_utilization)"
            if "Engine core" in str(error)
            else ""
        )
        raise SdlabError(
            f'vLLM could not load {settings["model"]!r}: {first_line(error)}{above}; check that vLLM supports this model, or use engine="torch"'
        ) from error
    finally:
        torch.set_num_threads = (
            set_num_threads  # vLLM's CPU worker replaces it by a function that does nothing
        )


def end_ids(model: str, tokenizer) -> list[int]:
    """Token ids that end a completion, as the default engine finds them: the generation config's and the tokenizer's."""
    from types import SimpleNamespace

    from transformers import AutoConfig, GenerationConfig

    from sdlab.rollout import torch_engine

    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:
        generation = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(model, trust_remote_code=False)
        )
    return torch_engine.end_ids(SimpleNamespace(generation_config=generation), tokenizer)
