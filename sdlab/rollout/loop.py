"""Sample one unit of rows, and share the units among worker threads."""

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch

from sdlab.rollout.sampling import choose
from sdlab.rollout.stops import WINDOW, StopCheck
from sdlab.rollout.types import SamplingParams

# Seconds a worker waits before it requests the interpreter. In Python's default of 5 ms it runs a hundred
# operations.
PATIENCE = 5e-4


class Decoder(Protocol):
    """What decodes rows token by token: `HFDecoder` and `Qwen3Decoder`."""

    @property
    def drop_share(self) -> float:
        """Return the share of rows that must have ended before `keep` drops them."""
        ...

    def prefill(self, prompts: list[list[int]], repeats: list[int], room: int) -> torch.Tensor:
        """Run the prompts and return the logits of every row's first token, (N, V)."""
        ...

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row and return the logits of the next token, (N, V)."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only the rows with indices `rows`, in that order."""
        ...


@dataclass(frozen=True)
class Unit:
    """Rows that decode together.

    prompts: token ids of each prompt. repeats: number of rows of each prompt. rows: index of each row in the
    batch.
    """

    prompts: list[list[int]]
    repeats: list[int]
    rows: list[int]


def plan_units(
    prompt_ids: list[list[int]],
    generations: int,
    max_rows: int,
    traffic: tuple[float, float, float] | None = None,
) -> list[Unit]:
    """Split the batch into units of at most max_rows rows.

    Prompts of similar length go into the same unit. A prompt's generations stay in one unit unless there are
    more of them than max_rows. traffic: bytes of the weights, of one token in the cache of one row, and of
    what a step could read in its share of the time of one prompt token. A step of a unit reads the weights
    once, and every row's cache at the length of the longest prompt; before the first step every prompt of a
    unit is computed at that length. The units then have the least sum. None: units of nearly equal size, for
    decoders that do not compute padding.
    """
    order = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]))
    pieces = []  # pairs (prompt, its rows)
    for i in order:
        rows = list(range(i * generations, (i + 1) * generations))
        pieces += [(i, rows[start : start + max_rows]) for start in range(0, generations, max_rows)]
    sizes = [len(rows) for _, rows in pieces]
    if traffic is None:
        ends = _equal_ends(sizes, generations, max_rows)
    else:
        ends = _cheapest_ends(sizes, [len(prompt_ids[i]) for i, _ in pieces], max_rows, *traffic)
    units = [pieces[start:end] for start, end in pairwise([0, *ends])]
    return [
        Unit(
            [prompt_ids[i] for i, _ in unit],
            [len(rows) for _, rows in unit],
            [row for _, rows in unit for row in rows],
        )
        for unit in units
    ]


