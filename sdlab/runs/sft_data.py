"""The two training sets of Table 2: right traces written without and with the solution in the prompt."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate
from sdlab.paper import TEMPERATURE, TOP_K, TOP_P
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.seeds import stable_int
from sdlab.settings import Count, Seed, checked
from sdlab.text.plural import plural
from sdlab.train.sft import Trace
from sdlab.world.problems import Problem

SAMPLES = 8  # completions per problem and data set, from which the right ones are taken
PER_PROBLEM = 2


@checked
def build_traces(
    engine: Engine,
    problems: Sequence[Problem],
    count: Count = 800,
    seed: Seed = 0,
    *,
    per_problem: Count = PER_PROBLEM,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Trace], list[Trace]]:
    """Return (unguided, guided): `count` right completions each, on the same problems.

    Both have the same number per problem, at most `per_problem`. Unguided traces are the model's own right
    completions of the plain problem. Guided ones are its right completions with the first of those in the
    prompt. Training uses the plain problem in both sets. Sampling is as for Table 1, with at most
    max_completion_length tokens. A completion that was cut is neither a trace nor a solution.

    Raises SdlabError when `problems` yield fewer than `count`.
    """

    def sample(part: Sequence[Problem], purpose: str, **context: Any) -> dict[str, list[str]]:
        key = stable_int("traces", purpose, start, seed)
        params = SamplingParams(SAMPLES, max_completion_length, TEMPERATURE, TOP_P, TOP_K, key)
        return _right(evaluate(engine, part, params, thinking=thinking, **context))

    unguided, guided, step = [], [], 128
    for start in range(0, len(problems), step):
        part = problems[start : start + step]
        own = sample(part, "unguided")
        part = [problem for problem in part if problem.id in own]
        if part:
            solutions = [own[problem.id][0] for problem in part]
            led = sample(part, "guided", context="solution", demonstrations=solutions)
            for problem in part:
                both = min(
                    per_problem, len(own[problem.id]), len(led.get(problem.id, ())), count - len(guided)
                )
                unguided += [Trace(problem, text) for text in own[problem.id][:both]]
                guided += [Trace(problem, text) for text in led.get(problem.id, ())[:both]]
        if progress:
            progress(len(guided), count)
        if len(guided) == count:
            return unguided, guided
    raise SdlabError(
        f"{plural(len(problems), 'problem')} gave {plural(len(guided), 'pair')} of traces, and the run needs "
        f"{count}; "
        "give more problems or ask for fewer traces"
    )


def _right(frame: pandas.DataFrame) -> dict[str, list[str]]:
    """Return right and finished completions by problem, in order of sampling."""
    kept = frame[(frame["reward"] == 1) & ~frame["truncated"]]
    groups = kept.groupby("problem_id", sort=False)["completion"]
    return {str(problem): list(completions) for problem, completions in groups}
