"""`sdlab recipe`: name the paper's experiments, say what each needs, write its job, or run it whole on the organism."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from sdlab.scale.estimate import Estimate
    from sdlab.scale.job import Job
    from sdlab.scale.recipes import Recipe

PROBLEMS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500}  # for the time of an evaluation
TINY_SPLITS, TINY_PROBLEMS, TINY_GENERATIONS = (
    ("in-domain", "unseen-types"),
    32,
    4,
)  # the organism's evaluation


def recipe(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    show: Annotated[bool, tyro.conf.arg(name="list")] = False,
    dry_run: bool = False,
    tiny: bool = False,
    gpu: str | None = None,
    gpus: int | None = None,
    output: Path | None = None,
) -> int:
    """The paper's experiments on real models: write a recipe's job and print the commands that train and judge it.

    For example: sdlab recipe --list; sdlab recipe qwen3-8b-on-sdpo --dry-run; sdlab recipe qwen3-8b-on-sdpo --tiny.

    Args:
        name: Which recipe; --list names them.
        show: Name the recipes, with the GPUs and hours each needs.
        dry_run: Print command, settings and estimate, and write nothing.
        tiny: Run the same recipe on the organism, on this machine's processor, and evaluate it: minutes.
        gpu: Kind of GPU instead of the recipe's: B200, H200, H100, A100-80, A100-40, L40S, RTX4090, RTX3090, L4, T4.
        gpus: Number of GPUs instead of the recipe's.
        output: Folder for the job and its run; runs/recipes/NAME (runs/tiny/NAME with --tiny) when not given.
    """
    if show or name is None:
        list_recipes(gpu, gpus)
        return 0
    from sdlab.scale.estimate import estimate
    from sdlab.scale.job import write_job
    from sdlab.scale.launch import launch_command
    from sdlab.scale.recipes import load_recipe, on_gpus

    found = load_recipe(name)
    if tiny:
        for option, given in (("--gpu", gpu), ("--gpus", gpus)):
            if given is not None:
                raise SdlabError(
                    f"{option} {given} does not go with --tiny, which runs on this machine's processor; leave it out"
                )
        return run_tiny(found, output or Path("runs/tiny") / name, dry_run=dry_run)
    kind, job = gpu or found.gpu, found.job
    if gpu is not None or gpus is not None:
        job = on_gpus(job, kind, job.num_processes if gpus is None else gpus)
    job = replace(job, output=str(output)) if output else job
    file = Path(job.output) / "job.json"
    train, judge = launch_command(job, file), evaluation_command(found, job)
    if dry_run:
        describe(found)
        print(f"\nThe job, as it would be written to {file}:")
        print(json.dumps(asdict(job), indent=1))
    else:
        write_job(job, file)
    print_estimate(estimate(job, kind, found.mean_length), found, job)
    print(
        f"\n{'Would train' if dry_run else 'Train'} with:\n{command_line(train)}\n\nThen judge with:\n{command_line(judge)}"
    )
    if not dry_run:
        print(f"\nwrote {file}")
    return 0


def command_line(command: Sequence[str]) -> str:
    """A command as a shell reads it; the variables that `launch_command` leaves for each machine stay variables."""
    return " ".join(part if part.startswith("$") else shlex.quote(part) for part in command)


def evaluation_command(found: Recipe, job: Job) -> list[str]:
    """The command that evaluates the trained model as the paper does."""
    judge = found.evaluation
    command = [
        "sdlab",
        "evaluate",
        str(Path(job.output) / "model"),
        "--benchmarks",
        ",".join(judge.benchmarks),
        "--name",
        found.name,
        "--engine",
        "vllm",
    ]
    command += ["--thinking" if judge.thinking else "--no-thinking"]
    for option in ("num_generations", "temperature", "top_p", "top_k", "max_completion_length"):
        command += [f"--{option.replace('_', '-')}", str(getattr(judge, option))]
    return command


def judging_hours(found: Recipe, job: Job, gpu: str) -> float:
    """Hours of the recipe's evaluation on all of the job's GPUs."""
    from sdlab.scale.estimate import evaluation_hours

    samples = found.evaluation.num_generations * sum(PROBLEMS[name] for name in found.evaluation.benchmarks)
    return evaluation_hours(job, gpu, samples, found.mean_length, found.evaluation.max_completion_length)


def list_recipes(gpu: str | None = None, gpus: int | None = None) -> None:
    """Print every recipe with what it needs; on other hardware where one is given."""
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
        one = load_recipe(name)
        kind, job = gpu or one.gpu, one.job
        if gpu is not None or gpus is not None:
            job = on_gpus(job, kind, job.num_processes if gpus is None else gpus)
        need = estimate(job, kind, one.mean_length)
        memory = f"{need.bytes / GIB:.0f} of {need.capacity / GIB:.0f}" + ("" if need.fits else ", too much")
        table.add_row(
            f"[bold]{name}[/bold]\n{one.about} ({one.paper})",
            f"{job.num_processes} x {kind}",
            memory,
            hours(need.hours) if need.fits else "",
        )
    Console().print(table)
    print("Estimates, of training alone; `sdlab recipe NAME --dry-run` shows their arithmetic.")


def hours(value: float) -> str:
    """Hours for people: 54, 3.8, 0.04."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def describe(found: Recipe) -> None:
    """Print what the experiment is, whose settings it has, and what no source says."""
    judge = found.evaluation
    sampling = f"n={judge.num_generations}, T={judge.temperature}, top_p={judge.top_p}, top_k={judge.top_k}, at most {judge.max_completion_length:,} tokens"
    print(
        f"{found.name}: {found.about}\npaper: {found.paper}, which found: {found.found}\nsettings: {found.settings}"
    )
    print(
        f"judged on {', '.join(judge.benchmarks)} with {sampling}, thinking {'on' if judge.thinking else 'off'}\nnot known:"
    )
    for line in found.unknown:
        print(f"  - {line}")


