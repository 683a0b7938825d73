"""`sdlab measure`: Table 1 and the splits of the world, for one model."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sdlab.commands.options import PRESET, ProblemOptions
from sdlab.commands.progress import long_progress, to_stderr
from sdlab.commands.results_tables import NO_ANSWER
from sdlab.commands.tables import Column, TableOptions, note, print_table
from sdlab.errors import SdlabError
from sdlab.paths import ORGANISM

if TYPE_CHECKING:
    import pandas


def contexts_command(
    model: str = ORGANISM,
    preset: str = PRESET,
    seed: int = 0,
    engine: Literal["torch", "vllm"] = "torch",
    tensor_parallel_size: int = 1,
    max_completion_length: int | None = None,
    thinking: bool = True,
    chat_template: str | None = None,
    own: tyro.conf.OmitArgPrefixes[ProblemOptions] = ProblemOptions(),
    table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
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
        chat_template: "plain" for a base model, or a file with a jinja template; by default the model's own.
        own: Your own problems instead of the split "train".
        table: The form of the table.
    """
    from sdlab.measure.evaluation import METRICS, summarise, table_one
    from sdlab.paper import PAPER
    from sdlab.presets import preset as sizes
    from sdlab.rollout.loading import load_engine
    from sdlab.study.contexts import HIGH, LOW, has_thinking, run_contexts, select
    from sdlab.text.prompt import CONTEXT_LABELS
    from sdlab.world.splits import load_split

    size = sizes(preset)
    if engine != "vllm" and tensor_parallel_size != 1:
        raise SdlabError(
            f"tensor_parallel_size={tensor_parallel_size} is for engine 'vllm'; "
            f"leave it at 1 with engine {engine!r}"
        )
    settings: dict[str, Any] = {"tensor_parallel_size": tensor_parallel_size} if engine == "vllm" else {}
    limit = size.max_completion_length if max_completion_length is None else max_completion_length
    source = own.source()
    problems = load_split("train", seed) if source is None else source.load()
    sampler = load_engine(model, engine=engine, chat_template=chat_template, **settings)
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
            note=to_stderr,
        )
        frame = run_contexts(
            sampler, selection, size.num_generations, seed, **common, progress=follow("contexts")
        )
    text = table_one(frame)
    titles = {"reward": "score", "density": "markers\nper 1,000"}
    columns = [_column(titles.get(name, name), text[name]) for name in map(str, text.columns)]
    unreadable = frame["answer"].isna().groupby(frame["context"]).agg(["sum", "size"])
    missing = ["{:,} of {:,}".format(*unreadable.loc[context]) for context in text.index]
    of_paper = [PAPER.loc[context] for context in text.index]
    cells = [f"{row.reward:.2f} / {row.length:,.0f} / {row.markers:.1f}" for row in of_paper]
    columns[3:] = [Column("no answer", missing), replace(columns[3], optional=2)]
    columns.append(Column("paper: score /\nlength / markers", cells, optional=1))
    title = f"{len(selection.problems)} problems with base pass rate {LOW} to {HIGH}"
    print_table(
        Column("context", [CONTEXT_LABELS[context] for context in text.index]),
        columns,
        summarise(frame.assign(no_answer=frame["answer"].isna()), "context", (*METRICS, "no_answer")),
        table,
        title=f"{model}: {title}, {size.num_generations} samples each",
    )
    notes = ["Intervals: 95%, resampled by problem. Paper: DeepSeek-R1-Distill-Qwen-7B.", NO_ANSWER]
    if not has_thinking(sampler, selection, thinking):
        notes.append(
            "The model's solutions have no <think> part, so the context "
            f'"{CONTEXT_LABELS["solution_no_think"]}" would repeat the full solution and is left out.'
        )
    if "regenerated" not in set(frame["context"]):
        notes.append(
            "No completion under the full solution is right, so there is no regenerated solution, and the "
            f'context "{CONTEXT_LABELS["regenerated"]}" is left out.'
        )
    if frame["truncated"].any():
        notes.append(
            f"{frame['truncated'].mean():.0%} of the completions were cut at {limit} tokens; "
            "raise --max-completion-length if that is many."
        )
    note(table, notes)
    return 0


def _column(heading: str, cells: "pandas.Series", optional: int = 0) -> Column:
    """Return a column of cells like "0.30 [0.25, 0.35]"; in a narrow table only the score has an interval."""
    texts = [str(cell) for cell in cells]
    short = None if heading == "score" else [text.partition(" [")[0] for text in texts]
    return Column(heading, texts, short, optional)


def splits_command(
    model: str = ORGANISM,
    preset: str = PRESET,
    seed: int = 0,
    table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
) -> int:
    """Print score, length and markers for every split of the world and every mode of the model.

    Args:
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        preset: Sizes: smoke, quick or full.
        seed: Seed of the sampling.
        table: The form of the table.
    """
    from sdlab.organism.card import NUM_GENERATIONS, as_text, measure_splits
    from sdlab.presets import preset as sizes
    from sdlab.rollout.loading import load_engine

    size = sizes(preset)
    engine = load_engine(model)
    with long_progress() as board:
        measured = measure_splits(
            engine,
            size.num_problems,
            seed,
            lambda done, total: board("splits and modes", done, total),
        )
    rows = as_text(measured)
    columns = [
        _column("score", rows["reward"]),
        _column("length", rows["length"]),
        _column("markers", rows["markers"]),
        Column("no answer", _shares(measured, rows.index)),
        _column("cut off", rows["truncated"], optional=1),
    ]
    print_table(
        Column("mode", [str(mode) for _, mode in rows.index]),
        columns,
        measured,
        table,
        title=f"{model}: avg@{NUM_GENERATIONS} at temperature 1, 95% intervals by problem",
        groups=[str(split) for split, _ in rows.index],
    )
    note(table, [NO_ANSWER])
    return 0


def _shares(measured: "pandas.DataFrame", index: "pandas.Index") -> list[str]:
    """Return how many completions had no readable answer, as "12 of 400", for each split and mode."""
    own = measured[measured["metric"] == "no_answer"].set_index(["split", "mode"])
    rows = [own.loc[key] for key in index]
    return [f"{row['mean'] * row['generations']:,.0f} of {row['generations']:,.0f}" for row in rows]


MEASUREMENTS = {"contexts": contexts_command, "splits": splits_command}
