"""How long work with a model will take, measured on a few short completions before it begins."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sdlab.rollout.types import Engine, TrainableEngine

SMALL = 20_000_000  # parameters up to which a model is of the organism's kind, and needs no forecast
# Rows and tokens of the trials, and the seconds of the one before up to which a trial runs. The first trial
# warms up; it counts only where a model is too slow for a second one.
TRIALS = ((2, 2, 0.0), (8, 8, 20.0), (32, 16, 2.0))


@dataclass(frozen=True)
class Speed:
    """Seconds that a model takes for a token: to sample it, and to score it or read it in a prompt."""

    sampled: float
    scored: float
    bytes: int | None = None  # memory of sampling; None where the engine manages its own
    prompt: float = 0.0  # tokens of a prompt, on average

    @property
    def rate(self) -> str:
        """Return the speed of sampling in words: "74 tokens per second", "0.3 tokens per second"."""
        rate = 1 / self.sampled
        return f"{rate:,.0f} tokens per second" if rate >= 10 else f"{rate:.1f} tokens per second"

    def sampling(self, rows: int, limit: int, prompts: int = 0) -> float:
        """Return the seconds of sampling `rows` completions that all reach `limit` tokens.

        prompts: how many different prompts are read for them.
        """
        return rows * limit * self.sampled + prompts * self.prompt * self.scored

    def sentence(self, rows: int, limit: int, prompts: int = 0) -> str:
        """Return a forecast of sampling: its longest time, the speed and the memory."""
        memory = "" if self.bytes is None else f"; about {self.bytes / 2**30:.1f} GiB of memory"
        seconds = self.sampling(rows, limit, prompts)
        return (
            f"{rows:,} completions take about {clock(seconds)} if all reach the limit of "
            f"{limit:,} tokens ({self.rate} in a trial){memory}"
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
    """Measure the speed of a model on the first prompt; the trials take a few seconds.

    The time of reading the prompt is taken off, at the speed of scoring. A sampled token counts at least as
    much as one that is read.

    prompts: rendered. rows, limit: of the work to come, for its memory. now: the clock.
    """
    from sdlab.rollout.memory import sampling_bytes  # with torch, which no help page should load
    from sdlab.rollout.types import SamplingParams

    first = list(prompts[:1])
    sampled = scored = seconds = 0.0
    tried = 0
    for count, tokens, most in TRIALS:
        if seconds > most or tried >= rows:
            break
        tried = min(count, rows)
        began = now()
        rollouts = engine.generate(first, SamplingParams(tried, min(tokens, limit)))
        seconds = now() - began
        completions, ids = rollouts.completions(), rollouts.prompt_ids[0]
        began = now()
        engine.score(first, completions[:1])
        scored = (now() - began) / (len(ids) + max(1, len(completions[0])))
        written = max(1, int(rollouts.lengths.sum()))
        sampled = max(scored, (seconds - len(ids) * scored) / written)
    lengths = [len(ids) for ids in engine.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]
    model = cast("TrainableEngine", engine).model if engine.trains else None
    memory = None if model is None else sampling_bytes(model, rows, max(lengths) + limit)
    return Speed(sampled, scored, memory, sum(lengths) / len(lengths))


def clock(seconds: float) -> str:
    """Return a duration in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
