"""The leaderboard of lab 4: train repairs on hidden seeds, evaluate them on hidden problems, and rank them.

An instructor's secret chooses the training seeds, the training problems and the test problems, all of them
outside the named splits. Each submission is trained in its own process, which gets only its training seeds
and returns weights. The weights are evaluated in this process, so a submission cannot report its own score.
docs/sandbox.md describes how this machine is protected. For hostile code, run the command in a container.
"""

import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdlab.errors import SdlabError
from sdlab.labs.budget import Budget
from sdlab.labs.finished import TABLES, Finished
from sdlab.labs.ranking import Entry, rank
from sdlab.labs.sandbox.isolation import check_system
from sdlab.labs.sandbox.launch import notes
from sdlab.labs.sandbox.training import train
from sdlab.seeds import stable_int, stream
from sdlab.settings import Count, checked
from sdlab.world.problems import Problem
from sdlab.world.splits import SEEDS as SPLIT_SEEDS
from sdlab.world.splits import load_split

if TYPE_CHECKING:
    from sdlab.rollout.types import TrainableEngine

SECRET = "SDLAB_LEADERBOARD_SECRET"  # the environment variable
OUT_OF_DISTRIBUTION, IN_DOMAIN = ("unseen-types", "deeper"), ("in-domain",)
UNTRAINED = "untrained (reference)"
HEADER = "from sdlab.train.repairs.named import repair_named\n"
REFERENCES = {
    f"{label} (reference)": f'{HEADER}repair = repair_named("{name}")'
    for label, name in (("SDPO", "sdpo"), ("GRPO", "grpo"))
}