def print_estimate(need: Estimate, found: Recipe, job: Job) -> None:
    """Print an estimate, every line with its arithmetic."""
    from rich.console import Console
    from rich.table import Table

    from sdlab.scale.costs import GIB
    from sdlab.scale.estimate import LIMITS

    table = Table(title=f"Estimate for {need.gpus} x {need.gpu}: memory of each", title_justify="left")
    clock = Table(
        title=f"Time of a step{'' if need.fits else ', if it fitted'}, {found.mean_length:,} tokens a response ({found.mean_length_source})",
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
        f"x {need.steps} steps = {hours(need.hours)} hours; evaluation {hours(judging_hours(found, job, need.gpu))} hours more on all GPUs",
    )
    console = Console()
    console.print(table)
    console.print(clock)
    for note in need.notes:
        print(note)
    print(f"Not in the estimate: {'; '.join(LIMITS)}.")


def run_tiny(
    found: Recipe,
    output: Path,
    *,
    dry_run: bool = False,
    sizes: dict | None = None,
    problems: int = TINY_PROBLEMS,
) -> int:
    """The recipe end to end on the organism: traces for SFT, the same launcher, then an evaluation beside the base model.

    sizes: settings of the job's config that replace those of `tiny_job`. Returns the training's exit status. Raises SdlabError when
    output already holds a run.
    """
    from sdlab.scale.job import write_job
    from sdlab.scale.launch import launch_command
    from sdlab.scale.recipes import tiny_job

    job = tiny_job(found, output)
    job = replace(job, config=replace(job.config, **sizes)) if sizes else job
    file = output / "job.json"
    command = launch_command(job, file)
    if dry_run:
        describe(found)
        print(
            f"\nThe tiny job, as it would be written to {file}:\n{json.dumps(asdict(job), indent=1)}\n\nWould train with:\n{command_line(command)}"
        )
        return 0
    if (output / "steps.jsonl").exists():
        raise SdlabError(f"{output} already holds a run; remove it or choose another --output")
    if job.method == "sft":
        write_tiny_traces(found, job)
    write_job(job, file)
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        judge_tiny(found, job, problems)
    return status


def write_tiny_traces(found: Recipe, job: Job) -> Path:
    """The organism's own right traces, written without or, for a recipe called guided, with the solution in view."""
    from sdlab.rollout.loading import load_engine
    from sdlab.runs.sft_data import build_traces
    from sdlab.scale.data import write_traces
    from sdlab.world.splits import load_split

    count = 4 * job.config.batch_size
    config = job.config
    unguided, guided = build_traces(
        load_engine(job.model),
        load_split("train"),
        count,
        config.seed,
        max_completion_length=config.max_completion_length,
        thinking=config.thinking,
    )
    return write_traces(unguided if found.name.endswith("unguided") else guided, job.data)


def judge_tiny(found: Recipe, job: Job, problems: int) -> None:
    """Evaluate the organism before and after on the world's splits, with the recipe's sampling but fewer and shorter samples."""
    from sdlab.commands.evaluate import show
    from sdlab.paper import paper_sampling
    from sdlab.results.evaluate import evaluate_benchmarks

    judge = found.evaluation
    sampling = paper_sampling(
        judge.thinking,
        num_generations=TINY_GENERATIONS,
        temperature=judge.temperature,
        top_p=judge.top_p,
        top_k=judge.top_k,
        max_completion_length=256,
    )
    results = []
    for model, name in ((job.model, "organism"), (str(Path(job.output) / "model"), f"tiny {found.name}")):
        results += evaluate_benchmarks(
            model,
            TINY_SPLITS,
            output=Path(job.output) / "evaluations",
            name=name,
            thinking=judge.thinking,
            sampling=sampling,
            limit=problems,
        )
    show(results)
