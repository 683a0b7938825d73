"""`sdlab evaluate`, `sdlab import` and `sdlab compare`: write results to folders and print their tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sdlab.commands.options import RUNS, ProblemOptions
from sdlab.commands.progress import long_progress

if TYPE_CHECKING:
    import pandas

    from sdlab.results.result import Result

EVALUATIONS = RUNS / "evaluations"
LABELS = {
    "reward": "score (avg@n)",
    "length": "length",
    "markers": "markers",
    "markers_substring": "markers (substring)",
    "density": "per 1,000",
    "truncated": "cut off",
    "entropy": "entropy",
}
COLUMNS = ("reward", "pass@16", "length", "markers", "markers_substring", "density", "truncated", "entropy")


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    benchmarks: str = "",
    output: Path = EVALUATIONS,
    name: str | None = None,
    engine: Literal["torch", "vllm"] = "torch",
    tensor_parallel_size: int | None = None,
    max_model_len: int | None = None,
    thinking: bool = True,
    num_generations: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    max_completion_length: int | None = None,
    source: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    own: tyro.conf.OmitArgPrefixes[ProblemOptions] = ProblemOptions(),
) -> int:
    """Evaluate a model on benchmarks (avg@16, pass@k, length, markers); an interrupted evaluation resumes.

    For example: sdlab evaluate Qwen/Qwen3-8B --benchmarks aime24,amc23 --engine vllm. The sampling settings
    are the paper's for the thinking mode, unless an option changes them.

    Args:
        model: The organism, a folder in Hugging Face format (a checkpoint, a run's model), or a hub name.
        benchmarks: Names separated by commas: benchmarks (aime24, math500, ...) or splits (in-domain, ...).
            Leave it out with --problems.
        output: Folder for the results, output/NAME/BENCHMARK.
        name: Name of the model in tables; by default the model string.
        engine: Engine that samples: torch or vllm.
        tensor_parallel_size: GPUs that share the model (vllm only).
        max_model_len: Tokens of prompt and completion, when the model's context exceeds the memory (vllm
            only).
        thinking: Turn on thinking in the chat template.
        num_generations: Completions per problem; by default the paper's 16.
        temperature: By default the paper's: 0.6 with thinking, 0.7 without.
        top_p: By default the paper's: 0.95 with thinking, 0.8 without.
        top_k: By default the paper's: 20.
        max_completion_length: Tokens at which a completion is cut; by default 38912, at most the model's
            context.
        source: Folder with the benchmarks' files, or the file of a benchmark. For other files: --problems.
        limit: Use only this many of the first problems of each benchmark.
        seed: Seed of the sampling, and of the splits.
        overwrite: Replace existing results.
        own: Your own problems, as another benchmark with the file's name.
    """
    from sdlab.paper import paper_sampling
    from sdlab.results.evaluate import evaluate_benchmarks

    sampling = paper_sampling(
        thinking,
        num_generations=num_generations,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_completion_length=max_completion_length,
    )
    settings = {"tensor_parallel_size": tensor_parallel_size, "max_model_len": max_model_len}
    names = [part.strip() for part in benchmarks.split(",") if part.strip()]
    problems = own.source()
    with long_progress() as board:
        results = evaluate_benchmarks(
            model,
            [*names, *([problems] if problems else [])],
            output=output,
            name=name,
            thinking=thinking,
            sampling=sampling,
            engine=engine,
            engine_settings={key: value for key, value in settings.items() if value is not None},
            source=source,
            limit=limit,
            seed=seed,
            overwrite=overwrite,
            progress=lambda benchmark, done, total: board(benchmark, done, total),
        )
    show(results)
    return 0


def import_(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")],
    output: Path = EVALUATIONS,
    name: str | None = None,
    benchmark: str | None = None,
    prompt: str | None = None,
    response: str | None = None,
    answer: str | None = None,
    tokens: str | None = None,
    finish_reason: str | None = None,
    reward: str | None = None,
    thinking: str | None = None,
    problem_id: str | None = None,
    tokenizer: str | None = None,
    overwrite: bool = False,
) -> int:
    """Analyse completions that you already have (jsonl, json or parquet), without a GPU.

    Columns are found by their usual names; an option names a column that is not. Lists of completions are
    split into rows. Notes below the table say what was read of each file, what was left out, and why.

    Args:
        files: Files of prompts and completions.
        output: Folder for the results, output/MODEL/BENCHMARK.
        name: Name of the model; by default the one in the rows, else the file's.
        benchmark: Name of the benchmark; by default the one in the rows, else the file's.
        prompt: Column of the prompts.
        response: Column of the completions.
        answer: Column of the correct answers.
        tokens: Column of the token counts.
        finish_reason: Column that says how a completion ended, or whether it was cut.
        reward: Column of verdicts on the completions: 1 for right, 0 or -1 for wrong.
        thinking: Column of the thinking, where it is separate from the completion.
        problem_id: Column of the names of problems.
        tokenizer: Count tokens with this tokenizer: organism, a folder or a hub name.
        overwrite: Replace existing results.
    """
    from sdlab.results.imported import import_rollouts

    columns = {
        "prompt": prompt,
        "response": response,
        "answer": answer,
        "tokens": tokens,
        "finish_reason": finish_reason,
        "reward": reward,
        "thinking": thinking,
        "problem_id": problem_id,
    }
    show(
        import_rollouts(
            files,
            name=name,
            benchmark=benchmark,
            columns=columns,
            tokenizer=tokenizer,
            output=output,
            overwrite=overwrite,
        )
    )
    return 0


def compare(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER...")],
    baseline: str | None = None,
    output: Path | None = None,
) -> int:
    """Compare results in one table, with differences paired by problem.

    The results are those of `sdlab evaluate` and `sdlab import`.

    Args:
        folders: Folders with results, or folders of such folders.
        baseline: The model that others are compared with; by default the first.
        output: Also write the whole table to this csv file.
    """
    from sdlab.files import write_atomic
    from sdlab.results.comparison import comparison, sentences
    from sdlab.results.store import load_results

    results = load_results(folders)
    table = comparison(results, baseline)
    _print_table(table, results)
    for sentence in sentences(table):
        print(sentence)
    if output is not None:
        print(f"wrote {write_atomic(output, table.to_csv(index=False))}")
    return 0


def show(results: "Sequence[Result]") -> None:
    """Print the table of results, the notes needed to read it, and the folders of the results."""
    from sdlab.results.comparison import comparison

    _print_table(comparison(results, results[0].model), results)
    for result in results:
        for note in result.notes:
            if note not in result.warnings:  # printed with the table
                print(f"{result.model}, {result.benchmark}: {note}")
        if result.folder:
            print(f"wrote {result.folder}")


def _print_table(table: "pandas.DataFrame", results: "Sequence[Result]") -> None:
    """Print the table, with a mark beside each score that cannot be used, and the reasons below it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sdlab.results.comparison import wide

    cells = wide(table, COLUMNS)
    warned = [result for result in results if result.warnings]
    for row in [(result.benchmark, result.model) for result in warned]:
        cells.loc[row, "reward"] = f"{cells.loc[row, 'reward']} no readable answer!"
    out = Table(title="95% intervals, over problems", title_justify="left")
    for heading in ("benchmark", "model", *(LABELS.get(name, name) for name in map(str, cells.columns))):
        out.add_column(heading, overflow="fold")
    for benchmark_and_model, row in zip(cells.index, cells.to_numpy(), strict=True):
        # Text, because names from files may look like markup.
        out.add_row(*(Text(str(cell)) for cell in (*benchmark_and_model, *row)))
    console = Console()
    console.print(out)
    for result in warned:
        for sentence in result.warnings:
            console.print(Text(f"{result.model}, {result.benchmark}: {sentence}", style="bold yellow"))
