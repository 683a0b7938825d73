"""Table 1: the same model on the same problems under four contexts (paper Section 3).

The problems are those that the base model sometimes solves: 1 to 4 right of 8 samples, as in the paper. The
samples that selected them are not used again, because a problem that was selected for a low rate scores too
low on the selecting samples. The paper does not say which samples its unguided row uses; ours are fresh.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas

from sdlab.errors import SdlabError
from sdlab.measure.evaluation import evaluate, first_right, select_by_base_rate
from sdlab.paper import sampling
from sdlab.rollout.forecast import clock, measured_speed, needs_forecast
from sdlab.rollout.types import Engine
from sdlab.settings import Count, Seed, checked
from sdlab.text.prompt import CONTEXT_LABELS, CONTEXTS, render_prompt, strip_thinking
from sdlab.text.templates import opens_thinking
from sdlab.world.problems import Problem

BASE_SAMPLES = 8  # per problem, to find its base pass rate
LOW, HIGH = 1 / 8, 1 / 2
PROBE = 16  # problems that are sampled first
HOPELESS = 128  # problems after which the search ends when none fits
VERDICTS = ("right", "readable")


@dataclass(frozen=True)
class Selection:
    """Problems of middle difficulty, each with a right completion of the base model."""

    problems: list[Problem]
    # the first right completion of each problem, with its thinking
    solutions: list[str]
    # all samples of the base model, of selected and other problems
    base: pandas.DataFrame


@checked
def select(
    engine: Engine,
    problems: Sequence[Problem],
    num_problems: Count,
    seed: Seed = 0,
    *,
    low: float = LOW,
    high: float = HIGH,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Selection:
    """Select problems with a base pass rate in [low, high] and a right completion, in order.

    Each problem is sampled 8 times, until `num_problems` are selected. The result may have fewer problems,
    when `problems` hold no more. The first PROBE problems are sampled before the others. note: called with
    sentences: for a model larger than an organism one before them, and one after them, on the time to come.

    Raises SdlabError when the first PROBE problems have no right completion and no readable answer, when the
    first HOPELESS problems have none that fits, and when `problems` hold no such problem.
    """
    chosen, solutions, frames = [], [], []
    if note is not None and needs_forecast(engine):
        few = problems[:PROBE]
        prompts = [render_prompt(engine.tokenizer, problem, thinking=thinking) for problem in few]
        rows = len(few) * BASE_SAMPLES
        speed = measured_speed(engine, prompts, rows, max_completion_length)
        note(f"the first {len(few)} problems: {speed.sentence(rows, max_completion_length, len(few))}")
    began = time.monotonic()
    step = max(PROBE, 2 * num_problems)
    for start, end in _chunks(len(problems), step):
        part = problems[start:end]
        inner = progress and (
            lambda done, total, before=start: progress(
                before * BASE_SAMPLES + done, len(problems) * BASE_SAMPLES
            )
        )
        frame = evaluate(
            engine,
            part,
            sampling(BASE_SAMPLES, seed, "base", max_completion_length),
            thinking=thinking,
            progress=inner,
        )
        frames.append(frame)
        middling = set(select_by_base_rate(frame, low, high))
        right = first_right(frame, opens_thinking(engine.tokenizer, thinking))
        for problem in part:
            if problem.id in middling and problem.id in right.index and len(chosen) < num_problems:
                chosen.append(problem)
                solutions.append(right[problem.id])
        if len(chosen) == num_problems and (end % step == 0 or end == len(problems)):
            break
        _check_hope(frames, len(chosen), end, low, high)
        if start == 0 and note is not None:
            note(_forecast(end, len(chosen), num_problems, len(problems), time.monotonic() - began))
    if not chosen:
        raise SdlabError(
            f"none of {len(problems)} problems has a base pass rate from {low} to {high} "
            f"({_counts(frames)}); give more or other problems"
        )
    return Selection(chosen, solutions, pandas.concat(frames, ignore_index=True))


def _chunks(count: int, step: int) -> list[tuple[int, int]]:
    """Return (start, end) of the parts in which problems are sampled; each step ends at a multiple of `step`.

    The parts of the first step grow, so that a model that solves nothing is recognised early.
    """
    doubling = []
    bound = PROBE
    while bound < min(step, count):
        doubling.append(bound)
        bound *= 2
    bounds = sorted({0, *doubling, *range(0, count, step), count})
    return list(pairwise(bounds))


def _check_hope(frames: list[pandas.DataFrame], chosen: int, sampled: int, low: float, high: float) -> None:
    """Raise SdlabError when sampling more problems is very unlikely to give one that fits."""
    if chosen:
        return
    right, readable = (sum(int(frame[name].sum()) for frame in map(_verdicts, frames)) for name in VERDICTS)
    total = sum(map(len, frames))
    if readable == 0:
        raise SdlabError(
            f"{_counts(frames)}: the format, not the problem, is the likely cause; "
            "look at the completions, raise --max-completion-length or change --instruction"
        )
    if sampled < HOPELESS:
        return
    cause = "too hard" if right < low * total else "too easy" if right > high * total else "of mixed kinds"
    raise SdlabError(
        f"none of the first {sampled} problems has a base pass rate from {low} to {high} "
        f"({_counts(frames)}): they are likely {cause} for this model; give other problems"
    )


def _verdicts(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return whether each completion is right, and whether it has a readable answer."""
    return pandas.DataFrame({"right": frame["reward"] == 1, "readable": frame["answer"].notna()})


