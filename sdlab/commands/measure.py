"""`sdlab measure`: Table 1 and the splits of the world, for one model."""

import sys
from collections.abc import Callable
from typing import Any, Literal

import tyro

from sdlab.commands.options import PRESET, ProblemOptions
from sdlab.commands.progress import long_progress
from sdlab.errors import SdlabError
from sdlab.paths import ORGANISM


def contexts_command(
    model: str = ORGANISM,
    preset: str = PRESET,
    seed: int = 0,
    engine: Literal["torch", "vllm"] = "torch",
    tensor_parallel_size: int = 1,
    max_completion_length: int | None = None,
    thinking: bool = True,
    own: tyro.conf.OmitArgPrefixes[ProblemOptions] = ProblemOptions(),
) -> int:
    """Print score, length and markers in the four contexts (Table 1), beside the paper's numbers.

    Intervals are 95%, resampled by problem.

    Args:
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        preset: Sizes: smoke, quick or full.
        seed: Seed of the sampling.
        engine: torch, or vllm for large models.
        tensor_parallel_size: GPUs that share the model (vllm only).
        max_completion_length: Tokens; by default those of the preset, which suit the organism.
        thinking: Ask the chat template for thinking.
        own: Your own problems instead of the split "train".
    """
    from rich.console import Console
    from rich.table import Table

    from sdlab.measure.evaluation import table_one
    from sdlab.paper import PAPER
    from sdlab.presets import preset as sizes
    from sdlab.rollout.loading import load_engine
    from sdlab.study.contexts import HIGH, LOW, has_thinking, run_contexts, select
    from sdlab.text.prompt import CONTEXT_LABELS
    from sdlab.world.splits import load_split

    size, console = sizes(preset), Console()
    if engine != "vllm" and tensor_parallel_size != 1:
        raise SdlabError(
            f"tensor_parallel_size={tensor_parallel_size} is for engine 'vllm'; "
            f"leave it at 1 with engine {engine!r}"
        )
    settings: dict[str, Any] = {"tensor_parallel_size": tensor_parallel_size} if engine == "vllm" else {}
    limit = size.max_completion_length if max_completion_length is None else max_completion_length
    source = own.source()
    problems = load_split("train", seed) if source is None else source.load()
    sampler = load_engine(model, engine=engine, **settings)
    with long_progress() as board:

        def follow(name: str) -> Callable[[int, int], None]:
            return lambda done, total: board(name, done, total)

        common = {"max_completion_length": limit, "thinking": thinking}
        selection = select(
            sampler,
            problems,
            size.num_problems,
            seed,
            **common,
            progress=follow("base pass rates, at most"),
            note=lambda sentence: print(sentence, file=sys.stderr, flush=True),
        )
        frame = run_contexts(
            sampler, selection, size.num_generations, seed, **common, progress=follow("contexts")
        )
    text = table_one(frame)
    title = f"{len(selection.problems)} problems with base pass rate {LOW} to {HIGH}"
    table = Table(title=f"{model}: {title}, {size.num_generations} samples each")
    for column in (
        "context",
        "score",
        "length",
        "markers",
        "per 1,000 tokens",
        "no answer",
        "paper: score / length / markers",
    ):
        table.add_column(column)
    unreadable = frame["answer"].isna().groupby(frame["context"]).agg(["sum", "size"])
    for context in text.index:
        paper = PAPER.loc[context]
        paper_cell = f"{paper.reward:.2f} / {paper.length:,.0f} / {paper.markers:.1f}"
        missing = "{:,} of {:,}".format(*unreadable.loc[context])
        table.add_row(CONTEXT_LABELS[context], *map(str, text.loc[context]), missing, paper_cell)
    console.print(table)
    console.print(
        "Intervals: 95%, resampled by problem. The paper's numbers are of DeepSeek-R1-Distill-Qwen-7B."
    )
    console.print("No answer: completions without a readable answer, which count as wrong.")
    if not has_thinking(sampler, selection, thinking):
        console.print(
            "The model's solutions have no <think> part, so the context "
            f'"{CONTEXT_LABELS["solution_no_think"]}" would repeat the full solution and is left out.'
        )
    if frame["truncated"].any():
        console.print(
            f"{frame['truncated'].mean():.0%} of the completions were cut at {limit} tokens; "
            "raise max_completion_length if that is many."
        )
    return 0


def splits_command(model: str = ORGANISM, preset: str = PRESET, seed: int = 0) -> int:
    """Print score, length and markers for every split of the world and every mode of the model.

    Args:
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        preset: Sizes: smoke, quick or full.
        seed: Seed of the sampling.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from sdlab.organism.card import NUM_GENERATIONS, as_text, measure_splits
    from sdlab.presets import preset as sizes
    from sdlab.rollout.loading import load_engine

    size, console = sizes(preset), Console()
    engine = load_engine(model)
    with Progress(console=console, transient=True) as board:
        task = board.add_task("splits and modes", total=None)
        measured = measure_splits(
            engine,
            size.num_problems,
            seed,
            lambda done, total: board.update(task, completed=done, total=total),
        )
    table = Table(title=f"{model}: avg@{NUM_GENERATIONS} at temperature 1, 95% intervals by problem")
    for column in ("split", "mode", "score", "length", "markers", "cut off"):
        table.add_column(column)
    cells = as_text(measured)
    for split_and_mode, row in zip(cells.index, cells.to_numpy(), strict=True):
        table.add_row(*split_and_mode, *row)
    console.print(table)
    return 0


MEASUREMENTS = {"contexts": contexts_command, "splits": splits_command}
