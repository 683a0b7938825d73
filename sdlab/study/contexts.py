"""Table 1: the same model, the same problems, four contexts (paper Section 3).

Problems are those the base model sometimes solves: 1 to 4 right of 8 samples, as in the paper. The samples that chose
them are not used again, because a problem chosen for a low rate looks harder on the very samples that chose it; the
paper does not say which samples its unguided row uses, and ours are fresh.
"""

from dataclasses import dataclass

import pandas

from sdlab.context import CONTEXT_LABELS, CONTEXTS, strip_thinking
from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate, select_by_base_rate, table_one
from sdlab.rollout.checks import opens_thinking
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int
from sdlab.settings import Count, Seed, checked

PAPER = pandas.DataFrame(  # DeepSeek-R1-Distill-Qwen-7B, Table 1 of arXiv 2603.24472
    {
        "reward": [0.30, 0.98, 0.78, 0.95],
        "length": [13054, 1873, 12036, 2808],
        "markers": [182.5, 8.8, 159.8, 24.1],
    },
    index=list(CONTEXTS),
)
BASE_SAMPLES = 8  # per problem, to find its base pass rate
LOW, HIGH = 1 / 8, 1 / 2
TEMPERATURE = 0.6  # the paper's, with top-p .95 and top-k 20
TOP_P, TOP_K = 0.95, 20


@dataclass(frozen=True)
class Selection:
    """Problems of middling difficulty, each with a correct completion of the base model."""

    problems: list
    solutions: list[str]  # the first right completion per problem, thinking included
    base: pandas.DataFrame  # every base sample that was drawn, of chosen and other problems


@checked
def sampling(
    num_generations: Count, seed: Seed, purpose: str, max_completion_length: Count = 256
) -> SamplingParams:
    """The paper's sampling settings, with a seed of its own for each purpose."""
    return SamplingParams(
        num_generations,
        max_completion_length,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        stable_int("contexts", purpose, seed),
    )


def first_right(frame: pandas.DataFrame, opened: bool = False) -> pandas.Series:
    """The first right completion of each problem that has one, by problem_id.

    One that was cut inside its thinking is no solution, and is passed over. opened: as in `sdlab.context.strip_thinking`.
    """
    right = frame[frame["reward"] == 1]
    whole = [bool(strip_thinking(text, opened)) for text in right["completion"]]
    return right[whole].groupby("problem_id")["completion"].first()


@checked
def select(
    engine,
    problems,
    wanted: Count,
    seed: Seed = 0,
    *,
    low: float = LOW,
    high: float = HIGH,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress=None,
) -> Selection:
    """Go through `problems` in order, 8 samples each, until `wanted` have a base pass rate in [low, high] and a solution to show.

    Raises SdlabError when `problems` hold no such problem; fewer than wanted is no error (see `len(problems)`).
    """
    chosen, solutions, frames = [], [], []
    step = max(16, 2 * wanted)
    for start in range(0, len(problems), step):
        part = problems[start : start + step]
        inner = progress and (
            lambda done, total, before=start: progress(
                before * BASE_SAMPLES + done, len(problems) * BASE_SAMPLES
            )
        )
        frame = evaluate(
            engine,
            part,
            sampling(BASE_SAMPLES, seed, "base", max_completion_length),
            thinking=thinking,
            progress=inner,
        )
        frames.append(frame)
        middling = set(select_by_base_rate(frame, low, high))
        right = first_right(frame, opens_thinking(engine.tokenizer, thinking))
        for problem in part:
            if problem.id in middling and problem.id in right.index and len(chosen) < wanted:
                chosen.append(problem)
                solutions.append(right[problem.id])
        if len(chosen) == wanted:
            break
    if not chosen:
        raise SdlabError(
            f"none of {len(problems)} problems has a base pass rate from {low} to {high}; give more or other problems"
        )
    return Selection(chosen, solutions, pandas.concat(frames, ignore_index=True))


