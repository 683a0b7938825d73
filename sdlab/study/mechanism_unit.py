"""Measure one model for the recorded study of mechanisms: probes, readouts, and interventions."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas

from sdlab.files import to_json
from sdlab.measure.interventions import doubt_direction
from sdlab.measure.ladder import AS_IT_IS, Rung, climb, insertions, problem_sums, removals, returns
from sdlab.measure.nudges import nudged, second_looks
from sdlab.measure.places import Places, belief_places, forced_traces
from sdlab.measure.probes import ProbeScore
from sdlab.measure.readouts import NEAR, fact_readouts, marker_readouts, probe_scores
from sdlab.measure.residuals import blocks, residuals
from sdlab.rollout.loading import load_engine
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int
from sdlab.settings import Count, check_settings
from sdlab.world.knobs import Knobs
from sdlab.world.problems import Problem
from sdlab.world.splits import load_split

BASE = "base"
SPLITS = (NEAR, "unseen-types")
DOUBTFUL = 1.0  # bits of the belief's entropy above which a place counts as doubtful
LOSES_DOUBT = ("sdpo", "sdpo_no_think")  # conditions on which interventions try to bring doubt back
PROBES, READOUTS, INTERVENTIONS = "probes.json", "readouts.csv", "interventions.csv"


@dataclass(frozen=True)
class Sizes:
    """The sizes of the study, per split.

    probe_problems: one forced trace each. ladder_problems: other problems, for interventions. doses: of
    steering, in lengths of the difference of means; steering is tried at the last two layers.
    """

    probe_problems: Count = 200
    ladder_problems: Count = 48
    num_generations: Count = 4
    doses: tuple[float, ...] = (0.25, 0.5, 0.75)
    max_completion_length: Count = 256

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Bench:
    """What all models of one organism are measured with: problems, places, and the organism's residuals."""

    base: TorchEngine
    sizes: Sizes
    ladder: Mapping[str, list[Problem]]
    places: Mapping[str, Places]
    states: Mapping[str, dict[int, np.ndarray]]

    @classmethod
    def of(cls, organism: str, sizes: Sizes) -> "Bench":
        """Load an organism and read its residuals at forced traces."""
        base = load_engine(organism, device="cpu", dtype="float32")
        knobs, asked = Knobs.of(base.model.config), sizes.probe_problems
        problems = {split: load_split(split, limit=asked + sizes.ladder_problems) for split in SPLITS}
        places = {
            split: belief_places(
                base.tokenizer, some[:asked], forced_traces(some[:asked], knobs=knobs), knobs=knobs
            )
            for split, some in problems.items()
        }
        states = {split: residuals(base, here) for split, here in places.items()}
        return cls(base, sizes, {split: some[asked:] for split, some in problems.items()}, places, states)

    def directions(self) -> dict[int, np.ndarray]:
        """Return the direction of doubt of the organism at its last two layers: layer -> (d,)."""
        doubtful = self.places[NEAR].frame["entropy"].to_numpy() > DOUBTFUL
        last = len(blocks(self.base.model))
        return {
            layer: doubt_direction(self.states[NEAR][layer], doubtful) for layer in (last - 1, last) if layer
        }

    def params(self, split: str) -> SamplingParams:
        """Return the sampling of a split; all models get the same random numbers."""
        seed = stable_int("mechanism", split) % 2**31
        return SamplingParams(self.sizes.num_generations, self.sizes.max_completion_length, seed=seed)


def measure_model(
    organism: str, condition: str, model: str, sizes: Sizes, seed: int | None = None
) -> dict[str, str]:
    """Return the files of one measured model: name -> content.

    organism: the model before training. condition: BASE for the organism itself. model: the folder of the
    trained model. seed: its training seed, which also draws the random direction it is steered along: one
    direction for all seeds would make one chance look like a law.
    """
    bench, base = Bench.of(organism, sizes), condition == BASE
    engine = bench.base if base else load_engine(model, device="cpu", dtype="float32")
    states = {
        split: bench.states[split] if base else residuals(engine, here)
        for split, here in bench.places.items()
    }
    scores = probe_scores(states, bench.places, None if base else bench.states)
    return {
        PROBES: to_json([scored(*one) for one in scores]) + "\n",
        READOUTS: _csv(_readouts(bench, engine, None if base else bench.base)),
        INTERVENTIONS: _csv(_interventions(bench, engine, condition, seed)),
    }


def scored(split: str, probe: str, score: ProbeScore) -> dict:
    """Return a probe's score as JSON values."""
    values = {name: value for name, value in vars(score).items() if name != "parts"}
    parts = {"problems": list(score.parts.index), "parts": [round(x, 8) for x in score.parts.tolist()]}
    return {"split": split, "probe": probe, **values, **parts}


def _readouts(bench: Bench, engine: TorchEngine, before: TorchEngine | None) -> pandas.DataFrame:
    tables = []
    for split, here in bench.places.items():
        tables.append(marker_readouts(engine, before, here).assign(split=split))
        problems, params = bench.ladder[split], bench.params(split)
        rows = climb(bench.base, problems, params, _plain())
        looks = second_looks(nudged(bench.base, rows, problems, 12), problems)
        if len(looks):
            tables.append(fact_readouts(engine, looks, problems).assign(split=split))
    return pandas.concat(tables, ignore_index=True)


def _interventions(bench: Bench, engine: TorchEngine, condition: str, seed: int | None) -> pandas.DataFrame:
    directions, doses, tables = bench.directions(), bench.sizes.doses, []
    for split, problems in bench.ladder.items():
        params, rungs = bench.params(split), _plain()
        if condition == BASE:
            rungs = removals(engine, directions, doses)
        elif condition in LOSES_DOUBT:
            rungs = returns(engine, bench.base, directions, doses, stable_int("random direction", seed))
        rows = climb(engine, problems, params, rungs)
        if condition == BASE or condition in LOSES_DOUBT:
            own = rows[rows["intervention"] == AS_IT_IS].reset_index(drop=True)
            rows = pandas.concat([rows, insertions(engine, own, problems, params)], ignore_index=True)
        tables.append(problem_sums(rows).assign(split=split))
    return pandas.concat(tables, ignore_index=True)


def _plain() -> list[Rung]:
    from contextlib import nullcontext

    return [Rung(AS_IT_IS, nullcontext)]


def _csv(table: pandas.DataFrame) -> str:
    text = io.StringIO()
    table.to_csv(text, index=False, float_format="%.6g")
    return text.getvalue()