@checked
def hidden_problems(split: str, count: Count, secret: str) -> list[Problem]:
    """Return `count` problems of the split's kind that `secret` chooses.

    None of them is in the split itself (its seed 0).

    Raises SdlabError when there are too few.
    """
    seeds = list(range(1, SPLIT_SEEDS))
    stream("leaderboard", secret, split).shuffle(seeds)
    pool = [problem for seed in seeds[:4] for problem in load_split(split, seed, limit=max(16, count // 2))]
    stream("leaderboard", secret, split, "problems").shuffle(pool)
    return pool[:count]


@checked
def training_seeds(count: Count, secret: str) -> list[tuple[int, int]]:
    """Return `count` pairs of seeds that `secret` chooses.

    A pair is the seed of the run, and the seed (1..15) of the split "train" from which it takes its problems.
    """
    return [
        (
            stable_int("leaderboard", secret, "run", k) % 2**31,
            1 + stable_int("leaderboard", secret, "questions", k) % (SPLIT_SEEDS - 1),
        )
        for k in range(count)
    ]


@checked
def leaderboard(
    files: Sequence[str | Path],
    secret: str,
    budget: Budget = Budget(),
    *,
    jobs: Count = 1,
    kept: Path | None = None,
    on_done: Callable[[Entry], object] | None = None,
) -> list[tuple[int, Entry]]:
    """Return (rank, entry) of every submission, of SDPO, GRPO and the untrained model, best first.

    Failed submissions share the last rank, with their reason. files: Python files or lab-4 notebooks that
    define `repair`. jobs: submissions trained at once, one thread each. kept: a folder for finished results;
    a result that is there for the same submission, secret, budget and model is reused, but a failure is tried
    again. on_done(entry) is called as each is evaluated. A missing or damaged file is a failed submission.

    Raises SdlabError without files or secret, and where processes cannot be limited.
    """
    if not files:
        raise SdlabError("no submissions; name Python files or lab-4 notebooks that define `repair`")
    if not secret:
        raise SdlabError(
            f"the leaderboard needs a secret, so that nobody knows its seeds and problems; give --secret or "
            f"set {SECRET}"
        )
    check_system()
    work = {
        **dict(zip(_names([Path(file) for file in files]), map(Path, files), strict=True)),
        **REFERENCES,
        UNTRAINED: "",
    }
    finished = Finished(kept, secret, budget) if kept else None
    stop = threading.Event()
    entries: list[Entry] = []

    def run(name: str, place: Path) -> Entry | tuple[str, tuple[str, ...] | None]:
        if finished and (tables := finished.find(work[name])):
            return _entry(name, tables, budget)
        if name == UNTRAINED:
            return "", None
        task = {
            "model": budget.model,
            "config": asdict(budget.config),
            "seeds": training_seeds(budget.seeds, secret),
        }
        try:
            return train(
                work[name], place, task, timeout=budget.timeout, memory_gb=budget.memory_gb, stop=stop
            )
        except OSError as error:  # too many processes or no disk; the others are still tried
            return f"could not be started: {error}", None

    with (
        tempfile.TemporaryDirectory(prefix="sdlab-leaderboard-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(max(1, jobs)) as pool,
    ):
        places = {name: Path(folder) / secrets.token_hex(8) for name in work}
        trained = [pool.submit(run, name, places[name]) for name in work]
        try:
            for name, future in zip(work, trained, strict=True):
                entry = future.result()
                if not isinstance(entry, Entry):
                    reason, closed_off = entry
                    entry = (
                        Entry(name, reason=reason, closed_off=closed_off)
                        if reason
                        else replace(_evaluated(name, places[name], secret, budget), closed_off=closed_off)
                    )
                    if finished and not entry.reason:
                        finished.keep({what: getattr(entry, what) for what in TABLES}, work[name])
                entries.append(entry)
                if on_done:
                    on_done(entry)
        finally:  # also after an interrupt: running trainings stop, waiting ones do not start
            stop.set()
            pool.shutdown(cancel_futures=True)
    good = {
        entry.name: (entry.score, entry.tokens)
        for entry in entries
        if entry.score is not None and entry.tokens is not None
    }
    ranks = rank(good)
    return sorted(
        ((ranks.get(entry.name, len(good) + 1), entry) for entry in entries),
        key=lambda pair: (pair[0], -pair[1].score.mean() if pair[1].score is not None else 0),
    )


def sandbox_notes(ranked: list[tuple[int, Entry]]) -> list[str]:
    """Return lines on the protections that the sandbox lacked on this machine."""
    return notes(entry.closed_off for _, entry in ranked if entry.closed_off is not None)


def _names(files: list[Path]) -> list[str]:
    """Return a name for each file: its stem, with its folder or a number where several are equal."""
    stems = [path.stem for path in files]
    names = [
        path.stem if stems.count(path.stem) == 1 else f"{path.resolve().parent.name}/{path.stem}"
        for path in files
    ]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _entry(name: str, tables: dict[str, np.ndarray], budget: Budget) -> Entry:
    columns: dict[str, Any] = dict(tables)
    return Entry(name, **columns, generations=budget.generations)


def _evaluated(name: str, place: Path, secret: str, budget: Budget) -> Entry:
    """Evaluate the trained weights, or the untrained model, on the hidden problems.

    Returns an entry with a reason when they are not weights of the model.
    """
    from sdlab.measure.evaluation import evaluate
    from sdlab.rollout.loading import load_engine
    from sdlab.rollout.types import SamplingParams

    engine = load_engine(budget.model)
    rows: dict[str, list[np.ndarray]] = {what: [] for what in TABLES}
    for k in range(budget.seeds):
        if name != UNTRAINED and (reason := _load_weights(engine, place / f"{k}.safetensors")):
            return Entry(name, reason=reason)
        sums = {}
        for split in (*OUT_OF_DISTRIBUTION, *IN_DOMAIN):
            problems = hidden_problems(split, budget.problems, secret)
            seed = stable_int("leaderboard", secret, "evaluation", k, split)
            params = SamplingParams(budget.generations, budget.config.max_completion_length, 1.0, seed=seed)
            frame = evaluate(engine, problems, params, thinking=budget.config.thinking)
            sums[split] = frame.groupby("problem_id", sort=False)[["reward", "length"]].sum()
        for what, column, splits in (
            ("score", "reward", OUT_OF_DISTRIBUTION),
            ("tokens", "length", OUT_OF_DISTRIBUTION),
            ("in_domain", "reward", IN_DOMAIN),
        ):
            rows[what].append(np.concatenate([sums[split][column].to_numpy(dtype=float) for split in splits]))
    return _entry(name, {what: np.stack(tables) for what, tables in rows.items()}, budget)


def _load_weights(engine: "TrainableEngine", path: Path) -> str:
    """Copy the weights of a file into the model, and return "", or why they are not weights of this model."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError):
        return "handed back weights that cannot be read"
    for key, parameter in engine.model.named_parameters():
        own = weights.get(key)
        if own is None or own.shape != parameter.shape or not own.isfinite().all():
            return f"handed back weights without a finite {key}"
        with torch.no_grad():
            parameter.copy_(own)
    return ""
