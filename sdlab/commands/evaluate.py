"""The commands `sdlab evaluate`, `sdlab import` and `sdlab compare`: results into folders, and tables of them to read."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sdlab.commands.options import RUNS

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
SHOWN = ("reward", "pass@16", "length", "markers", "markers_substring", "density", "truncated", "entropy")


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    benchmarks: str,
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
) -> int:
    """Evaluate a model on benchmarks (avg@16, pass@k, length, markers), each kept in a folder; a stopped evaluation goes on.

    For example: sdlab evaluate Qwen/Qwen3-8B --benchmarks aime24,amc23 --engine vllm. Sampling is the paper's for the
    thinking mode unless an option says otherwise.

    Args:
        model: The organism, a folder with a model in Hugging Face format (a checkpoint, a run's model), or a hub name.
        benchmarks: Names with commas between: benchmarks (aime24, math500, ...) or splits of the world (in-domain, ...).
        output: Folder for the results, output/NAME/BENCHMARK.
        name: The model's name in tables; the model string when not given.
        engine: What samples: torch or vllm.
        tensor_parallel_size: vLLM's: GPUs that share the model.
        max_model_len: vLLM's: tokens of prompt and completion together, when the model's context does not fit the memory.
        thinking: Whether the chat template turns thinking on.
        num_generations: Samples per problem; 16.
        temperature: 0.6 thinking, 0.7 not.
        top_p: 0.95 thinking, 0.8 not.
        top_k: 20.
        max_completion_length: Tokens after which a response is cut; 38912, or what the model's context leaves.
        source: Folder or hub name from which benchmarks are read, when not their own.
        limit: The first so many problems of each.
        seed: Seed of the sampling, and of the world's splits.
        overwrite: Replace results that are there.
    """
    from rich.progress import Progress

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
    names = [one.strip() for one in benchmarks.split(",") if one.strip()]
    with Progress(transient=True) as board:
        bars = {one: board.add_task(one, total=None) for one in names}

        def follow(benchmark: str, done: int, total: int) -> None:
            board.update(bars[benchmark], completed=done, total=total)

        results = evaluate_benchmarks(
            model, names, output=output, name=name, thinking=thinking, sampling=sampling, engine=engine,
            engine_settings={key: value for key, value in settings.items() if value is not None}, source=source, limit=limit, seed=seed, overwrite=overwrite, progress=follow,
        )  # fmt: skip
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
    """Analyse rollouts you already have (jsonl, json or parquet of prompts and completions), without a GPU.

    Columns are found by their usual names; an option names one that is not. Lists of completions are taken apart. What was
    read of each file, what was left out, and why is printed below the table.

    Args:
        files: Files of rollouts.
        output: Folder for the results, output/MODEL/BENCHMARK.
        name: The model's name; the rows' own, else the file's, when not given.
        benchmark: The benchmark's name; the rows' own, else the file's, when not given.
        prompt: Column of the prompts.
        response: Column of the completions.
        answer: Column of the gold answers.
        tokens: Column of the token counts.
        finish_reason: Column that says how a completion ended, or whether it was cut.
        reward: Column of verdicts on the completions: 1 for right, 0 or -1 for wrong.
        thinking: Column of the thinking, where it is kept apart from the completion.
        problem_id: Column of the problems' names.
        tokenizer: Count tokens with this tokenizer: organism, a folder or a hub name.
        overwrite: Replace results that are there.
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
    """Put results of `sdlab evaluate` and `sdlab import` in one table, with paired differences on the same problems.

    Args:
        folders: Folders with results, or folders of such folders.
        baseline: The model that others are compared with; the first when not given.
        output: Write the whole table to this csv file, too.
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


def show(results) -> None:
    """Print the table of results, what must be known to read it, and where they lie."""
    from sdlab.results.comparison import comparison

    _print_table(comparison(results, results[0].model), results)
    for result in results:
        for note in result.notes:
            if note not in result.warnings:  # printed with the table
                print(f"{result.model}, {result.benchmark}: {note}")
        if result.folder:
            print(f"wrote {result.folder}")


def _print_table(table, results) -> None:
    """Print the table, a mark beside each score that says nothing, and below it why."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sdlab.results.comparison import wide

    cells = wide(table, SHOWN)
    warned = [result for result in results if result.warnings]
    for result in warned:
        cells.loc[(result.benchmark, result.model), "reward"] += " no readable answer!"
    out = Table(title="95% intervals, over problems", title_justify="left")
    for heading in ("benchmark", "model", *(LABELS.get(name, name) for name in cells.columns)):
        out.add_column(heading, overflow="fold")
    for (benchmark, model), row in cells.iterrows():
        out.add_row(
            *(Text(str(cell)) for cell in (benchmark, model, *row))
        )  # names from files may look like markup
    console = Console()
    console.print(out)
    for result in warned:
        for sentence in result.warnings:
            console.print(Text(f"{result.model}, {result.benchmark}: {sentence}", style="bold yellow"))