def _counts(frames: list[pandas.DataFrame]) -> str:
    """Return how many completions were right and had a readable answer, in words."""
    verdicts = pandas.concat(map(_verdicts, frames))
    right, readable = (int(verdicts[name].sum()) for name in VERDICTS)
    return f"{right:,} of {len(verdicts):,} completions were right and {readable:,} had a box"


def _forecast(sampled: int, chosen: int, needed: int, available: int, seconds: float) -> str:
    """Return a sentence about the first problems, with the time that the selection will take."""
    each = seconds / sampled
    if not chosen:
        last = min(available, HOPELESS)
        return (
            f"none of the first {sampled} problems fits ({seconds:.0f} s); the search ends after {last} "
            f"problems if none does (about {clock((last - sampled) * each)})"
        )
    last = sampled * needed / chosen
    if last > available:
        work = f"all {available} are sampled, and about {available * chosen / sampled:,.0f} of them will fit"
    else:
        work = f"selecting {needed} needs about {last:,.0f} problems"
    more = clock(max(0.0, min(available, last) - sampled) * each)
    return f"{chosen} of the first {sampled} problems fit ({seconds:.0f} s); {work} (about {more} more)"


def has_thinking(engine: Engine, selection: Selection, thinking: bool = True) -> bool:
    """Return whether a solution has a thinking part, which the context "solution_no_think" removes."""
    opened = opens_thinking(engine.tokenizer, thinking)
    return any(strip_thinking(text, opened) != text.strip() for text in selection.solutions)


@checked
def run_contexts(
    engine: Engine,
    selection: Selection,
    num_generations: Count,
    seed: Seed = 0,
    *,
    max_completion_length: Count = 256,
    thinking: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Sample every context on the selected problems and return the rows of `evaluate`.

    There is one block per context, in the order of CONTEXTS. The regenerated context of a problem is its
    first right completion under the full solution; a problem without one is left out of that block, and so is
    the block when no problem has one. When no solution has a thinking part, "solution_no_think" would repeat
    "solution" and is left out.
    """
    contexts = [
        name for name in CONTEXTS if name != "solution_no_think" or has_thinking(engine, selection, thinking)
    ]
    frames, problems = [], selection.problems
    total = len(contexts) * len(problems) * num_generations
    for number, context in enumerate(contexts):
        demonstrations, part = selection.solutions, problems
        if context == "none":
            demonstrations = None
        elif context == "regenerated":
            opened = opens_thinking(engine.tokenizer, thinking)
            again = first_right(frames[CONTEXTS.index("solution")], opened)
            part = [p for p in problems if p.id in again.index]
            demonstrations = [str(again[p.id]) for p in part]
            if not part:
                continue
        inner = progress and (
            lambda done, _, before=number * total // len(contexts): progress(before + done, total)
        )
        params = sampling(num_generations, seed, context, max_completion_length)
        if demonstrations is not None:
            _check_room(engine, part, demonstrations, context, max_completion_length, thinking)
        frames.append(
            evaluate(
                engine,
                part,
                params,
                context=context,
                demonstrations=demonstrations,
                thinking=thinking,
                progress=inner,
            )
        )
    return pandas.concat(frames, ignore_index=True)


def _check_room(
    engine: Engine,
    problems: Sequence[Problem],
    demonstrations: Sequence[str],
    context: str,
    room: int,
    thinking: bool,
) -> None:
    """Raise SdlabError when a prompt with its demonstration leaves too little of the model's context."""
    limit = engine.context_length
    if limit is None:
        return
    prompts = [
        render_prompt(engine.tokenizer, problem, text, thinking=thinking)
        for problem, text in zip(problems, demonstrations, strict=True)
    ]
    sizes = [len(ids) for ids in engine.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    longest, where = max((size, problem.id) for size, problem in zip(sizes, problems, strict=True))
    if longest + room > limit:
        remedy = f"choose --max-completion-length at most {limit - longest}, or " if longest < limit else ""
        raise SdlabError(
            f"the prompt of problem {where} has {longest} tokens with its demonstration "
            f"({CONTEXT_LABELS[context]}), which leaves too little of the model's context of {limit} for a "
            f"completion of {room}; {remedy}remove the problem or use a model with a longer context"
        )
