"""The recorded conditions that vary the number of problems and the exposures per problem separately.

In the coverage grid every run has the same number of steps, so fewer problems are seen more often: the two
are confounded. Here a run has `num_questions * exposures / 8` steps of 8 problems. Along a row of the grid
the problems stay and the exposures grow. Along a column the exposures stay and the problems grow. Along a
diagonal the number of steps stays.
"""

from dataclasses import replace

from sdlab.errors import SdlabError
from sdlab.study.condition import Condition
from sdlab.study.coverage_conditions import METHODS, PLAN

NUM_QUESTIONS = (8, 32, 128)
EXPOSURES = (2, 8, 32)
BATCH = 8  # problems per step
MOST_STEPS = 32  # what follows is the subject of the runs of 100 steps
GRID = tuple((n, e) for n in NUM_QUESTIONS for e in EXPOSURES if n * e // BATCH <= MOST_STEPS)
TRAINED = ("sdpo",)  # GRPO gains at every number of problems, so its runs would not answer the question


def exposures_name(method: str, num_questions: int, exposures: int) -> str:
    """Return the recorded condition's name, for example seen_sdpo_32_8.

    Raises SdlabError for a cell that is not in the grid.
    """
    if (num_questions, exposures) not in GRID or method not in TRAINED:
        raise SdlabError(
            f"no run of {method!r} with {num_questions} problems seen {exposures} times each; the grid has "
            f"{', '.join(TRAINED)} with {', '.join(f'{n} x {e}' for n, e in GRID)}"
        )
    return f"seen_{method}_{num_questions}_{exposures}"


def _cell(method: str, num_questions: int, exposures: int) -> Condition:
    label, loop, config = METHODS[method]
    steps = num_questions * exposures // BATCH
    return Condition(
        exposures_name(method, num_questions, exposures),
        f"{label}, {num_questions} problems seen {exposures} times",
        loop,
        # The warmup fits into the shortest run.
        replace(config, steps=steps, warmup_steps=2, num_problems=BATCH),
        replace(PLAN, num_questions=num_questions),
        series=f"{method}_seen_{exposures}",
    )


SEEN = {
    exposures_name(method, num_questions, exposures): _cell(method, num_questions, exposures)
    for method in TRAINED
    for num_questions, exposures in GRID
}
