"""`sdlab recipe NAME --tiny`: the recipe end to end on the organism."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.commands.recipe_tables import command_line, describe
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from sdlab.scale.job import Job
    from sdlab.scale.recipes import Recipe

# The organism's evaluation.
TINY_SPLITS, TINY_PROBLEMS, TINY_GENERATIONS = ("in-domain", "unseen-types"), 32, 4


def run_tiny(
    recipe: Recipe,
    output: Path,
    *,
    dry_run: bool = False,
    sizes: dict | None = None,
    problems: int = TINY_PROBLEMS,
) -> int:
    """Run a recipe on the organism, and evaluate it beside the base model.

    The traces of SFT come from the organism. The launcher is the same. sizes: settings of the job's
    config that replace those of `tiny_job`. The exit status of the training is returned.

    Raises SdlabError when output already holds a run.
    """
    from sdlab.scale.job import write_job
    from sdlab.scale.launch import launch_command
    from sdlab.scale.recipes import tiny_job

    job = tiny_job(recipe, output)
    job = replace(job, config=replace(job.config, **sizes)) if sizes else job
    file = output / "job.json"
    command = launch_command(job, file)
    if dry_run:
        describe(recipe)
        print(
            f"\nThe tiny job, as it would be written to "
            f"{file}:\n{json.dumps(asdict(job), indent=1)}\n\nWould train with:\n{command_line(command)}"
        )
        return 0
    if (output / "steps.jsonl").exists():
        raise SdlabError(f"{output} already holds a run; remove it or choose another --output")
    if job.method == "sft":
        write_tiny_traces(recipe, job)
    write_job(job, file)
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        evaluate_tiny(recipe, job, problems)
    return status


def write_tiny_traces(recipe: Recipe, job: Job) -> Path:
    """Write the organism's own correct traces; return the file.

    For a guided recipe they are written with the solution in the prompt.
    """
    from sdlab.rollout.loading import load_engine
    from sdlab.runs.sft_data import build_traces
    from sdlab.scale.data import write_traces
    from sdlab.scale.job import config_as
    from sdlab.train.sft import SFTConfig
    from sdlab.world.splits import load_split

    config = config_as(job, SFTConfig)
    count = 4 * config.batch_size
    unguided, guided = build_traces(
        load_engine(job.model),
        load_split("train"),
        count,
        config.seed,
        max_completion_length=config.max_completion_length,
        thinking=config.thinking,
    )
    return write_traces(unguided if recipe.name.endswith("unguided") else guided, job.data)


def evaluate_tiny(recipe: Recipe, job: Job, problems: int) -> None:
    """Evaluate the organism before and after training, with the recipe's sampling.

    Completions are fewer and shorter than the recipe's.
    """
    from sdlab.commands.results_tables import show
    from sdlab.paper import paper_sampling
    from sdlab.results.evaluate import evaluate_benchmarks

    evaluation = recipe.evaluation
    sampling = paper_sampling(
        evaluation.thinking,
        num_generations=TINY_GENERATIONS,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        top_k=evaluation.top_k,
        max_completion_length=256,
    )
    results = []
    for model, name in ((job.model, "organism"), (str(Path(job.output) / "model"), f"tiny {recipe.name}")):
        results += evaluate_benchmarks(
            model,
            TINY_SPLITS,
            output=Path(job.output) / "evaluations",
            name=name,
            thinking=evaluation.thinking,
            sampling=sampling,
            limit=problems,
        )
    show(results)
