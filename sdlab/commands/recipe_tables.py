"""The tables of `sdlab recipe`: the list of recipes, and the settings and the estimate of one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdlab.scale.estimate import Estimate
    from sdlab.scale.job import Job
    from sdlab.scale.recipes import Recipe

# Problems of each benchmark, for the time of an evaluation.
PROBLEMS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500}


def command_line(command: Sequence[str]) -> str:
    """Return a command as a shell reads it; the shell variables of `launch_command` stay variables."""
    return " ".join(part if part.startswith("$") else shlex.quote(part) for part in command)


def evaluation_time(recipe: Recipe, job: Job, gpu: str) -> float:
    """Return the hours of the recipe's evaluation on all GPUs of the job."""
    from sdlab.scale.estimate import evaluation_hours

    problems = sum(PROBLEMS[name] for name in recipe.evaluation.benchmarks)
    if job.method != "sft" and job.data != recipe.job.data:
        from sdlab.scale.data import job_problems

        problems = len(job_problems(job))
    samples = recipe.evaluation.num_generations * problems
    return evaluation_hours(job, gpu, samples, recipe.mean_length, recipe.evaluation.max_completion_length)


def list_recipes(gpu: str | None = None, gpus: int | None = None) -> None:
    """Print every recipe with its needs, on other hardware where `gpu` or `gpus` is set."""
    from rich.console import Console
    from rich.table import Table

    from sdlab.scale.costs import GIB
    from sdlab.scale.estimate import estimate
    from sdlab.scale.recipes import load_recipe, on_gpus, recipe_names

    table = Table(
        title="Recipes (NOT the paper's settings: small-...; Table 2's SFT settings are chosen here)",
        title_justify="left",
        show_lines=True,
    )
    for heading in ("recipe", "GPUs", "GiB each", "hours"):
        table.add_column(
            heading,
            justify="right" if heading in ("GiB each", "hours") else "left",
            no_wrap=heading != "recipe",
        )
    for name in recipe_names():
        recipe = load_recipe(name)
        kind, job = gpu or recipe.gpu, recipe.job
        if gpu is not None or gpus is not None:
            job = on_gpus(job, kind, job.num_processes if gpus is None else gpus)
        need = estimate(job, kind, recipe.mean_length)
        memory = f"{need.bytes / GIB:.0f} of {need.capacity / GIB:.0f}" + ("" if need.fits else ", too much")
        table.add_row(
            f"[bold]{name}[/bold]\n{recipe.about} ({recipe.paper})",
            f"{job.num_processes} x {kind}",
            memory,
            hours(need.hours) if need.fits else "",
        )
    Console().print(table)
    print("Estimates, of training alone; `sdlab recipe NAME --dry-run` shows their arithmetic.")


def hours(value: float) -> str:
    """Return a number of hours as short text: 54, 3.8, 0.04."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def describe(recipe: Recipe) -> None:
    """Print an experiment, the source of its settings, and what no source states."""
    evaluation = recipe.evaluation
    sampling = (
        f"n={evaluation.num_generations}, T={evaluation.temperature}, top_p={evaluation.top_p}, "
        f"top_k={evaluation.top_k}, at most {evaluation.max_completion_length:,} tokens"
    )
    print(
        f"{recipe.name}: {recipe.about}\npaper: {recipe.paper}, whose result is: {recipe.finding}\nsettings: "
        f"{recipe.settings}"
    )
    print(
        f"evaluated on {', '.join(evaluation.benchmarks)} with {sampling}, thinking "
        f"{'on' if evaluation.thinking else 'off'}\nnot known:"
    )
    for line in recipe.unknown:
        print(f"  - {line}")


def print_estimate(need: Estimate, recipe: Recipe, job: Job) -> None:
    """Print an estimate, each line with its arithmetic."""
    from rich.console import Console
    from rich.table import Table

    from sdlab.scale.costs import GIB
    from sdlab.scale.estimate import LIMITS

    table = Table(title=f"Estimate for {need.gpus} x {need.gpu}: memory of each", title_justify="left")
    clock = Table(
        title=f"Time of a step{'' if need.fits else ', if it fitted'}, {recipe.mean_length:,} tokens per "
        f"completion ({recipe.mean_length_source})",
        title_justify="left",
    )
    for out, unit in ((table, "GiB"), (clock, "seconds")):
        out.add_column("what")
        out.add_column(unit, justify="right")
        out.add_column("how")
    for line in need.memory:
        table.add_row(line.what, f"{line.value / GIB:.1f}", line.how)
    table.add_row(
        "together",
        f"{need.bytes / GIB:.1f}",
        f"usable: {need.capacity / GIB:.1f} GiB; {'fits' if need.fits else 'DOES NOT FIT'}",
    )
    for line in need.time:
        clock.add_row(line.what, f"{line.value:,.1f}", line.how)
    clock.add_row(
        "together",
        f"{3600 * need.hours / need.steps:,.1f}",
        f"x {need.steps} steps = {hours(need.hours)} hours; evaluation "
        f"{hours(evaluation_time(recipe, job, need.gpu))} hours more on all GPUs",
    )
    console = Console()
    console.print(table)
    console.print(clock)
    for note in need.notes:
        print(note)
    print(f"Not in the estimate: {'; '.join(LIMITS)}.")
