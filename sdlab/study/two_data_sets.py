"""Table 2: SFT on right traces that were written without and with the solution in view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from sdlab.errors import SdlabError, unknown
from sdlab.measure.comparison import Comparison, compare
from sdlab.measure.crossed import Difference
from sdlab.measure.evaluation_sets import evaluate_tests
from sdlab.paper import TABLE_TWO
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import Engine, SamplingParams
from sdlab.seeds import stable_int
from sdlab.study.dissociation import Tables, relative_change
from sdlab.study.recorded import Recorded, load_recorded
from sdlab.text.markers import total_markers
from sdlab.train.sft import SFTConfig, Trace, run_sft
from sdlab.world.problems import Problem

CONDITIONS = ("base", "sft_unguided", "sft_guided")
TRAINED = CONDITIONS[1:]
SHOWN = ("reward", "length", "markers", "density")
LIVE_SPLITS = ("in-domain", "unseen-types")
SPLITS = (*LIVE_SPLITS, "deeper")


@dataclass(frozen=True)
class Sizes:
    """The sizes of the live study: traces in each data set, training steps, and test samples.

    `watched`: the problems that the training samples at every step, to show how it goes.
    """

    questions: int
    traces: int
    per_problem: int
    steps: int
    batch_size: int
    num_test: int
    num_samples: int
    watched: int = 8


SIZES = {
    "smoke": Sizes(16, 24, 2, steps=8, batch_size=16, num_test=12, num_samples=2, watched=2),
    "quick": Sizes(128, 384, 4, steps=24, batch_size=64, num_test=64, num_samples=4),
    "full": Sizes(1024, 800, 2, steps=38, batch_size=64, num_test=256, num_samples=8),
}


def sizes(preset: str) -> Sizes:
    """Return the sizes of a preset. Raises SdlabError when there is none of this name."""
    if preset not in SIZES:
        raise unknown("preset", preset, SIZES)
    return SIZES[preset]


def trace_frame(engine: Engine, data_sets: Mapping[str, Sequence[Trace]]) -> pandas.DataFrame:
    """Return the traces of data sets as rows like those of `evaluate`, every one of them right.

    `data_sets`: name -> traces; the name is in the column model.
    """
    tokenizer = engine.tokenizer
    return pandas.DataFrame([
        {
            "model": name, "problem_id": trace.problem.id, "completion": trace.completion, "reward": 1.0,
            "length": len(tokenizer(trace.completion, add_special_tokens=False)["input_ids"]),
            "markers": total_markers(trace.completion),
        }
        for name, traces in data_sets.items() for trace in traces
    ])  # fmt: skip


def evaluate_students(
    students: Mapping[str, Engine],
    tests: Mapping[str, Sequence[Problem]],
    num_samples: int,
    *,
    temperature: float = 1.0,
    max_completion_length: int = 256,
) -> pandas.DataFrame:
    """Return the completions of every student on every test split: rows of `evaluate` with a column model."""
    parts = []
    for name, student in students.items():
        seed = stable_int("two data sets", name)
        params = SamplingParams(num_samples, max_completion_length, temperature, seed=seed)
        parts.append(evaluate_tests(student, tests, params).assign(model=name))
    return pandas.concat(parts, ignore_index=True)


def train_student(model: str, traces: Sequence[Trace], size: Sizes) -> Engine:
    """Train a fresh copy of `model` on `traces` for the few steps of `size`, and return it.

    Raises SdlabError without traces, and when the model cannot be loaded.
    """
    student = load_engine(model)
    config = SFTConfig(
        steps=size.steps,
        batch_size=size.batch_size,
        warmup_steps=min(5, size.steps // 4),
        num_problems=1,
        num_generations=2,
    )
    run_sft(student, list({trace.problem.id: trace.problem for trace in traces}.values()), traces, config)
    return student


def load_recorded_sft() -> Recorded | None:
    """Return the recorded runs of Table 2, or None when they are not there."""
    try:
        return load_recorded(*CONDITIONS)
    except SdlabError:
        return None


def change_of_score(
    name: str, live: pandas.DataFrame, recorded: Recorded | None, split: str = "in-domain"
) -> Comparison | Difference:
    """Return the change of the score from base to `name`: of the recorded runs, or of the live run alone."""
    if recorded is not None:
        return recorded.difference("base", name, "reward", split)
    rows = live[live["split"] == split]
    return compare(rows[rows["model"] == "base"], rows[rows["model"] == name], names=("base", name))


def source_words(recorded: Recorded | None, changes: Mapping[str, Comparison | Difference]) -> str:
    """Return where the verdicts come from: the recorded seeds, or the live run's `changes` of the score."""
    if recorded is not None:
        return f"{recorded.steps['seed'].nunique()} seeds, intervals over seeds and problems"
    sentences = [change.sentence for change in changes.values() if isinstance(change, Comparison)]
    return "\n".join(["no recorded runs;", *sentences])


def recorded_table(recorded: Recorded, splits: Sequence[str] = SPLITS) -> pandas.DataFrame:
    """Return Table 2 of the recorded runs as text: a row per split and condition, with score changes."""
    rows = []
    for split in splits:
        for name in CONDITIONS:
            row = {"split": split, "model": name}
            row |= {metric: str(recorded.interval(name, metric, split)) for metric in SHOWN}
            change = "" if name == "base" else str(recorded.difference("base", name, "reward", split))
            rows.append(row | {"score minus base": change})
    return pandas.DataFrame(rows)


def recorded_scores(recorded: Recorded | None) -> dict[str, dict[str, dict[str, float]]] | None:
    """Return the recorded score of every condition on every split: mean, low, high; None without runs."""
    if recorded is None:
        return None
    return {
        name: {split: vars(recorded.interval(name, "reward", split)) for split in SPLITS}
        for name in CONDITIONS
    }


def relative_changes(live: pandas.DataFrame, recorded: Recorded | None) -> pandas.DataFrame:
    """Return changes of the score as shares of the base score: in the paper, recorded and live.

    Columns who, model, change, low, high; the paper has no intervals. A loss is at most everything.
    """
    theirs = TABLE_TWO / TABLE_TWO.loc["base"] - 1
    rows = [
        {"who": f"paper, {test}", "model": name, "change": theirs.loc[name, test]}
        for test in theirs.columns
        for name in TRAINED
    ]
    if recorded is not None:
        for split in SPLITS:
            tables = {name: recorded.table(name, "reward", split) for name in CONDITIONS}
            rows += _relative_rows(f"recorded, {split}", tables)
    for split in dict.fromkeys(live["split"]):
        tables = {name: _live_table(live, name, split) for name in CONDITIONS}
        rows += _relative_rows(f"live, {split}", tables)
    return pandas.DataFrame(rows)


def _relative_rows(who: str, tables: Mapping[str, Tables]) -> list[dict]:
    changes = {name: relative_change(tables["base"], tables[name]) for name in TRAINED}
    return [
        {"who": who, "model": name, "change": interval.mean, "low": interval.low, "high": interval.high}
        for name, interval in changes.items()
    ]


def _live_table(live: pandas.DataFrame, name: str, split: str) -> Tables:
    """Return the sums of scores and the numbers of completions, (1, P) each: the live run is one seed."""
    rows = live[(live["model"] == name) & (live["split"] == split)].groupby("problem_id")["reward"]
    return rows.sum().to_frame().T, rows.count().to_frame().T


def recovered_share(gain: Comparison, loss: Comparison) -> float | None:
    """Return which share of a loss a gain brings back; None when the loss is not significant."""
    if not loss.significant or loss.difference.mean >= 0:
        return None
    return gain.difference.mean / -loss.difference.mean
