"""Evaluate a model on several sets of problems at once."""

from collections.abc import Callable, Mapping, Sequence

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.world.problems import Problem


def evaluate_tests(
    engine: Engine,
    tests: Mapping[str, Sequence[Problem]],
    params: SamplingParams,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Evaluate a model on several sets of problems: the rows of `evaluate`, with the set's name as split.

    All sets are sampled together. Raises SdlabError for a set without problems.
    """
    for name, problems in tests.items():
        if not len(problems):
            raise SdlabError(f"the test {name!r} has no problems; give at least one")
    names = [name for name, problems in tests.items() for _ in range(len(problems) * params.num_generations)]
    together = [problem for problems in tests.values() for problem in problems]
    return evaluate(engine, together, params, progress=progress).assign(split=names)
