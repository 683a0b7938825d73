"""`sdlab recipe`: list the paper's experiments, write the job of one, or run it on the organism."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sdlab.commands.options import RUNS, ProblemOptions
from sdlab.commands.recipe_tables import command_line, describe, list_recipes, print_estimate
from sdlab.commands.recipe_tiny import run_tiny
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from sdlab.scale.job import Job
    from sdlab.scale.recipes import Recipe


def recipe(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    show: Annotated[bool, tyro.conf.arg(name="list")] = False,
    dry_run: bool = False,
    tiny: bool = False,
    gpu: str | None = None,
    gpus: int | None = None,
    output: Path | None = None,
    model: str | None = None,
    repair: str | None = None,
    own: tyro.conf.OmitArgPrefixes[ProblemOptions] = ProblemOptions(),
) -> int:
    """Prepare an experiment of the paper on a real model: its job, its commands and its estimate.

    For example: sdlab recipe --list; sdlab recipe qwen3-8b-on-sdpo --dry-run; sdlab recipe qwen3-8b-on-sdpo
    --tiny; sdlab recipe small-qwen3-0.6b-grpo --model my-model --problems my.jsonl.

    Args:
        name: The recipe; --list names them.
        show: List the recipes, with the GPUs and hours that each needs.
        dry_run: Print command, settings and estimate; write nothing.
        tiny: Run the same recipe on the organism, on this machine's processor, and evaluate it (minutes).
        gpu: Kind of GPU: B200, H200, H100, A100-80, A100-40, L40S, RTX4090, RTX3090, L4 or T4.
        gpus: Number of GPUs instead of the recipe's.
        output: Folder for the job and its run; by default runs/recipes/NAME (runs/tiny/NAME with --tiny).
        model: Model instead of the recipe's: a folder in Hugging Face format, or a hub name.
        repair: Another repair (`sdlab repairs`) in a recipe of a repair, for example
            small-qwen3-1.7b-on-opsd-clip --repair srpo.
        own: Your own problems instead of the recipe's, for training and evaluation.
    """
    if show or name is None:
        options = {"--dry-run": dry_run, "--tiny": tiny, "--output": output, "--model": model}
        options |= {"--repair": repair}
        options |= {f"--{key.replace('_', '-')}": value for key, value in own.settings().items()}
        if given := [option for option, value in options.items() if value]:
            raise SdlabError(
                f"{given[0]} does nothing for the list of recipes; name a recipe, or leave it out"
            )
        if name is not None:
            raise SdlabError(f"--list lists all recipes, and {name!r} is one; leave one of them out")
        list_recipes(gpu, gpus)
        return 0
    from sdlab.scale.estimate import estimate
    from sdlab.scale.job import write_job
    from sdlab.scale.launch import launch_command
    from sdlab.scale.recipes import load_recipe, on_gpus, with_repair

    experiment = load_recipe(name)
    experiment = with_repair(experiment, repair) if repair else experiment
    if tiny:
        options = (("--gpu", gpu), ("--gpus", gpus), ("--model", model), ("--problems", own.problems))
        for option, value in options:
            if value is not None:
                raise SdlabError(
                    f"{option} {value} does not go with --tiny, which runs the organism on this machine's "
                    "processor; leave it out"
                )
        return run_tiny(experiment, output or RUNS / "tiny" / experiment.name, dry_run=dry_run)
    kind, job = gpu or experiment.gpu, experiment.job
    if gpu is not None or gpus is not None:
        job = on_gpus(job, kind, job.num_processes if gpus is None else gpus)
    job = replace(job, output=str(output)) if output else job
    job = replace(job, model=model) if model else job
    settings = own.settings()
    if settings:
        job = with_problems(job, settings)
    file = Path(job.output) / "job.json"
    train, evaluate = launch_command(job, file), evaluation_command(experiment, job, settings)
    if dry_run:
        describe(experiment)
        print(f"\nThe job, as it would be written to {file}:")
        print(json.dumps(asdict(job), indent=1))
    else:
        write_job(job, file)
    try:
        print_estimate(estimate(job, kind, experiment.mean_length), experiment, job)
    except SdlabError as error:  # the recipes' own models all have an estimate
        if model is None:
            raise
        print(f"No estimate: {error}.")
    print(
        f"\n{'Would train' if dry_run else 'Train'} with:\n{command_line(train)}\n\n"
        f"Then evaluate with:\n{command_line(evaluate)}"
    )
    if not dry_run:
        print(f"\nwrote {file}")
    return 0


def with_problems(job: Job, settings: dict[str, str]) -> Job:
    """Return a job that trains on your own problems; settings are those of `ProblemOptions`.

    Raises SdlabError for SFT, and when the problems cannot be read or have no answers.
    """
    if job.method == "sft":
        raise SdlabError(
            f"an SFT recipe learns from the traces in {job.data}, not from problems; "
            "leave --problems out, or choose a recipe of grpo or sdpo"
        )
    from sdlab.scale.data import job_problems

    options = {name: value for name, value in settings.items() if name != "problems"}
    job = replace(job, data=settings["problems"], num_questions=None, **options)
    job_problems(job)  # raises now, and not on the GPUs
    return job


def evaluation_command(experiment: Recipe, job: Job, settings: dict[str, str] | None = None) -> list[str]:
    """Return the command that evaluates the trained model as the paper does.

    settings: those of `ProblemOptions`, for your own problems instead of the benchmarks.
    """
    evaluation = experiment.evaluation
    command = [
        "sdlab",
        "evaluate",
        str(Path(job.output) / "model"),
        *(
            [word for key, text in settings.items() for word in (f"--{key.replace('_', '-')}", text)]
            if settings
            else ["--benchmarks", ",".join(evaluation.benchmarks)]
        ),
        "--name",
        experiment.name,
        "--engine",
        "vllm",
    ]
    command += ["--thinking" if evaluation.thinking else "--no-thinking"]
    for option in ("num_generations", "temperature", "top_p", "top_k", "max_completion_length"):
        command += [f"--{option.replace('_', '-')}", str(getattr(evaluation, option))]
    return command
