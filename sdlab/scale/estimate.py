"""Estimate the memory and the time of a job on a kind of GPU, for planning.

The figures are orders of magnitude. The formulas and their assumptions are in `sdlab.scale.costs`; LIMITS
names what the estimate leaves out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sdlab.errors import SdlabError, unknown
from sdlab.scale.checks import sizes
from sdlab.scale.costs import GIB, Line, cache_bytes, memory_lines, sampling_seconds, time_lines
from sdlab.scale.hardware import GPU, GPUS, Shape, shape_of
from sdlab.scale.job import Job

Change = Callable[[Job], Job]
USABLE = 0.92  # of a GPU's memory; the rest is the CUDA context, communication buffers, fragmentation
LIMITS = (
    "completion lengths: the mean in the recipe, from before training; GRPO lengthens and SDPO shortens them",
    "rows without a right sibling, which SDPO leaves out: all rows are counted",
    "communication between GPUs, loading, saving, grading, weight transfer to vLLM, stragglers beyond one "
    "longest response per step",
    "padding of rows to the longest of a micro-batch, and fused kernels that need less memory than TRL's "
    "plain losses",
)


@dataclass(frozen=True)
class Estimate:
    """Memory per GPU and time of a whole job."""

    gpu: str
    gpus: int
    capacity: float  # usable bytes per GPU
    memory: tuple[Line, ...]  # bytes per GPU
    time: tuple[Line, ...]  # seconds per training step
    steps: int
    notes: tuple[str, ...]  # what does not fit and what to lower, what this GPU cannot do

    @property
    def bytes(self) -> float:
        """Return the bytes per GPU of all parts together."""
        return sum(line.value for line in self.memory)

    @property
    def fits(self) -> bool:
        """Return whether everything fits the memory.

        The parts must fit the usable memory, and vLLM's share must hold the weights and one whole sequence.
        """
        return not any(note.startswith("does not fit") for note in self.notes)

    @property
    def hours(self) -> float:
        """Return the hours of all training steps."""
        return self.steps * sum(line.value for line in self.time) / 3600


def estimate(job: Job, gpu: str, mean_length: float | None = None) -> Estimate:
    """Estimate memory and time of `job` on its num_processes GPUs of one kind (see GPUS).

    mean_length: expected tokens of a completion; half of max_completion_length when None.

    Raises SdlabError for an unknown GPU or model, or a mean length outside 1..max_completion_length.
    """
    if gpu not in GPUS:
        raise unknown("GPU", gpu, GPUS)
    shape, kind, longest = shape_of(job.model), GPUS[gpu], job.config.max_completion_length
    mean = longest / 2 if mean_length is None else mean_length
    if not 1 <= mean <= longest:
        raise SdlabError(
            f"mean_length={mean_length} is not allowed; it must be from 1 to max_completion_length "
            f"({longest})"
        )
    memory = tuple(memory_lines(job, shape, kind))
    capacity = USABLE * kind.memory * GIB
    notes = (
        []
        if kind.bf16 or not job.bf16
        else [f"{gpu} has no bfloat16: set bf16 to false, for float32 at a fraction of this speed"]
    )
    notes += fit_notes(job, shape, kind, memory)
    return Estimate(
        gpu,
        job.num_processes,
        capacity,
        memory,
        tuple(time_lines(job, shape, kind, mean)),
        job.config.steps,
        tuple(notes),
    )


def fit_notes(job: Job, shape: Shape, gpu: GPU, memory: Sequence[Line]) -> list[str]:
    """Return what does not fit, and the fewest changes that make it fit.

    Each change is tried with the same formulas.
    """
    misfit = _misfit(job, shape, gpu, memory)
    if not misfit:
        return []
    changes = [other for other in _changes(job) if other[1] != job]
    for count in (1, 2, 3):
        fitting = []
        for chosen in combinations(changes, count):
            names = [name.partition("=")[0] for name, _, _ in chosen]
            changed = job
            for _, _, change in chosen:
                changed = change(changed)
            if (
                len(set(names)) == count
                and not _misfit(changed, shape, gpu, memory_lines(changed, shape, gpu))
                and _divides(changed)
            ):
                fitting.append(" and ".join(name for name, _, _ in chosen))
        if fitting:
            return [
                f"does not fit: {misfit}; lower what it needs by {', or '.join(fitting[:4])} "
                f"(another length, batch or LoRA is another experiment)"
            ]
    most = max(memory, key=lambda line: line.value)
    return [
        f"does not fit: {misfit}, most of it {most.what} ({most.value / GIB:.0f} GiB); take more or larger "
        f"GPUs, or a smaller model"
    ]


def _changes(job: Job) -> list[tuple[str, Job, Change]]:
    """Return (name=value, the changed job, the change) for every change that may help.

    Changes that leave the experiment as it is come first.
    """

    def label(values: dict[str, object]) -> str:
        return ", ".join(f"{name}={value}" for name, value in values.items())

    def of_job(**values: object) -> tuple[str, Change]:
        return label(values), lambda job: replace(job, **values)

    def of_config(**values: object) -> tuple[str, Change]:
        return label(values), lambda job: replace(job, config=replace(job.config, **values))

    config, shared = job.config, {} if job.accelerate in ("fsdp2", "zero3") else {"accelerate": "fsdp2"}
    changes = [of_job(gradient_checkpointing=True), of_job(per_device_rows=1)]
    changes += (
        [of_job(vllm_gpu_memory_utilization=share) for share in (0.2, 0.3, 0.4, 0.5)] if job.use_vllm else []
    )
    changes += [of_job(num_processes=times * job.num_processes, **shared) for times in (2, 4)]
    changes += [
        of_config(max_completion_length=max(1, config.max_completion_length // part)) for part in (2, 4)
    ]
    changes += [of_config(num_problems=max(1, config.num_problems // 4))] if job.method != "sft" else []
    changes += [of_job(lora_rank=32)] if job.lora_rank is None else []
    return [(name, change(job), change) for name, change in changes]


def _divides(job: Job) -> bool:
    """Return whether the rows of a step divide into the job's processes."""
    try:
        sizes(job)
    except SdlabError:
        return False
    return True


def _misfit(job: Job, shape: Shape, gpu: GPU, memory: Sequence[Line]) -> str | None:
    """Return what does not fit in words, None when everything fits."""
    total, room = sum(line.value for line in memory), USABLE * gpu.memory * GIB
    if total > room:
        return f"{total / GIB:.0f} GiB of {room / GIB:.0f} usable"
    if job.use_vllm and job.method != "sft":
        sequence = shape.kv_bytes(job.max_prompt_length + job.config.max_completion_length)
        if cache_bytes(job, shape, gpu) < sequence:
            return (
                f"vLLM's share does not hold the weights and one sequence "
                f"({(2 * shape.parameters + sequence) / GIB:.0f} GiB)"
            )
    return None


def evaluation_hours(job: Job, gpu: str, samples: int, mean: float, longest: int) -> float:
    """Return the hours to sample `samples` completions with vLLM on all GPUs of the job.

    vLLM has their whole memory. mean, longest: the lengths of completions in tokens.
    """
    shape = shape_of(job.model)
    config = replace(
        job.config, num_problems=max(1, samples // job.config.num_generations), max_completion_length=longest
    )
    alone = replace(job, config=config, use_vllm=True, vllm_mode="server")
    return sampling_seconds(alone, shape, GPUS[gpu], min(mean, longest))[0] / 3600