def _equal_ends(sizes: list[int], generations: int, max_rows: int) -> list[int]:
    """Return where units end, so that they have nearly the same number of rows."""
    total = sum(sizes)
    target = -(-total // -(-total // max_rows)) if total else 0
    most = max(target, generations if generations <= max_rows else 0)
    ends, count = [], 0
    for number, size in enumerate(sizes):
        if count and count + size > most:
            ends.append(number)
            count = 0
        count += size
    return [*ends, len(sizes)] if sizes else []


def _cheapest_ends(
    sizes: list[int], lengths: list[int], max_rows: int, weights: float, token: float, prompt: float
) -> list[int]:
    """Return where units end, so that a step of all of them, with its share of the prompts, costs the least.

    sizes and lengths: rows and prompt tokens of each piece, shortest prompt first.
    """
    cost, best = [0.0], [0]  # of the first n pieces; where their last unit begins
    for end in range(1, len(sizes) + 1):
        rows, options = 0, []
        for start in range(end - 1, -1, -1):
            rows += sizes[start]
            if rows > max_rows and start < end - 1:
                break
            padded = (token * rows + prompt * (end - start)) * lengths[end - 1]
            options.append((cost[start] + weights + padded, start))
        least, start = min(options)
        cost.append(least)
        best.append(start)
    ends, end = [], len(sizes)
    while end:
        ends.append(end)
        end = best[end]
    return ends[::-1]


def sample_unit(
    decoder: Decoder,
    unit: Unit,
    uniforms: torch.Tensor,
    params: SamplingParams,
    eos: torch.Tensor,
    stop: threading.Event,
    finished: Callable[[int], None],
    stops: StopCheck | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a unit of n rows until every row has ended or T = max_completion_length tokens are reached.

    uniforms: (T, n), on the decoder's device. eos: the token ids that end a row. stops: a check of
    a row's last tokens, which also ends it. finished(k) is called when k more rows are done. Returns tokens
    (T, n) and their probabilities (T, n). Entries after a row's end have no meaning.
    """
    logits = decoder.prefill(unit.prompts, unit.repeats, params.max_completion_length)
    tokens_out = uniforms.new_zeros(uniforms.shape, dtype=torch.long)
    chance_out = uniforms.new_ones(uniforms.shape, dtype=torch.float32)
    place = torch.arange(uniforms.shape[1], device=uniforms.device)  # the column each live row writes to
    ended = torch.zeros_like(place, dtype=torch.bool)
    known = 0  # ended rows already reported to `finished`
    # Reading `ended` makes the CPU wait for the accelerator, so an accelerator is checked less often.
    look_every = 1 if uniforms.device.type == "cpu" else 8
    for t in range(params.max_completion_length):
        tokens, chance = choose(logits, uniforms[t], params)
        tokens_out[t].index_copy_(0, place, tokens)
        chance_out[t].index_copy_(0, place, chance)
        ended |= (tokens == eos) if eos.numel() == 1 else torch.isin(tokens, eos)
        if stops is not None:
            ended |= stops(tokens_out[max(0, t + 1 - WINDOW) : t + 1, place].T)
        if t + 1 == params.max_completion_length:
            break
        if (t + 1) % look_every == 0:
            if stop.is_set():
                break
            live, gone = len(place), int(ended.sum())
            if gone > known:
                finished(gone - known)
                known = gone
            if gone == live:
                break
            if gone and gone >= decoder.drop_share * live:
                left = live - gone
                keep = torch.arange(left, device=place.device)
                # Live rows from the end replace the ended rows; all other rows keep their index.
                keep[ended[:left].nonzero().squeeze(1)] = left + (~ended[left:]).nonzero().squeeze(1)
                decoder.keep(keep)
                place, tokens = place.index_select(0, keep), tokens.index_select(0, keep)
                uniforms = uniforms.index_select(1, keep)
                ended = torch.zeros_like(place, dtype=torch.bool)
                known = 0
        logits = decoder.step(tokens)
    finished(len(place) - known)
    return tokens_out, chance_out


def run_all(
    jobs: Iterable[Callable],
    threads: int,
    poll: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> list:
    """Run the jobs and return their results in order.

    With more than one thread, `threads` workers share the jobs, each with one torch thread. For small
    matrices two workers with one thread each are faster than one worker with two threads, because no thread
    waits at a barrier after every operation. `poll` is called in the calling thread while it waits, because
    displays need that thread. An interrupt or a failing job sets `stop`, and the function waits until the
    other jobs have ended.
    """
    jobs = list(jobs)
    if threads <= 1 or len(jobs) <= 1:
        results = []
        for job in jobs:
            results.append(job())
            poll()
        return results
    before, patience = torch.get_num_threads(), sys.getswitchinterval()
    sys.setswitchinterval(min(patience, PATIENCE))
    # The initializer runs inside each worker, because torch's thread count belongs to the calling thread.
    pool = ThreadPoolExecutor(min(threads, len(jobs)), initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(job) for job in jobs]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            poll()
        return [future.result() for future in futures]
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        sys.setswitchinterval(patience)
        torch.set_num_threads(before)  # torch keeps a part of the count for all threads together


class Counter:
    """Count finished rows from any thread, and report them to `progress` from the calling thread only."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total, self.progress, self.done, self.reported = total, progress, 0, -1
        self.lock, self.owner = threading.Lock(), threading.get_ident()

    def add(self, rows: int) -> None:
        """Count `rows` more rows; report at once if this is the calling thread."""
        with self.lock:
            self.done += rows
        if threading.get_ident() == self.owner:
            self.report()

    def report(self) -> None:
        """Call `progress` if the count has changed since the last report."""
        if self.progress is not None and self.done != self.reported:
            self.reported = self.done
            self.progress(self.done, self.total)
