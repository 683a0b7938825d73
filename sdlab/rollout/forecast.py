"""How long work with a model will take, measured on a few short completions before it begins."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sdlab.rollout.types import Engine, TrainableEngine

SMALL = 20_000_000  # parameters up to which a model is of the organism's kind, and needs no forecast
# Rows and tokens of the trials: the next one runs where the one before was faster than ENOUGH seconds.
TRIALS = ((2, 2), (8, 8), (32, 16))
ENOUGH = 2.0


@dataclass(frozen=True)
class Speed:
    """Seconds that a model takes for a token: to sample it, and to score it with its prompt."""

    sampled: float
    scored: float
    bytes: int | None = None  # memory of sampling; None where the engine manages its own

    def sampling(self, rows: int, limit: int) -> float:
        """Return the seconds of sampling `rows` completions that all reach `limit` tokens."""
        return rows * limit * self.sampled

    def sentence(self, rows: int, limit: int) -> str:
        """Return a forecast of sampling: its longest time, the speed and the memory."""
        memory = "" if self.bytes is None else f"; about {self.bytes / 2**30:.1f} GiB of memory"
        return (
            f"{rows:,} completions take about {clock(self.sampling(rows, limit))} if all reach the limit of "
            f"{limit:,} tokens ({1 / self.sampled:,.0f} tokens per second in a trial){memory}"
        )


def needs_forecast(engine: "Engine") -> bool:
    """Return whether work with this model may take long: it is larger than an organism."""
    if not engine.trains:
        return True
    return sum(p.numel() for p in cast("TrainableEngine", engine).model.parameters()) > SMALL


def measured_speed(
    engine: "Engine",
    prompts: Sequence[str],
    rows: int,
    limit: int,
    now: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Measure the speed of a model on the first prompts; the trials take a few seconds.

    prompts: rendered. rows, limit: of the work to come, for its memory. now: the clock.
    """
    from sdlab.rollout.memory import sampling_bytes  # with torch, which no help page should load
    from sdlab.rollout.types import SamplingParams

    sampled = scored = 0.0
    for count, tokens in TRIALS:
        few = [prompts[i % len(prompts)] for i in range(min(count, rows))]
        params = SamplingParams(1, min(tokens, limit))
        began = now()
        rollouts = engine.generate(few, params)
        seconds = now() - began
        written = max(1, int(rollouts.lengths.sum()))
        sampled = seconds / written
        began = now()
        engine.score(few, rollouts.completions())
        scored = (now() - began) / (written + sum(map(len, rollouts.prompt_ids)))
        if seconds > ENOUGH or count >= rows:
            break
    longest = max(map(len, engine.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]))
    model = cast("TrainableEngine", engine).model if engine.trains else None
    memory = None if model is None else sampling_bytes(model, rows, longest + limit)
    return Speed(sampled, scored, memory)


def clock(seconds: float) -> str:
    """Return a duration in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
