"""The scoring pass of a step: student, views and base score the completions, in micro-batches."""

from collections.abc import Iterator, Sequence

import torch

from sdlab.errors import SdlabError
from sdlab.rollout.loop import run_all
from sdlab.rollout.torch_engine import worker_threads
from sdlab.seeds import stable_int
from sdlab.train.batch import Batch, Rows
from sdlab.train.losses import all_logps
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.mistakes import first_errors
from sdlab.train.repairs.signals import Facts, Signals
from sdlab.train.repairs.teachers import RuledTeacher
from sdlab.train.repairs.views import Step
from sdlab.train.session import Session

MOST_KEPT = 2**25  # numbers of a step's distributions that are kept for its update, 128 MB in float32


class Scoring:
    """Scores a step's completions, a `Scorer` for its `Signals`.

    Distributions of a fixed teacher and of the base are kept, up to MOST_KEPT numbers, so that the update
    does not compute them again.
    """

    def __init__(
        self, session: Session, batch: Batch, repair: Repair, teacher: RuledTeacher, step: int
    ) -> None:
        self.session, self.repair, self.teacher = session, repair, teacher
        self.completions = batch.rollouts.completions()
        self.rows = Rows(session.engine, batch.prompts, self.completions)
        self.views, self.informed = views_of(session, batch, repair, step)
        self._kept: dict[str | int, dict[int, torch.Tensor]] = {}
        self._room = MOST_KEPT

    def temperature(self, source: str | int) -> float:
        """Return the temperature of a source: that of sampling times the repair's, or the views' own."""
        return temperature_of(self.repair, source, self.session.config.temperature)

    @torch.no_grad()
    def logps(self, source: str | int, part: Sequence[int]) -> torch.Tensor:
        """Return log-probabilities (N, V) of a source at the completion tokens of the rows in `part`."""
        kept = self._kept.get(source, {})
        if kept and all(row in kept for row in part):
            return torch.cat([kept[row] for row in part])
        if isinstance(source, str):
            model = self.session.student if source == "student" else self.session.base.model
            logits = self.rows.logits(model, part)
        elif self.repair.views[source].model == "base":
            logits = self.views[source].logits(self.session.base.model, part)
        else:
            logits = self.teacher.logits(self.views[source], part)
        return all_logps(logits, self.temperature(source))

    def scan(self, *sources: str | int) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
        """Yield micro-batches of rows with the log-probabilities of every source; see `Scorer`."""
        first = sources[0]
        rows = self.rows if isinstance(first, str) else self.views[first]
        used = (
            range(len(self.completions)) if isinstance(first, str) else self.informed[first].nonzero()[:, 0]
        )
        parts = rows.plan([int(row) for row in used], self.session.config.batch_tokens)
        at_once = worker_threads(self.session.student)
        for start in range(0, len(parts), at_once):
            chunk = parts[start : start + at_once]
            jobs = [lambda part=part: [self.logps(source, part) for source in sources] for part in chunk]
            for part, results in zip(chunk, run_all(jobs, at_once), strict=True):
                for source, logps in zip(sources, results, strict=True):
                    self._keep(source, part, logps)
                yield part, results

    def _keep(self, source: str | int, part: Sequence[int], logps: torch.Tensor) -> None:
        fixed = source != "student" and (source == "base" or self.teacher.fixed)
        if fixed and part[0] not in self._kept.get(source, {}) and logps.numel() <= self._room:
            self._room -= logps.numel()
            pieces = logps.split([len(self.completions[row]) for row in part])
            self._kept.setdefault(source, {}).update(zip(part, pieces, strict=True))


def temperature_of(repair: Repair, source: str | int, sampling: float) -> float:
    """Return the temperature of a source: the sampling temperature times the repair's, or the views' own."""
    if not isinstance(source, str) and repair.teacher_temperature is not None:
        return repair.teacher_temperature
    return sampling * repair.temperature


def read_views(repair: Repair, now: Step) -> list[tuple[list[str], list[bool]]]:
    """Return for each view the B prompts of its rule, and for which rows it has its context.

    Raises SdlabError, naming the repair, when a view does not give one prompt and one verdict per row.
    """
    read = []
    for number, view in enumerate(repair.views):
        prompts, known = view.rule(now)
        if len(prompts) != len(now.texts) or len(known) != len(now.texts):
            raise SdlabError(
                f"repair {repair.name!r}: views[{number}] gave {len(prompts)} prompts and {len(known)} "
                f"verdicts; it must give {len(now.texts)}, one per completion; change the rule"
            )
        read.append((list(prompts), [bool(has) for has in known]))
    return read


def views_of(session: Session, batch: Batch, repair: Repair, step: int) -> tuple[list[Rows], torch.Tensor]:
    """Return what each view reads, M `Rows`, and whether it has its context for a row, (M, B) bool.

    A row without the context has the student's prompt. Raises SdlabError as `read_views`.
    """
    completions, views = batch.rollouts.completions(), []
    read = read_views(repair, seen(session, batch, step))
    for prompts, known in read:
        own = [
            prompt if has else plain for prompt, has, plain in zip(prompts, known, batch.prompts, strict=True)
        ]
        views.append(Rows(session.engine, own, completions))
    informed = torch.tensor([known for _, known in read], dtype=torch.bool)
    return views, informed.view(len(read), len(completions))


def seen(session: Session, batch: Batch, step: int) -> Step:
    """Return the step's completions as context rules see them."""
    config, rollouts = session.config, batch.rollouts
    return Step(
        session.engine.tokenizer,
        batch.problems,
        rollouts.texts,
        batch.rewards,
        config.num_generations,
        config.seed,
        step,
        config.thinking,
    )


def signals_of(scoring: Scoring, batch: Batch, step: int) -> Signals:
    """Return the signals of a step; nothing is scored yet."""
    session, rollouts = scoring.session, batch.rollouts
    facts = Facts(
        mask=rollouts.completion_mask,
        ids=rollouts.completion_ids,
        old=rollouts.per_token_logps,
        rewards=batch.rewards,
        informed=scoring.informed,
        num_generations=session.config.num_generations,
        problem_ids=[problem.id for problem in batch.problems for _ in range(rollouts.num_generations)],
        uniforms=uniforms(rollouts.completion_mask.shape, session.config.seed, step),
        step=step,
        steps=session.config.steps,
        first_errors=lambda: first_errors(seen(session, batch, step), scoring.completions),
    )
    return Signals(facts, scoring)


def uniforms(shape: Sequence[int], seed: int, step: int) -> torch.Tensor:
    """Return the random numbers from 0 to 1 that a step's hooks may read, in this shape."""
    generator = torch.Generator().manual_seed(stable_int("repair", seed, step) % 2**63)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float32)
