"""`sdlab evaluate`, `sdlab import` and `sdlab compare`: write results to folders and print their tables."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sdlab.commands.options import RUNS, ProblemOptions, names_in
from sdlab.commands.progress import long_progress, to_stderr
from sdlab.commands.results_tables import print_results, show
from sdlab.commands.tables import TableOptions, note
from sdlab.errors import SdlabError

EVALUATIONS = RUNS / "evaluations"


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    benchmarks: str = "",
    output: Path = EVALUATIONS,
    name: str | None = None,
    engine: Literal["torch", "vllm"] = "torch",
    tensor_parallel_size: int | None = None,
    max_model_len: int | None = None,
    chat_template: str | None = None,
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
    table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
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
        chat_template: "plain" for a base model, or a file with a jinja template; by default the model's own.
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
        table: The form of the table.
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
    settings = {
        "tensor_parallel_size": tensor_parallel_size,
        "max_model_len": max_model_len,
        "chat_template": chat_template,
    }
    names = names_in("--benchmarks", benchmarks)
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
            note=to_stderr,
        )
    index = _index(output)
    show(results, table)
    note(table, index)
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
    table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
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
        table: The form of the table.
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
    results = import_rollouts(
        files,
        name=name,
        benchmark=benchmark,
        columns=columns,
        tokenizer=tokenizer,
        output=output,
        overwrite=overwrite,
    )
    index = _index(output)
    show(results, table)
    note(table, index)
    return 0


def _index(folder: Path) -> list[str]:
    """Write the index page of a folder of results, and return a sentence on it.

    The results are written already, so a page that cannot be made is told and does not fail the command. It
    is made before the table is printed, because a reader of the table may go away (`| head`).
    """
    from sdlab.results.index import write_index

    try:
        return [f"wrote {write_index(folder)}"]
    except SdlabError as error:
        return [f"no new index page: {error}"]


def compare(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER...")],
    baseline: str | None = None,
    output: Path | None = None,
    table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions(),
) -> int:
    """Compare results in one table, with differences paired by problem.

    The results are those of `sdlab evaluate` and `sdlab import`.

    Args:
        folders: Folders with results, or folders of such folders.
        baseline: The model that others are compared with; by default the first.
        output: Also write the whole table to this csv file.
        table: The form of the table.
    """
    from sdlab.files import write_atomic
    from sdlab.results.comparison import comparison, sentences
    from sdlab.results.conditions import differing_conditions
    from sdlab.results.store import load_results

    results = load_results(folders)
    compared = comparison(results, baseline)
    # before the table, whose reader may go away (`| head`)
    wrote = [] if output is None else [f"wrote {write_atomic(output, compared.to_csv(index=False))}"]
    print_results(compared, results, table)
    note(table, differing_conditions(results, baseline or results[0].model), "bold yellow")
    note(table, sentences(compared))
    note(table, wrote)
    return 0
