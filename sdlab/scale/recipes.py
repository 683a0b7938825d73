"""The paper's experiments, one file each: training, evaluation, and what no source states.

The files are in sdlab/scale/recipes. Source: arXiv 2603.24472 and the authors' scripts
(github.com/beanie00/self-distillation-analysis).
"""

import difflib
import re
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from sdlab.errors import SdlabError, unknown
from sdlab.scale.hardware import GPUS
from sdlab.scale.job import CONFIGS, Job
from sdlab.scale.repair_rules import repair_of
from sdlab.settings import Count, CountOrZero, Range, check_settings, checked
from sdlab.train.config import TrainConfig
from sdlab.train.repairs.catalogue import CATALOGUE, GRADES
from sdlab.train.repairs.named import RepairConfig

RECIPES = Path(__file__).with_name("recipes")
TINY_SIZES = {
    "steps": 10,
    "num_problems": 8,
    "num_generations": 8,
    "max_completion_length": 200,
    "learning_rate": TrainConfig.learning_rate,
    "warmup_steps": 1,
}
TINY_TRACES = 32  # per step of SFT


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of checkpoints: benchmarks of sdlab.benchmarks and the sampling of the paper."""

    benchmarks: tuple[str, ...]
    num_generations: Count
    temperature: Annotated[float, Range(0)]
    top_p: Annotated[float, Range(above=0, most=1)]
    top_k: CountOrZero
    max_completion_length: Count
    thinking: bool

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Recipe:
    """One experiment of the paper.

    mean_length, the expected tokens of a completion, is used by the estimate of time only.
    """

    name: str
    about: str
    paper: str  # the figure or table it belongs to
    settings: str  # whose hyper-parameters these are
    finding: str  # the result in the paper
    unknown: tuple[str, ...]
    gpu: str  # a kind of sdlab.scale.hardware
    mean_length: int
    mean_length_source: str
    job: Job
    evaluation: Evaluation


def recipe_names() -> list[str]:
    """Return the names of the recipes in order; numbers in names are ordered by size."""
    return sorted(
        (path.stem for path in RECIPES.glob("*.toml")),
        key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)],
    )


def load_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises SdlabError for an unknown name; the message lists the closest ones.
    """
    names = recipe_names()
    if name not in names:
        alike = [known for known in names if name in known] or difflib.get_close_matches(name, names, 5, 0.4)
        raise unknown("recipe", name, alike or names)
    return read_recipe(RECIPES / f"{name}.toml")


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from its file.

    Raises SdlabError when it is missing or damaged, or has a setting that is unknown or not allowed.
    """
    path = Path(path)
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        job, config, evaluation = about.pop("job"), about.pop("config"), about.pop("evaluation")
        method = job["method"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SdlabError(
            f"{path} is no recipe ({type(error).__name__}: {error}); it is a TOML file with [job], [config] "
            f"and [evaluation]"
        ) from error
    if method not in CONFIGS:
        raise unknown("method", method, CONFIGS)
    for what, entries, known, left_out in (
        ("recipe", about, Recipe, {"name", "job", "evaluation"}),
        ("job", job, Job, {"config", "output"}),
        (method, config, CONFIGS[method], set()),
        ("evaluation", evaluation, Evaluation, set()),
    ):
        allowed = {field.name for field in fields(known)} - left_out
        for name in entries:
            if name not in allowed:
                raise unknown(f"setting of {what} in {path.name}", name, allowed)
        missing = [name for name in allowed if name not in entries] if known in (Recipe, Evaluation) else []
        if missing:
            raise SdlabError(f"{path.name}: {what} has no {', '.join(sorted(missing))}")
    if about["gpu"] not in GPUS:
        raise unknown("GPU", about["gpu"], GPUS)
    parts = {
        "name": path.stem,
        "unknown": tuple(about["unknown"]),
        "job": Job(**job, config=CONFIGS[method](**config), output=f"runs/recipes/{path.stem}"),
        "evaluation": Evaluation(**evaluation | {"benchmarks": tuple(evaluation["benchmarks"])}),
    }
    return Recipe(**about | parts)


@checked
def on_gpus(job: Job, gpu: str, gpus: Count) -> Job:
    """Return the job with the processes and the sharding of other hardware.

    Without hardware support, bfloat16 and vLLM are switched off. Batch and lengths stay, because they are the
    experiment.

    Raises SdlabError for an unknown kind of GPU or fewer than one.
    """
    if gpu not in GPUS:
        raise unknown("GPU", gpu, GPUS)
    accelerate = (
        "single_gpu"
        if gpus == 1
        else job.accelerate
        if job.accelerate in ("ddp", "fsdp2", "zero3")
        else "ddp"
        if job.lora_rank
        else "fsdp2"
    )
    bf16 = GPUS[gpu].bf16  # vLLM loads these models in bfloat16, as their config.json says
    return replace(
        job, num_processes=gpus, accelerate=accelerate, bf16=job.bf16 and bf16, use_vllm=job.use_vllm and bf16
    )


def tiny_job(recipe: Recipe, output: str | Path) -> Job:
    """Return the recipe as a job on the organism: same method, context, teacher and loss on one CPU process.

    The sizes are small and the learning rate is the organism's. Problems come from the training split of the
    world, as many as a coverage recipe has. The traces of SFT are a file that `sdlab.commands.recipe` writes.
    LoRA stays.
    """
    job, sizes = recipe.job, dict(TINY_SIZES)
    if job.method == "sft":
        sizes |= {"batch_size": TINY_TRACES}
        del sizes["num_problems"], sizes["num_generations"]  # SFT at scale samples nothing
    words = job.data.split("-")  # dapo-8x8: eight questions
    few = int(words[1].split("x")[0]) if words[0] == "dapo" and words[1][0].isdigit() else None
    return replace(
        job,
        model="organism",
        data="train" if job.method != "sft" else str(Path(output) / "traces.jsonl"),
        num_questions=few,
        config=replace(job.config, **sizes),
        max_prompt_length=512,
        max_reprompt_length=1024,
        per_device_rows=16,
        num_processes=1,
        num_machines=1,
        accelerate="cpu",
        use_vllm=False,
        bf16=False,
        gradient_checkpointing=False,
        lora_rank=job.lora_rank and min(job.lora_rank, 8),
        output=str(output),
    )


def with_repair(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe of a repair with another repair of the catalogue, at the same budget.

    Raises SdlabError for a recipe of another method, and for a repair that is unknown or that TRL has no
    place for.
    """
    config, kind = recipe.job.config, name.replace("_", "-")
    if not isinstance(config, RepairConfig):
        raise SdlabError(
            f"recipe {recipe.name!r} trains {recipe.job.method}, which takes no repair; choose one of "
            f"{', '.join(other for other in recipe_names() if 'opsd' in other)}"
        )
    config = replace(config, repair=name)
    repair_of(config)
    entry, own = CATALOGUE[name], recipe.name.replace("opsd-clip", kind)
    return replace(
        recipe,
        name=own,
        about=recipe.about.replace("OPSD with its clip", f"repair {name}"),
        paper=f"{entry.paper} ({GRADES[entry.grade]}), {recipe.paper.partition(', ')[2]}",
        finding=entry.claim,
        unknown=(
            "whether the claim holds in these runs: not tried",
            "learning rate: that of the recipe; not tuned for this loss",
        ),
        job=replace(recipe.job, config=config, output=f"runs/recipes/{own}"),
    )
