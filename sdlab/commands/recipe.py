"""`sdlab recipe`: list the paper's experiments, write the job of one, or run it on the organism."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sdlab.commands.options import RUNS
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
) -> int:
    """Prepare an experiment of the paper on a real model: its job, its commands and its estimate.

    For example: sdlab recipe --list; sdlab recipe qwen3-8b-on-sdpo --dry-run; sdlab recipe qwen3-8b-on-sdpo
    --tiny.

    Args:
        name: The recipe; --list names them.
        show: List the recipes, with the GPUs and hours that each needs.
        dry_run: Print command, settings and estimate; write nothing.
        tiny: Run the same recipe on the organism, on this machine's processor, and evaluate it (minutes).
        gpu: Kind of GPU: B200, H200, H100, A100-80, A100-40, L40S, RTX4090, RTX3090, L4 or T4.
        gpus: Number of GPUs instead of the recipe's.
        output: Folder for the job and its run; by default runs/recipes/NAME (runs/tiny/NAME with --tiny).
    """
    if show or name is None:
        list_recipes(gpu, gpus)
        return 0
    from sdlab.scale.estimate import estimate
    from sdlab.scale.job import write_job
    from sdlab.scale.launch import launch_command
    from sdlab.scale.recipes import load_recipe, on_gpus

    experiment = load_recipe(name)
    if tiny:
        for option, value in (("--gpu", gpu), ("--gpus", gpus)):
            if value is not None:
                raise SdlabError(
                    f"{option} {value} does not go with --tiny, which runs on this machine's processor; "
                    f"leave it out"
                )
        return run_tiny(experiment, output or RUNS / "tiny" / name, dry_run=dry_run)
    kind, job = gpu or experiment.gpu, experiment.job
    if gpu is not None or gpus is not None:
        job = on_gpus(job, kind, job.num_processes if gpus is None else gpus)
    job = replace(job, output=str(output)) if output else job
    file = Path(job.output) / "job.json"
    train, evaluate = launch_command(job, file), evaluation_command(experiment, job)
    if dry_run:
        describe(experiment)
        print(f"\nThe job, as it would be written to {file}:")
        print(json.dumps(asdict(job), indent=1))
    else:
        write_job(job, file)
    print_estimate(estimate(job, kind, experiment.mean_length), experiment, job)
    print(
        f"\n{'Would train' if dry_run else 'Train'} with:\n{command_line(train)}\n\n"
        f"Then evaluate with:\n{command_line(evaluate)}"
    )
    if not dry_run:
        print(f"\nwrote {file}")
    return 0


def evaluation_command(experiment: Recipe, job: Job) -> list[str]:
    """Return the command that evaluates the trained model as the paper does."""
    evaluation = experiment.evaluation
    command = [
        "sdlab",
        "evaluate",
        str(Path(job.output) / "model"),
        "--benchmarks",
        ",".join(evaluation.benchmarks),
        "--name",
        experiment.name,
        "--engine",
        "vllm",
    ]
    command += ["--thinking" if evaluation.thinking else "--no-thinking"]
    for option in ("num_generations", "temperature", "top_p", "top_k", "max_completion_length"):
        command += [f"--{option.replace('_', '-')}", str(getattr(evaluation, option))]
    return command
