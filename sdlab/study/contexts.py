"""Table 1: the same model on the same problems under four contexts (paper Section 3).

The problems are those that the base model sometimes solves: 1 to 4 right of 8 samples, as in the paper. The
samples that selected them are not used again, because a problem that was selected for a low rate scores too
low on the selecting samples. The paper does not say which samples its unguided row uses; ours are fresh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate, first_right, select_by_base_rate
from sdlab.paper import sampling
from sdlab.rollout.types import Engine
from sdlab.settings import Count, Seed, checked
from sdlab.text.prompt import CONTEXTS
from sdlab.text.templates import opens_thinking
from sdlab.world.problems import Problem

BASE_SAMPLES = 8  # per problem, to find its base pass rate
LOW, HIGH = 1 / 8, 1 / 2


@dataclass(frozen=True)
class Selection:
    """Problems of middle difficulty, each with a right completion of the base model."""

    problems: list[Problem]
    # the first right completion of each problem, with its thinking
    solutions: list[str]
    # all samples of the base model, of selected and other problems
    base: pandas.DataFrame


@checked
def select(
    engine: Engine,
    problems: Sequence[Problem],
    num_problems: Count,
    seed: Seed = 0,
    *,
    low: float = LOW,
    high: float = HIGH,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Select problems with a base pass rate in [low, high] and a right completion, in order.

    Each problem is sampled 8 times, until `num_problems` are selected. The result may have fewer problems,
    when `problems` hold no more.

    Raises SdlabError when `problems` hold no such problem.
    """
    chosen, solutions, frames = [], [], []
    step = max(16, 2 * num_problems)
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
            if problem.id in middling and problem.id in right.index and len(chosen) < num_problems:
                chosen.append(problem)
                solutions.append(right[problem.id])
        if len(chosen) == num_problems:
            break
    if not chosen:
        raise SdlabError(
            f"none of {len(problems)} problems has a base pass rate from {low} to {high}; "
            "give more or other problems"
        )
    return Selection(chosen, solutions, pandas.concat(frames, ignore_index=True))


@checked
def run_contexts(
    engine: Engine,
    selection: Selection,
    num_generations: Count,
    seed: Seed = 0,
    *,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Sample every context on the selected problems and return the rows of `evaluate`.

    There is one block per context, in the order of CONTEXTS. The regenerated context of a problem is its
    first right completion under the full solution; a problem without one is left out of that block.
    """
    frames, problems, total = [], selection.problems, 4 * len(selection.problems) * num_generations
    for number, context in enumerate(CONTEXTS):
        demonstrations, part = selection.solutions, problems
        if context == "none":
            demonstrations = None
        elif context == "regenerated":
            opened = opens_thinking(engine.tokenizer, thinking)
            again = first_right(frames[CONTEXTS.index("solution")], opened)
            part = [p for p in problems if p.id in again.index]
            demonstrations = [str(again[p.id]) for p in part]
        inner = progress and (lambda done, _, before=number * total // 4: progress(before + done, total))
        params = sampling(num_generations, seed, context, max_completion_length)
        frames.append(
            evaluate(
                engine,
                part,
                params,
                context=context,
                demonstrations=demonstrations,
                thinking=thinking,
                progress=inner,
            )
        )
    return pandas.concat(frames, ignore_index=True)
