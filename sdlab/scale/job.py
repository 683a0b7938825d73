"""A training job at scale, stored in one JSON file: model, problems, method and processes."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, TypeVar

from sdlab.benchmarks.problems import READING
from sdlab.errors import SdlabError, unknown
from sdlab.files import to_json, write_atomic
from sdlab.settings import Count, OneOf, Range, check_settings, unused
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig

CONFIGS: dict[str, type[TrainConfig]] = {
    "sft": SFTConfig,
    "grpo": GRPOConfig,
    "sdpo": SDPOConfig,
    "repair": RepairConfig,
}
Config = TypeVar("Config", bound=TrainConfig)
ACCELERATE = ("cpu", "single_gpu", "ddp", "fsdp2", "zero3")  # files in sdlab/scale/accelerate
VLLM_MODES = ("colocate", "server")


@dataclass(frozen=True)
class Job:
    """All settings that `sdlab.scale` needs for training.

    Raises SdlabError on a value that is not allowed.
    """

    method: Annotated[str, OneOf("method", CONFIGS)]  # sft, grpo, sdpo, repair
    model: str  # the organism, a folder, or a hub name
    # a benchmark (sdlab.benchmarks), a file of questions, or a split of the world; for sft a file of traces
    data: str
    config: TrainConfig  # the study's own settings: sizes, rates, losses
    num_questions: Count | None = None  # how many problems of the data, chosen by config.seed; None: all
    max_prompt_length: Count = 2048  # tokens
    max_reprompt_length: Count = 22528  # tokens of the teacher's prompt (SDPO, repairs)
    per_device_rows: Count = 1  # completions per process and micro-batch
    num_processes: Count = 1  # over all machines
    num_machines: Count = 1
    accelerate: Annotated[str, OneOf("accelerate configuration", ACCELERATE)] = "cpu"
    use_vllm: bool = False  # the next four settings are only for vLLM
    vllm_mode: Annotated[str, OneOf("vllm_mode", VLLM_MODES)] = "colocate"
    vllm_gpu_memory_utilization: Annotated[float, Range(above=0, most=1)] = 0.3
    vllm_tensor_parallel_size: Count = 1
    vllm_server_base_url: str | None = None  # of vllm_mode "server", such as http://node7:8000
    lora_rank: Count | None = None  # None: all weights
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: Count = 10
    output: str = "runs/scale"
    # how a file of problems is read (sdlab.benchmarks.problems)
    question_column: str | None = None
    answer_column: str | None = None
    instruction: str | None = None
    system: str | None = None
    few_shot: str | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        if not isinstance(self.config, CONFIGS[self.method]):
            raise SdlabError(
                f"method {self.method!r} takes a {CONFIGS[self.method].__name__}, not a "
                f"{type(self.config).__name__}"
            )
        if self.config.bf16:
            raise SdlabError("config.bf16 is for the study's own loops; give the job itself bf16=True")
        rollouts = self.method != "sft"
        unused(self.config, "batch_tokens", False, "the study's own loops (a job has per_device_rows)")
        for name in ("num_problems", "num_generations", "temperature"):
            unused(
                self.config,
                name,
                rollouts,
                "the study's own loops, whose SFT samples a few completions on the way",
            )
        for name in ("num_questions", *READING):
            unused(self, name, rollouts, "a method that samples completions")


def config_as(job: Job, kind: type[Config]) -> Config:
    """Return the config of a job as a `kind`, a class of CONFIGS.

    Raises SdlabError when the job has another method.
    """
    if not isinstance(job.config, kind):
        raise SdlabError(
            f"method {job.method!r} has no {kind.__name__}; it has a {type(job.config).__name__}, use that"
        )
    return job.config


def write_job(job: Job, path: str | Path) -> Path:
    """Write a job as JSON; return its path."""
    return write_atomic(Path(path), to_json(asdict(job), indent=1) + "\n")


def read_job(path: str | Path) -> Job:
    """Read a job from its JSON file.

    Raises SdlabError when the file is missing or damaged, or names an unknown setting.
    """
    try:
        about = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        method, config = about["method"], about["config"]
        known = {field.name for field in fields(Job)}
        settings = {field.name for field in fields(CONFIGS[method])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SdlabError(
            f"{path} is no job ({type(error).__name__}: {error}); write one with `sdlab recipe NAME`"
        ) from error
    for kind, entries, allowed in (
        ("setting of a job", about, known),
        (f"setting of {method}", config, settings),
    ):
        for name in entries:
            if name not in allowed:
                raise unknown(kind, name, sorted(allowed))
    return Job(**about | {"config": CONFIGS[method](**config)})
