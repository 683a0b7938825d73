"""The command line: `sdlab tour`, `lab`, `pretrain`, `markers`, `measure`, `benchmarks`, `evaluate`, `import`, `compare`, `train`, `sweep`, `reproduce`, `recipe`, `labs`, `leaderboard`.

Each command imports what it needs when it runs, so that `sdlab --help` answers at once.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sdlab.commands.evaluate import compare, evaluate, import_
from sdlab.commands.recipe import recipe
from sdlab.errors import SdlabError


def tour(
    preset: str = "quick",
    output: Path = Path("reports"),
    only: str | None = None,
    model: str = "organism",
    refresh: bool = False,
) -> int:
    """Run the walkthrough's notebooks and write a report.

    The report's index is there after the first notebook and grows as the others finish.

    Args:
        preset: Sizes: smoke (seconds, for tests), quick (minutes, for a class) or full (the recorded results).
        output: Folder for the report; open its index.html.
        only: Run only these notebooks, for example 00,03.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        refresh: For developers: also store the outputs, cleaned, in notebooks/.
    """
    from sdlab.walkthrough.tour import tour as run

    names = tuple(name for name in (only or "").split(",") if name)
    return 0 if run(preset=preset, output=output, only=names, model=model, refresh=refresh) else 1


def lab(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Open JupyterLab on the first notebook.

    Args:
        arguments: Handed on to `jupyter lab`, for example --port 9999 or --no-browser.
    """
    from sdlab.walkthrough.execute import find

    first = find()[0]
    page = f"/lab/tree/{first.parent.name}/{first.name}"  # in the address, so that it is also right with --no-browser
    options = [f"--ServerApp.root_dir={first.parent.parent}", f"--LabApp.default_url={page}"]
    return subprocess.run(
        [sys.executable, "-m", "jupyter", "lab", *options, *arguments], check=False
    ).returncode


