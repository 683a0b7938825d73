"""Short trainings from the same start, compared on the same problems: "what if one thing were different?"."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.findings.before_after import Changes, changes_by_test
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.evaluation_sets import evaluate_tests
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import Engine, SamplingParams, TrainableEngine
from sdlab.train.config import TrainConfig
from sdlab.world.problems import Problem

UNTRAINED = "untrained"
Config = TypeVar("Config", bound=TrainConfig)


class Trials:
    """Trainings of one model by name, each evaluated on `tests` with the same random numbers.

    `frame` has the rows of `evaluate` for the untrained model and every trial, with a column `trial`; `logs`
    has the steps of each trial.
    """

    def __init__(self, model: str, tests: Mapping[str, Sequence[Problem]], params: SamplingParams) -> None:
        self.model, self.tests, self.params = model, tests, params
        self.logs: dict[str, pandas.DataFrame] = {}
        self.frame = pandas.DataFrame()
        self.add(UNTRAINED, load_engine(model))

    def add(self, name: str, engine: Engine) -> None:
        """Evaluate a model as the trial `name`."""
        rows = evaluate_tests(engine, self.tests, self.params).assign(trial=name)
        self.frame = pandas.concat([self.frame, rows], ignore_index=True)

    def train(
        self,
        name: str,
        loop: Callable[..., pandas.DataFrame],
        problems: Sequence[Problem],
        *settings: Any,
        **callbacks: Any,
    ) -> TrainableEngine:
        """Train a fresh copy of the model, evaluate it, and return it.

        The training is `loop(engine, problems, *settings, **callbacks)`.

        Raises SdlabError when there is a trial of this name, and as the loop.
        """
        if name in self.logs or name == UNTRAINED:
            raise SdlabError(f"there is a trial {name!r} already; choose another name")
        engine = load_engine(self.model)
        self.logs[name] = loop(engine, problems, *settings, **callbacks)
        self.add(name, engine)
        return engine

    def changes(self, name: str) -> Changes:
        """Return the changes of a trial against the untrained model, by test and metric."""
        before, after = (self.frame[self.frame["trial"] == one] for one in (UNTRAINED, name))
        return changes_by_test(before, after)

    def rows(self, name: str, split: str) -> pandas.DataFrame:
        """Return the completions of one trial on one test.

        Raises SdlabError for a name that is not known.
        """
        if name not in set(self.frame["trial"]):
            raise unknown("trial", name, list(dict.fromkeys(self.frame["trial"])))
        return self.frame[(self.frame["trial"] == name) & (self.frame["split"] == split)]

    def change(
        self, name: str, metric: str = "reward", split: str = "in-domain", against: str = UNTRAINED
    ) -> Comparison:
        """Return a metric of one trial minus that of another, paired by problem."""
        return compare(self.rows(against, split), self.rows(name, split), metric, names=(against, name))

    def sentences(
        self,
        metrics: Iterable[str] = ("reward", "markers"),
        split: str = "in-domain",
        against: str = UNTRAINED,
    ) -> list[str]:
        """Return one sentence for every other trial and each metric: the difference with its interval."""
        names = [name for name in dict.fromkeys(self.frame["trial"]) if name not in (UNTRAINED, against)]
        return [
            f"{split}, {self.change(name, metric, split, against).sentence}"
            for name in names
            for metric in metrics
        ]


# A few steps of few problems: enough to show a method at work, not to settle anything.
SHORT = {
    "smoke": {"steps": 2, "num_problems": 4, "num_generations": 4},
    "quick": {"steps": 8, "num_problems": 8, "num_generations": 8},
    "full": {"steps": 40, "num_problems": 16, "num_generations": 8},
}


def short(kind: type[Config], preset: str, **changes: Any) -> Config:
    """Return settings of a short training of the given kind, for example SDPOConfig, with `changes`.

    Raises SdlabError when there is no preset of this name, and for a value that is not allowed.
    """
    if preset not in SHORT:
        raise unknown("preset", preset, SHORT)
    settings: dict[str, Any] = {"warmup_steps": 2} | SHORT[preset] | changes
    return kind(**settings)
