"""Which recorded runs failed, when, and by which method they were trained.

A run fails when it loses score on problems of types that it was not trained on, or when it ends in degenerate
repetition. `sdlab.study.alarm` asks which measure of a run's steps warned of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.intervals import Interval
from sdlab.measure.shares import share_difference
from sdlab.settings import OneOf, Positive, Range, check_settings
from sdlab.study.recorded import Recorded
from sdlab.text.prompt import CONTEXT_LABELS
from sdlab.world.splits import SPLITS

RUN = ["condition", "seed"]
SUMS = ["reward", "markers", "generations"]
# settings that make another method of the same loss; sizes and learning rates do not
METHOD_SETTINGS = {"context": "solution", "teacher_model_kind": "base"}
WORDS = CONTEXT_LABELS | {"ema": "moving teacher", "solution_feedback": "solution and feedback"}


@dataclass(frozen=True)
class Failure:
    """What counts as a failed run, judged by its evaluation on `split`.

    The default: the score is below that of the untrained model on the same problems, and the 95% interval of
    the difference (Student's t by problem, one run) excludes 0. With `below` the run fails instead when its
    score is below this share. In both cases it also fails when its markers per completion are more than
    `repetition` times those of the untrained model without a higher score (the interval includes 0): then the
    model repeats itself.
    Raises SdlabError for a value outside its range.
    """

    split: Annotated[str, OneOf("split", SPLITS)] = "unseen-types"
    below: Annotated[float, Range(above=0, most=1)] | None = None
    repetition: Positive = 3.0

    def __post_init__(self) -> None:
        check_settings(self)

    def reason(self, score: float, difference: Interval, times: float) -> str:
        """Return why a run failed: "score", "repetition", or "" for a healthy run.

        difference: the score minus that of the untrained model. times: the markers per completion divided by
        those of the untrained model, nan where the untrained model has none.
        """
        fallen = difference.high < 0 if self.below is None else score < self.below
        repeats = times > self.repetition and not difference.low > 0
        return "score" if fallen else "repetition" if repeats else ""


def outcomes(
    recorded: Recorded, failure: Failure = Failure(), methods: Mapping[str, str] | None = None
) -> pandas.DataFrame:
    """Return one row per trained run that was evaluated on `failure.split`, with its outcome.

    methods: condition -> name of its method; by default `method_of`.

    Columns: condition, seed, method, score, base (the score of the untrained model on the same problems),
    difference with low and high, times (markers per completion divided by the untrained model's), reason,
    failed, last_healthy (the last evaluated step before the run counts as failed, 0 when there is none) and
    first_failed (the first evaluated step at which it does; nan for a healthy run). A run that recovers is
    healthy. `attrs["left_out"]` has the number of trained runs without such an evaluation.

    Raises SdlabError when nothing was evaluated there, and when a run has no untrained model to compare with.
    """
    about = recorded.provenance
    trained = [name for name, what in about.items() if what["method"] != "base"]
    table = recorded.evaluations[recorded.evaluations["split"] == failure.split]
    mine = table[table["condition"].isin(trained)]
    if mine.empty:
        raise SdlabError(
            f"no trained run was evaluated on {failure.split!r}; splits here are "
            f"{', '.join(sorted(recorded.evaluations['split'].unique()))}; choose one of them"
        )
    bases = {name: _untrained(recorded, table, name) for name in dict.fromkeys(mine["condition"])}
    rows = []
    for name, seed in mine[RUN].drop_duplicates().itertuples(index=False, name=None):
        run = mine[(mine["condition"] == name) & (mine["seed"] == seed)]
        verdicts = {
            step: _verdict(run[run["step"] == step].set_index("problem_id")[SUMS], bases[name], failure)
            for step in sorted(set(run["step"].tolist()) - {0})
        }
        rows.append(
            {"condition": name, "seed": seed, "method": (methods or {}).get(name) or method_of(about[name])}
            | verdicts[max(verdicts)]
            | _times(verdicts)
        )
    frame = pandas.DataFrame(rows)
    everything = recorded.steps[recorded.steps["condition"].isin(trained)].groupby(RUN).ngroups
    frame.attrs["left_out"] = everything - len(frame)
    return frame


def method_of(about: Mapping) -> str:
    """Return the name of a condition's method from its provenance.

    It is the method, or the repair's name, with those of METHOD_SETTINGS that differ from their defaults, in
    words. So runs with other sizes, seeds or learning rates have the same name, and so has the repair "sdpo",
    which equals SDPO.
    """
    settings = [str(about["config"].get(name, usual)) for name, usual in METHOD_SETTINGS.items()]
    changed = [
        WORDS.get(value, value)
        for value, usual in zip(settings, METHOD_SETTINGS.values(), strict=True)
        if value != usual
    ]
    traces = [about["plan"]["traces"]] if about["method"] == "sft" else []
    return ", ".join([about["config"].get("repair") or about["method"], *traces, *changed])


def _untrained(recorded: Recorded, table: pandas.DataFrame, name: str) -> pandas.DataFrame:
    """Return the sums per problem of the model that a condition trained, before training."""
    about = recorded.provenance

    def origin(one: Mapping) -> tuple:
        run = next(iter(one["runs"].values()))
        return run["model_sha256"], one["config"].get("thinking", True)

    same = [
        other
        for other, what in about.items()
        if what["method"] == "base" and origin(what) == origin(about[name])
    ]
    rows = table[table["condition"].isin(same)]
    if rows.empty:
        rows = table[(table["condition"] == name) & (table["step"] == 0)]
    if rows.empty:
        raise SdlabError(
            f"condition {name!r} has no evaluation of its untrained model on the same split; "
            "load the recorded condition of the untrained model too (such as 'base'), or leave this one out"
        )
    return rows.groupby("problem_id")[SUMS].sum()


def _verdict(run: pandas.DataFrame, base: pandas.DataFrame, failure: Failure) -> dict:
    common = run.index.intersection(base.index)
    if common.empty:
        raise SdlabError(
            "a run and its untrained model have no problem in common; evaluate both on the same problems"
        )
    run, base = run.loc[common], base.loc[common]
    difference = share_difference(base["reward"], base["generations"], run["reward"], run["generations"])
    score, untrained = (one["reward"].sum() / one["generations"].sum() for one in (run, base))
    after, before = (one["markers"].sum() / one["generations"].sum() for one in (run, base))
    times = after / before if before else math.nan
    reason = failure.reason(score, difference, times)
    return {
        "score": score, "base": untrained, "difference": difference.mean, "low": difference.low,
        "high": difference.high, "times": times, "reason": reason, "failed": bool(reason),
    }  # fmt: skip


def _times(verdicts: Mapping[int, dict]) -> dict:
    """Return when the run failed for good: the last healthy and the first failed evaluation."""
    steps = sorted(verdicts)
    healthy = [step for step in steps if not verdicts[step]["failed"]]
    last = max(healthy, default=0)
    return {
        "last_healthy": last,
        "first_failed": float(next((step for step in steps if step > last), math.nan)),
    }


def counts(frame: pandas.DataFrame, by: Sequence[str] = ("method",)) -> pandas.DataFrame:
    """Return the number of runs and of failed runs by group: by..., runs, failed."""
    groups = frame.groupby(list(by), sort=False)["failed"]
    return groups.agg(runs="size", failed="sum").reset_index()
