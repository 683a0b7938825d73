"""Check before anything loads whether a job can run: sizes that divide, packages, GPUs, memory advice."""

import importlib.util
from dataclasses import dataclass

from sdlab.errors import SdlabError
from sdlab.scale.job import Job
from sdlab.scale.repair_rules import repair_of
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sft import SFTConfig

NEEDS = {  # package -> what to install
    "trl": 'pip install "trl==1.16.0"',
    "datasets": 'pip install "sdlab[scale]"',
    "peft": 'pip install "sdlab[scale]" (or: pip install "peft>=0.21")',
    "deepspeed": 'pip install deepspeed, or choose accelerate="fsdp2", which needs nothing more',
    "vllm": 'pip install "vllm==0.31.0" (the newest that TRL 1.16 is tested with), or set use_vllm=False',
}


@dataclass(frozen=True)
class Sizes:
    """How the rows of a step are divided. All fields but `rows` and `updates` are per process."""

    rows: int  # completions (SFT: traces) of a step, over all processes
    updates: int  # optimizer updates per step
    micro_batches: int  # of per_device_rows each, per step
    accumulation: int  # micro-batches per optimizer update


def sizes(job: Job) -> Sizes:
    """Return the sizes of a step.

    Raises SdlabError when its rows do not divide; the message names numbers that fit.
    """
    config = job.config
    if isinstance(config, SFTConfig):
        rows, updates = config.batch_size, 1
        batch = f"batch_size={rows}"
    else:
        rows, updates = config.num_problems * config.num_generations, config.num_minibatches
        batch = f"num_problems*num_generations={config.num_problems}*{config.num_generations}={rows}"
    parts = job.num_processes * updates
    if rows % parts:
        fit = [n for n in range(1, rows + 1) if rows % (n * updates) == 0]
        raise SdlabError(
            f"{batch} rows do not divide into {updates} optimizer updates on "
            f"num_processes={job.num_processes}; "
            + (
                f"with this batch num_processes may be {_listed(fit)}"
                if fit
                else f"choose num_minibatches among {_listed(_divisors(rows))}"
            )
        )
    share = rows // parts
    if share % job.per_device_rows:
        raise SdlabError(
            f"per_device_rows={job.per_device_rows} does not divide the {share} rows that a process has for "
            f"each update "
            f"({batch}, {updates} updates, {job.num_processes} processes); choose {_listed(_divisors(share))}"
        )
    return Sizes(rows, updates, share * updates // job.per_device_rows, share // job.per_device_rows)


def check_job(job: Job) -> Sizes:
    """Check that this machine can run a job, and return its sizes.

    Raises SdlabError, before any model is read, for whatever would fail later.
    """
    step = sizes(job)
    if job.num_processes % job.num_machines:
        raise SdlabError(
            f"num_processes={job.num_processes} (over all machines) is not a multiple of "
            f"num_machines={job.num_machines}"
        )
    if job.accelerate == "single_gpu" and job.num_processes > 1:
        raise SdlabError(
            f'accelerate="single_gpu" runs one process, not {job.num_processes}; choose "ddp", "fsdp2" or '
            f'"zero3"'
        )
    if isinstance(job.config, RepairConfig):
        repair_of(job.config)
    if job.use_vllm and job.method == "sft":
        raise SdlabError("use_vllm=True with method 'sft', which samples nothing; set use_vllm=False")
    if job.use_vllm and job.accelerate == "cpu":
        raise SdlabError(
            'use_vllm=True with accelerate="cpu": TRL hands weights to vLLM on GPUs only; set use_vllm=False'
        )
    if job.use_vllm and job.vllm_mode == "colocate" and job.num_processes % job.vllm_tensor_parallel_size:
        raise SdlabError(
            f"vllm_tensor_parallel_size={job.vllm_tensor_parallel_size} does not divide "
            f"num_processes={job.num_processes}"
        )
    packages = (
        ["trl", "datasets"]
        + ["peft"] * bool(job.lora_rank)
        + ["vllm"] * job.use_vllm
        + ["deepspeed"] * (job.accelerate == "zero3")
    )
    check_gpus(job)
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise SdlabError(
                f"this job needs the package {package}, which is not installed; {NEEDS[package]}"
            )
    return step


def check_gpus(job: Job) -> None:
    """Raise SdlabError when the job asks for GPUs that this machine does not have."""
    if job.accelerate == "cpu":
        return
    import torch

    available, needed = torch.cuda.device_count(), max(1, job.num_processes // job.num_machines)
    if available < needed:
        raise SdlabError(
            f'accelerate="{job.accelerate}" with {needed} processes on this machine needs {needed} GPUs, and '
            f"it has {available}; "
            + (
                f"set num_processes={available * job.num_machines}"
                if available
                else 'run it where there are GPUs, or set accelerate="cpu"'
            )
        )


def memory_advice(job: Job) -> str:
    """Return what to lower in this job when memory runs out, the cheapest change first."""
    ways = []
    if job.per_device_rows > 1:
        smaller = max(n for n in _divisors(job.per_device_rows) if n < job.per_device_rows)
        ways.append(f"per_device_rows={smaller} (now {job.per_device_rows}; the result does not change)")
    if not job.gradient_checkpointing:
        ways.append("gradient_checkpointing=True")
    if not job.bf16 and job.accelerate != "cpu":
        ways.append("bf16=True")
    if job.use_vllm and job.vllm_mode == "colocate":
        ways.append(f"vllm_gpu_memory_utilization below {job.vllm_gpu_memory_utilization}")
    if job.accelerate in ("single_gpu", "ddp"):
        ways.append('accelerate="fsdp2" on more processes')
    if not job.lora_rank:
        ways.append("lora_rank=32")
    ways.append(f"max_completion_length below {job.config.max_completion_length}")
    return ", ".join(ways)


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