def pretrain(
    output: Path = Path("runs/organism"),
    seed: int = 0,
    hidden_size: int = 128,
    intermediate_size: int = 512,
    num_layers: int = 4,
    steps: int = 2600,
    knobs: tuple[str, ...] = (),
    device: str | None = None,
    resume: bool = True,
) -> int:
    """Make an organism: pretrain the small model from nothing (about 40 minutes on two cores).

    Use it with --model FOLDER. The shipped one lies in data/organism and is left alone.

    Args:
        output: Folder for the model; the checkpoint lies there too, and the same command goes on from it.
        seed: Seed of the weights and of the texts.
        hidden_size: Width, a multiple of 64 (the small organism's is 64, with intermediate_size 256).
        intermediate_size: Width of the feed-forward layers.
        num_layers: Depth.
        steps: Training steps of 64 texts each.
        knobs: Dispositions of the reasoner that writes the texts, such as intuition=0.45 (sdlab.world.knobs).
        device: cpu or cuda; cuda when there is one and none is given.
        resume: Go on from the last checkpoint if there is one.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from sdlab.organism.card import measure_splits, write_card
    from sdlab.organism.pretrain import PretrainConfig
    from sdlab.organism.pretrain import pretrain as run
    from sdlab.rollout.loading import load_engine
    from sdlab.world.knobs import Knobs

    config = PretrainConfig(
        seed=seed,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_layers=num_layers,
        steps=steps,
        knobs=Knobs.parse(knobs),
    )
    columns = (
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as board:
        bar = board.add_task("step", total=None, note="")

        def follow(done: int, total: int, loss: float) -> None:
            board.update(bar, completed=done, total=total, note=f"loss {loss:.3f}")

        run(output, config, device=device, resume=resume, progress=follow)
        scores = board.add_task("scores", total=None, note="for the model card")
        measured = measure_splits(
            load_engine(str(output)),
            CARD_PROBLEMS,
            progress=lambda done, total: board.update(scores, completed=done, total=total),
        )
    print(f"wrote {write_card(output, measured)}")
    return 0


def markers(
    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    match: Literal["word", "substring"] = "word",
    column: str | None = None,
) -> int:
    """Count epistemic markers (wait, hmm, perhaps ...) in a file of reasoning traces.

    Args:
        path: A json, jsonl or parquet file, or a folder of them.
        match: Whole words, or substrings as the paper counts.
        column: The column that holds the text; found by itself when not given.
    """
    from sdlab.commands.markers import markers_command

    markers_command(path, match, column)
    return 0


def measure(
    what: Annotated[Literal["contexts", "splits"], tyro.conf.Positional],
    model: str = "organism",
    preset: str = "quick",
    seed: int = 0,
    engine: Literal["torch", "vllm"] = "torch",
    tensor_parallel_size: int = 1,
    max_completion_length: int | None = None,
    thinking: bool = True,
) -> int:
    """Measure a model.

    `contexts` prints score, length and markers in the four contexts (Table 1); `splits` prints them for every split
    of the world and every mode of the model.

    Args:
        what: What to measure.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        preset: Sizes: smoke, quick or full.
        seed: Seed of the sampling.
        engine: torch, or vllm for large models (contexts only, as the options below).
        tensor_parallel_size: GPUs that share the model (vllm).
        max_completion_length: Tokens; the preset's, which suits the organism, when not given.
        thinking: Ask the chat template for thinking.
    """
    options = {
        "engine": engine,
        "tensor_parallel_size": tensor_parallel_size,
        "max_completion_length": max_completion_length,
        "thinking": thinking,
    }
    if what == "contexts":
        from sdlab.commands.measure import contexts_command

        contexts_command(model, preset, seed, **options)
        return 0
    if list(options.values()) != ["torch", 1, None, True]:
        raise SdlabError(
            "`measure splits` takes none of --engine, --tensor-parallel-size, --max-completion-length, --no-thinking; use `measure contexts`"
        )
    from sdlab.commands.measure import splits_command

    splits_command(model, preset, seed)
    return 0


def benchmarks(
    name: tyro.conf.Positional[str | None] = None, split: str | None = None, source: Path | None = None
) -> int:
    """List the real benchmarks; with a name, its counts and an example.

    Args:
        name: One of them; all are listed when it is not given.
        split: train or test, where a benchmark has both.
        source: A parquet, json or jsonl file, or a folder of such files; else the real data, else the hub.
    """
    from sdlab.commands.benchmarks import benchmarks_command

    benchmarks_command(name, split, source)
    return 0


def train(
    method: Annotated[Literal["sft", "grpo", "sdpo"], tyro.conf.Positional],
    options: tyro.conf.Positional[tuple[str, ...]] = (),
) -> int:
    """Train a model in a run folder that survives a kill and goes on where it was.

    Args:
        method: How: supervised fine-tuning, GRPO or SDPO.
        options: The method's settings; see `sdlab train METHOD --help`.
    """
    from sdlab.commands.train import main as run

    return run([method, *options])


def sweep(
    folder: Annotated[Path, tyro.conf.Positional],
    axes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME=VALUE,...")] = (),
    model: str = "organism",
    jobs: int | None = None,
    ray: str | None = None,
    timeout: float | None = None,
) -> int:
    """Train on every combination of settings, and put the results in one table; a stopped sweep goes on.

    For example: sdlab sweep runs/questions method=grpo,sdpo num_questions=1,8,64,all seed=0,1,2 steps=40. A name is
    "method" or an option of `sdlab train METHOD`; what a method does not have is ignored for it.

    Args:
        folder: Folder for the runs and table.csv.
        axes: The settings and their values.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        jobs: Runs at once on this machine, each with one thread; one per core when not given.
        ray: Run them as tasks of a Ray cluster: HOST:PORT of its head, auto (the one running here) or local (start one).
        timeout: Seconds after which a run is stopped and counted as failed.
    """
    from sdlab.runs.grid import read_grid
    from sdlab.runs.sweep import sweep as run

    table = run(read_grid(axes), folder, model, jobs=jobs, ray=ray, timeout=timeout)
    failed = table[table["status"] == "failed"]
    for row in failed.itertuples():
        print(f"failed: {row.cell}: {row.error}", file=sys.stderr)
    print(f"wrote {folder / 'table.csv'}")
    return 1 if len(failed) else 0


def reproduce(
    conditions: tyro.conf.Positional[tuple[str, ...]] = (),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    work: Path = Path("runs/reproduce"),
    output: Path | None = None,
    jobs: int | None = None,
    model: str | None = None,
) -> int:
    """Make the recorded results again; a stopped reproduction goes on.

    Args:
        conditions: Names of conditions (sdlab/study/conditions.py) or of groups: main (when none is given), rates,
            long, bf16, coverage, small, organism-1, organism-2, organism-blind.
        seeds: Training seeds, each a run of its own; seeds that are recorded already and not named here stay.
        work: Folder for the runs themselves.
        output: Folder for the packed results; data/runs when not given.
        jobs: Runs at once, each with one thread; one per core when not given.
        model: Another model than the conditions' own; needs an output of its own.
    """
    from sdlab.study.recorded import reproduce as run

    for path in run(conditions, seeds, work=work, output=output, jobs=jobs, model=model):
        print(f"wrote {path}")
    return 0


def labs(
    what: Annotated[Literal["build", "grade"], tyro.conf.Positional],
    options: tyro.conf.Positional[tuple[str, ...]] = (),
) -> int:
    """Course labs: build the student versions, grade submissions.

    Args:
        what: build or grade.
        options: See `sdlab labs build --help` and `sdlab labs grade --help`.
    """
    from sdlab.commands.labs import main as run

    return run([what, *options])


def leaderboard(
    files: tyro.conf.Positional[tuple[Path, ...]],
    secret: str | None = None,
    seeds: int = 3,
    steps: int = 40,
    problems: int = 64,
    timeout: float = 1800.0,
    memory_gb: float = 4.0,
    jobs: int = 1,
    output: Path = Path("leaderboard.csv"),
    model: str = "organism",
) -> int:
    """Train lab 4's repairs on hidden seeds and questions, judge them on hidden problems, and rank them.

    Args:
        files: Python files or lab-4 notebooks that define `repair`.
        secret: Chooses seeds, questions and problems; better given as SDLAB_LEADERBOARD_SECRET.
        seeds: Training runs of each submission; fewer than three decide nothing.
        steps: Training steps, the same for everybody.
        problems: Hidden problems of each of three kinds.
        timeout: Seconds of one submission's training.
        memory_gb: Memory of its process.
        jobs: Submissions trained at once, each with one thread.
        output: The table as csv; finished results are kept beside it, in <output>_results.
        model: The organism, or a folder with a model.
    """
    from dataclasses import replace

    from sdlab.commands.leaderboard import leaderboard_command
    from sdlab.labs.leaderboard import Budget
    from sdlab.train.repair import BUDGET

    budget = Budget(
        replace(BUDGET, steps=steps), seeds, problems, timeout=timeout, memory_gb=memory_gb, model=model
    )
    return leaderboard_command(files, secret, budget, output, jobs)


CARD_PROBLEMS = 100  # per split, behind the scores of the model card
DESCRIPTION = "See why self-distillation sometimes makes a reasoning model worse, on a laptop."
COMMANDS = {
    "tour": tour,
    "lab": lab,
    "pretrain": pretrain,
    "markers": markers,
    "measure": measure,
    "benchmarks": benchmarks,
    "evaluate": evaluate,
    "import": import_,
    "compare": compare,
    "train": train,
    "sweep": sweep,
    "reproduce": reproduce,
    "recipe": recipe,
    "labs": labs,
    "leaderboard": leaderboard,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: fine. 1: a notebook or a run failed. 2: bad input. 130: interrupted. 141: the reader of its output is gone (`| head`).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            return run_command(arguments)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is caught, and not when Python ends
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run_command(arguments: list[str]) -> int:
    """Run one command; what the user can mend, and an interrupt, become a line and a status."""
    # A kernelspec in the user's home must not win over the environment that sdlab is installed in.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        if arguments[:1] == ["lab"] and not {"-h", "--help"} & set(arguments):
            return lab(tuple(arguments[1:]))  # whatever follows belongs to JupyterLab
        if arguments[:1] == ["train"] and len(arguments) > 1 and arguments[1] in ("sft", "grpo", "sdpo"):
            return train(arguments[1], tuple(arguments[2:]))  # whose settings are its options
        if arguments[:1] == ["labs"] and arguments[1:2] and arguments[1] in ("build", "grade"):
            return labs(arguments[1], tuple(arguments[2:]))  # which have options of their own
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="sdlab", args=arguments, description=DESCRIPTION
        )
    except SdlabError as error:
        print(f"sdlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sdlab: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
