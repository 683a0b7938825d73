"""The plan of a training run: its problems, from a split of the world or a file, and its evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from sdlab.benchmarks.problems import READING, ProblemSource
from sdlab.errors import SdlabError
from sdlab.runs.questions import CANDIDATES, training_questions
from sdlab.seeds import stream
from sdlab.settings import Count, CountOrZero, OneOf, Range, check_settings, unused
from sdlab.world.problems import Problem
from sdlab.world.splits import SEEDS, SPLITS, TRAINING, load_split, split_size

TRACES = ("unguided", "guided")
Split = Annotated[str, OneOf("split", SPLITS)]
PROBLEM_SETTINGS = ("problems", "test_problems", *READING)
ON_SPLITS = (
    "split", "num_types", "candidates", "eval_splits", "final_splits", "eval_seed", "commitments",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The problems of training and of the evaluations; the method's own settings are in its config.

    Raises SdlabError for values that are not allowed, and when a split that is evaluated has fewer than
    `final_problems` or `eval_problems` problems.
    """

    split: Split = "train"
    num_questions: Count | None = None  # so many of the split, chosen by the run's seed; None: all
    num_types: Count | None = None  # only questions of so many types, chosen by the run's seed; None: all
    candidates: Annotated[str, OneOf("choice of candidates", CANDIDATES)] = "any"
    """Only hunts with few or with many numbers to look through."""
    traces: Annotated[str, OneOf("kind of traces", TRACES)] = "unguided"
    """SFT only: written without or with the solution in view."""
    num_traces: Count = 800  # SFT only
    eval_splits: tuple[Split, ...] = ("in-domain", "unseen-types")
    eval_every: CountOrZero = 10  # steps; 0: only at the end
    eval_problems: Count = 64
    final_splits: tuple[Split, ...] = ("in-domain", "unseen-types", "deeper")
    final_problems: Count = 256
    num_eval_generations: Count = 8
    eval_seed: Annotated[int, Range(0, SEEDS - 1)] = 0
    """Which problems of the splits are evaluated; all reported results are on those of 0."""
    commitments: bool = False
    """Count unhedged commitments and hedged proposals in every evaluation (number hunts)."""
    problems: str | None = None
    """Train on these instead of a split: a file, a data set of the hub (org/dataset:split), a benchmark."""
    test_problems: str | None = None
    """Evaluate on these, from another file; None: on the problems of the training."""
    question_column: str | None = None
    """Column of the questions in the files; None: prompt, question or problem."""
    answer_column: str | None = None
    """Column of the answers in the files; None: answer, ground_truth or solution."""
    instruction: str | None = None
    """Line after each question; None: to answer within a box, unless the question asks for a format."""
    system: str | None = None
    """Text before each question."""
    few_shot: str | None = None
    """File of solved problems that come before each question."""
    chat_template: str | None = None
    """"plain" for a base model, or a file with a jinja template; None: the model's own."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("test_problems", *READING):
            unused(self, name, self.problems is not None, "problems")
        if self.problems is not None:
            for name in ON_SPLITS:
                unused(self, name, False, "a run on a split of the world, without problems")
            return
        _check_sizes("final_problems", self.final_problems, self.final_splits)
        if self.eval_every:
            _check_sizes("eval_problems", self.eval_problems, self.eval_splits)
        if self.eval_seed and "kata" in (*self.final_splits, *(self.eval_splits if self.eval_every else ())):
            raise SdlabError(
                f"eval_seed={self.eval_seed} is not allowed with split 'kata', which has the same tasks for "
                "every seed; leave eval_seed out, or evaluate on other splits"
            )

    def evaluated(self, final: bool) -> tuple[str, ...]:
        """Return the names of what is evaluated, during training or at the end.

        A run on a file is evaluated on the file test_problems, or on its own training problems.
        """
        if self.problems is None:
            return self.final_splits if final else self.eval_splits
        test = self.source(test=True)
        return (TRAINING if test is None else test.label,)

    def source(self, test: bool = False) -> ProblemSource | None:
        """Return the source of the training problems, or of the test problems; None where there is none."""
        name = self.test_problems if test else self.problems
        return None if name is None else ProblemSource(name, **{key: getattr(self, key) for key in READING})

    def record(self) -> dict | None:
        """Return what identifies the files of the plan: names and checksums; None for a run on a split.

        Raises SdlabError when a file is missing.
        """
        sources = {"train": self.source(), "test": self.source(test=True)}
        return {role: one.record() for role, one in sources.items() if one is not None} or None


def plan_problems(plan: Plan, seed: int) -> list[Problem]:
    """Return the training problems of a plan; the seed chooses num_questions of them.

    Raises SdlabError when they cannot be read, have no answers, or are fewer than num_questions.
    """
    source = plan.source()
    if source is None:
        return training_questions(plan.split, plan.num_questions, plan.num_types, seed, plan.candidates)
    return choose_problems(source.load(), plan.num_questions, source.label, seed)


def evaluation_problems(plan: Plan, name: str, count: int, seed: int) -> list[Problem]:
    """Return the first `count` problems of a split or a file that `Plan.evaluated` names.

    A file with fewer problems gives all of them.
    """
    if plan.problems is None:
        return load_split(name, plan.eval_seed, limit=count)
    test = plan.source(test=True)
    return (plan_problems(plan, seed) if test is None else graded(test.load(), test.label))[:count]


def choose_problems(problems: Sequence[Problem], count: int | None, name: str, seed: int) -> list[Problem]:
    """Return `count` of the problems, chosen by the seed; all, in their order, for None.

    Raises SdlabError when there are fewer, and when one has no answer.
    """
    problems = graded(problems, name)
    if count is None:
        return problems
    if not 1 <= count <= len(problems):
        raise SdlabError(
            f"num_questions={count} is not allowed; {name} has {len(problems)}, choose 1 to {len(problems)}"
        )
    stream("questions", name, seed).shuffle(problems)
    return problems[:count]


def graded(problems: Sequence[Problem], name: str) -> list[Problem]:
    """Return the problems as a list; raise SdlabError when one has no answer."""
    if any(not problem.answer for problem in problems):
        raise SdlabError(
            f"{name} has problems without an answer, so no completion can be graded; train on other data"
        )
    return list(problems)


def _check_sizes(name: str, count: int, splits: Sequence[str]) -> None:
    """Raise SdlabError when one of `splits` has fewer than `count` problems."""
    for split in splits:
        if count > split_size(split):
            raise SdlabError(
                f"{name}={count} is not allowed with split {split!r}; it has {split_size(split)} problems; "
                "choose fewer problems, or leave the split out"
            )
