"""A ladder of interventions on one model: take its doubt away, or bring the doubt back, and grade the result.

`removals` are for the untrained model. Words of doubt and checks are taken away separately, so a table shows
which of the two the score needs. `returns` are for a model that lost its doubt: steering with doses, weights
of the untrained model's blocks, and words inserted into its own completions.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.measure.continuations import compare_interventions, continue_from, count_checks, insert_at
from sdlab.measure.interventions import NEUTRAL, ban, patch_layers, replace, steer
from sdlab.measure.nudges import nudged
from sdlab.measure.residuals import blocks
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.text.markers import MARKERS, total_markers
from sdlab.world.problems import Problem

AS_IT_IS = "as it is"
STEER, RANDOM, PATCH, PATCH_ALL = (
    "steer",
    "steer, random direction",
    "block of the base",
    "all blocks of the base",
)
NO_WORDS, NO_CHECKS, NEITHER = "no words of doubt", "no checks", "neither"
NEUTRAL_WORDS = "neutral words"
# what is inserted after the first "A:" of a completion: a word, a check, or both
INSERTIONS = {
    "insert nothing": "",
    "insert a word": " Hmm.",
    "insert a check": " Try",
    "insert both": " Maybe",
}
NUDGES = {"one nudge": 1, "a nudge at every guess": 12}
CHECKING = ("check", "test")  # words that open a check
SUMS = ("reward", "markers", "checks", "length")


@dataclass(frozen=True)
class Rung:
    """One intervention: its name, its layer and dose where it has them, and how to enter it."""

    name: str
    enter: Callable[[], AbstractContextManager]
    layer: int | None = None
    dose: float | None = None


def removals(engine: TorchEngine, directions: Mapping[int, np.ndarray], doses: Sequence[float]) -> list[Rung]:
    """Return the interventions that take doubt away from a model.

    directions: layer -> (d,), from less to more doubt (`doubt_direction`); steering uses negative doses.
    """
    model, tokenizer = engine.model, engine.tokenizer
    doubts = [word for word in MARKERS if word not in CHECKING]
    return [
        Rung(AS_IT_IS, nullcontext),
        Rung(NEUTRAL_WORDS, lambda: replace(model, tokenizer, NEUTRAL)),
        Rung(NO_WORDS, lambda: ban(model, tokenizer, doubts)),
        Rung(NO_CHECKS, lambda: ban(model, tokenizer, CHECKING)),
        Rung(NEITHER, lambda: ban(model, tokenizer, [*doubts, *CHECKING])),
        *_steering(engine, directions, [-dose for dose in doses]),
    ]


def returns(
    engine: TorchEngine,
    base: TorchEngine,
    directions: Mapping[int, np.ndarray],
    doses: Sequence[float],
    seed: int = 0,
) -> list[Rung]:
    """Return the interventions that may give doubt back to a trained model, without those that change texts.

    base: the model before training. directions as in `removals`; each dose is also tried with a random
    direction of the same length, which shows what any push of this size does.
    """
    model, count = engine.model, len(blocks(engine.model))
    rng = np.random.default_rng(seed)
    chance = {
        layer: (draw := rng.normal(size=vector.shape)) * np.linalg.norm(vector) / np.linalg.norm(draw)
        for layer, vector in directions.items()
    }
    return [
        Rung(AS_IT_IS, nullcontext),
        *_steering(engine, directions, doses),
        *_steering(engine, chance, doses, RANDOM),
        *(
            Rung(PATCH, lambda k=k: patch_layers(model, base.model, [k]), layer=k)
            for k in range(1, count + 1)
        ),
        Rung(PATCH_ALL, lambda: patch_layers(model, base.model, range(1, count + 1))),
    ]


def _steering(engine, directions, doses, name=STEER) -> list[Rung]:
    return [
        Rung(name, lambda v=vector, k=layer, d=dose: steer(engine.model, v, k, d), layer, dose)
        for layer, vector in directions.items()
        for dose in doses
    ]


def climb(
    engine: TorchEngine, problems: Sequence[Problem], params: SamplingParams, rungs: Sequence[Rung]
) -> pandas.DataFrame:
    """Evaluate a model under each intervention with the same random numbers; one row per completion.

    Columns: intervention, layer, dose (nan where there is none), and those of `compare_interventions`.
    """
    tables = []
    for rung in rungs:
        table = compare_interventions(engine, problems, params, {rung.name: rung.enter})
        tables.append(table.assign(layer=_number(rung.layer), dose=_number(rung.dose)))
    return pandas.concat(tables, ignore_index=True)


def insertions(
    engine: TorchEngine, rows: pandas.DataFrame, problems: Sequence[Problem], params: SamplingParams
) -> pandas.DataFrame:
    """Return the completions `rows` written again after an insertion (INSERTIONS, NUDGES), as `climb` does.

    rows: completions of the model itself (`evaluate`). Words are inserted after the first colon, where the
    first hidden number begins, and the model continues from there; a text without a colon begins with them. A
    nudge is inserted after a guess (`sdlab.measure.nudges`). Markers, checks and length are those of the
    whole text.

    Raises SdlabError when a problem is not a number hunt.
    """
    by_id = {problem.id: problem for problem in problems}
    asked = [by_id[name] for name in rows["problem_id"]]
    once = SamplingParams(1, params.max_completion_length, params.temperature, seed=params.seed)
    tables = []
    for name, words in INSERTIONS.items():
        starts = [insert_at(text, text.find(":") + 1, words) for text in rows["completion"]]
        written = continue_from(engine, asked, starts, once)
        columns = {column: written[column].to_numpy() for column in ("completion", "reward")}
        tables.append(rows.assign(intervention=name, **columns))
    for name, rounds in NUDGES.items():
        tables.append(nudged(engine, rows, problems, rounds).assign(intervention=name))
    table = pandas.concat(tables, ignore_index=True)
    texts = table["completion"].tolist()
    lengths = [len(ids) for ids in engine.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return table.assign(
        markers=[total_markers(text) for text in texts], checks=[count_checks(text) for text in texts],
        length=lengths, layer=np.nan, dose=np.nan,
    )  # fmt: skip


def problem_sums(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return the sums of SUMS of rows of `climb`, and the number of completions, by problem.

    Columns: intervention, layer, dose, problem_id, generations, and SUMS.
    """
    keys = ["intervention", "layer", "dose", "problem_id"]
    groups = table.groupby(keys, sort=False, dropna=False)
    sums = groups[list(SUMS)].sum().astype(float)
    return groups.size().rename("generations").to_frame().join(sums).reset_index()


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