@checked
def run_contexts(
    engine,
    selection: Selection,
    num_generations: Count,
    seed: Seed = 0,
    *,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress=None,
) -> pandas.DataFrame:
    """Sample every context on the selected problems: `evaluate` rows, one block per context, in the order of CONTEXTS.

    The regenerated context of a problem is its first right completion under the full solution; a problem without one
    is left out of that block.
    """
    frames, problems, total = [], selection.problems, 4 * len(selection.problems) * num_generations
    for number, context in enumerate(CONTEXTS):
        shown, asked = selection.solutions, problems
        if context == "none":
            shown = None
        elif context == "regenerated":
            opened = opens_thinking(engine.tokenizer, thinking)
            again = first_right(frames[CONTEXTS.index("solution")], opened)
            asked = [p for p in problems if p.id in again.index]
            shown = [again[p.id] for p in asked]
        inner = progress and (lambda done, _, before=number * total // 4: progress(before + done, total))
        params = sampling(num_generations, seed, context, max_completion_length)
        frames.append(
            evaluate(
                engine,
                asked,
                params,
                context=context,
                demonstrations=shown,
                thinking=thinking,
                progress=inner,
            )
        )
    return pandas.concat(frames, ignore_index=True)


def contexts_command(
    model: str = "organism",
    preset: str = "quick",
    seed: int = 0,
    *,
    engine: str = "torch",
    tensor_parallel_size: int = 1,
    max_completion_length: int | None = None,
    thinking: bool = True,
) -> None:
    """`sdlab measure contexts`: print Table 1 for a model, with intervals by problem, beside the paper's.

    engine, tensor_parallel_size: as in `load_engine`. max_completion_length: tokens; the preset's, which suit the organism, when not given.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from sdlab.rollout.loading import load_engine
    from sdlab.study.presets import preset as sizes
    from sdlab.world.splits import load_split

    size, console = sizes(preset), Console()
    if engine != "vllm" and tensor_parallel_size != 1:
        raise SdlabError(
            f"tensor_parallel_size={tensor_parallel_size} is for engine 'vllm'; leave it at 1 with engine {engine!r}"
        )
    settings = {"tensor_parallel_size": tensor_parallel_size} if engine == "vllm" else {}
    limit = size.max_completion_length if max_completion_length is None else max_completion_length
    sampler = load_engine(model, engine=engine, **settings)
    with Progress(console=console, transient=True) as board:
        bars = {}

        def follow(name):
            bars[name] = board.add_task(name, total=None)
            return lambda done, total: board.update(bars[name], completed=done, total=total)

        common = {"max_completion_length": limit, "thinking": thinking}
        selection = select(
            sampler,
            load_split("train", seed),
            size.num_problems,
            seed,
            **common,
            progress=follow("base pass rates"),
        )
        board.update(bars["base pass rates"], completed=1, total=1)
        frame = run_contexts(
            sampler, selection, size.num_generations, seed, **common, progress=follow("four contexts")
        )
    text = table_one(frame)
    table = Table(
        title=f"{model}: {len(selection.problems)} problems with base pass rate {LOW} to {HIGH}, {size.num_generations} samples each"
    )
    for column in (
        "context",
        "score",
        "length",
        "markers",
        "per 1,000 tokens",
        "paper: score / length / markers",
    ):
        table.add_column(column)
    for context in text.index:
        paper = PAPER.loc[context]
        theirs = f"{paper.reward:.2f} / {paper.length:,.0f} / {paper.markers:.1f}"
        table.add_row(CONTEXT_LABELS[context], *map(str, text.loc[context]), theirs)
    console.print(table)
    console.print(
        "Intervals: 95%, resampled by problem. The paper's numbers are of DeepSeek-R1-Distill-Qwen-7B."
    )
    if frame["truncated"].any():
        console.print(
            f"{frame['truncated'].mean():.0%} of the completions were cut at {limit} tokens; raise max_completion_length if that is many."
        )
