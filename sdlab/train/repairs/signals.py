"""What the hooks of a step can read: one scoring pass over student, views and base, only what they ask for.

s and t are the log-probabilities of the sampled tokens under the student and a view of the teacher, u = t -
s. H_S and H_T are the entropies of the two next-token distributions, over the whole vocabulary, in nats. All
are those before the step's update, without gradient.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from sdlab.errors import unknown
from sdlab.train.divergences import divergence, with_tail
from sdlab.train.losses import group_advantages, token_weights
from sdlab.train.signals import entropy

SCALES = {
    "none": "R - mean",
    "std": "(R - mean) / (unbiased standard deviation + 1e-6)",
    "popstd": "(R - mean) / (population standard deviation + 1e-6)",
    "popstd_clamp": "(R - mean) / max(population standard deviation, 1e-6)",
}


class Scorer(Protocol):
    """Computes log-distributions at completion tokens; a source is "student", "base" or a view's number."""

    def scan(self, *sources: str | int) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
        """Yield micro-batches of rows, and log-probabilities (N, V) at their tokens for each source.

        Together they hold the rows that the first source scores; a view scores those for which it has its
        context. Row after row, N completion tokens.
        """
        ...


@dataclass
class Facts:
    """What is known about a step's B completions before any model scores them."""

    mask: torch.Tensor  # (B, T) bool, true at completion tokens
    ids: torch.Tensor  # (B, T)
    old: torch.Tensor  # (B, T), log-probabilities at sampling
    rewards: torch.Tensor  # (B,)
    informed: torch.Tensor  # (M, B) bool: the view has its context for this row
    num_generations: int  # G
    problem_ids: Sequence[str]  # B
    uniforms: torch.Tensor  # (B, T), random numbers from 0 to 1, keyed by seed and step
    step: int = 0
    steps: int = 1  # of the whole training
    first_errors: Callable[[], torch.Tensor] | None = None  # -> (B,), see Signals.first_error


class Signals:
    """The signals of a step; every table is computed when a hook first reads it.

    Tables are (B, T), or (M, B, T) with one layer per view, and 0 where the mask is false. A view without
    context for a row knows no more than the student: there t = old, u = 0, and its entropy is not known and
    0.

    whole(table): completes a table (..., B, T) of which the scorer filled its own rows only, where several
    processes share a step.

    `within(rows)` are the signals of a minibatch: the same shapes, with `mask`, `informed` and `included`,
    (B,), false outside its rows.
    """

    def __init__(
        self,
        facts: Facts,
        scorer: Scorer,
        whole: Callable[[torch.Tensor], torch.Tensor] = lambda table: table,
    ) -> None:
        self.facts, self._scorer, self._whole, self._tables = facts, scorer, whole, {}
        self.mask, self.informed, self.rewards = facts.mask.bool(), facts.informed.bool(), facts.rewards
        self.included = torch.ones_like(self.mask[:, 0])
        self.old = facts.old.masked_fill(~self.mask, 0)
        self.num_generations, self.problem_ids, self.uniforms = (
            facts.num_generations,
            facts.problem_ids,
            facts.uniforms,
        )
        self.step, self.steps = facts.step, facts.steps

    def within(self, rows: Sequence[int]) -> "Signals":
        """Return the signals of a minibatch."""
        part = copy.copy(self)
        part.included = torch.zeros_like(self.included)
        part.included[rows] = True
        part.mask, part.informed = self.mask & part.included[:, None], self.informed & part.included
        return part

    # Weights of means

    def token_mean(self, mask: torch.Tensor, eps: float = 0.0) -> torch.Tensor:
        """Return the weights (B, T) of the mean over the tokens where `mask` (B, T) is true.

        eps is added to their number, as some published code does.
        """
        if eps:
            return mask / (mask.sum().to(self.old.dtype) + eps)
        return token_weights(mask, dtype=self.old.dtype)

    def row_mean(self, mask: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the weights (B, T) of the mean over rows of each row's mean over its tokens in `mask`.

        rows: (B,) bool, the rows that count, those without a token too; None means all that have a teacher.
        """
        rows = self.included & self.informed.all(0) if rows is None else rows
        means = mask.to(self.old.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
        return means * rows[:, None] / rows.sum().clamp(min=1)

    # Of the rows

    @property
    def right(self) -> torch.Tensor:
        """Return which completions are right, (B,) bool."""
        return self.rewards >= 0.5

    @property
    def available(self) -> torch.Tensor:
        """Return whether another completion of the group is right, (B,) bool."""
        right = self.right.view(-1, self.num_generations)
        return (right.sum(1, keepdim=True) - right.int() > 0).flatten()

    @property
    def taught(self) -> torch.Tensor:
        """Return the tokens of rows for which every view has its context, (B, T) bool."""
        return self.mask & self.informed.all(0)[:, None]

    def advantages(self, scale: str = "none") -> torch.Tensor:
        """Return A, each reward minus the mean of its group, divided as SCALES says: (B, 1).

        Raises SdlabError on an unknown scale.
        """
        if scale not in SCALES:
            raise unknown("scale of advantages", scale, SCALES)
        centred = group_advantages(self.rewards, self.num_generations)
        if scale != "none":
            groups = self.rewards.view(-1, self.num_generations)
            spread = groups.std(1, unbiased=scale == "std")
            spread = spread.clamp(min=1e-6) if scale == "popstd_clamp" else spread + 1e-6
            centred = centred / spread.repeat_interleave(self.num_generations)
        return centred[:, None]

    @property
    def first_error(self) -> torch.Tensor:
        """Return the place of each completion's first wrong step, (B,) int64; -1 where there is none."""
        if "first_error" not in self._tables:
            assert self.facts.first_errors, "the loop gives first_errors"
            self._tables["first_error"] = self.facts.first_errors()
        return self._tables["first_error"]

    # Of the student's tokens

    @property
    def s(self) -> torch.Tensor:
        """Return log pi_S of the sampled tokens, (B, T)."""
        return self._of("student")[0]

    @property
    def student_entropy(self) -> torch.Tensor:
        """Return H_S, (B, T)."""
        return self._of("student")[1]

    @property
    def collision(self) -> torch.Tensor:
        """Return the sum of the squared probabilities of the student's distribution, (B, T)."""
        return self._of("student")[2]

    # Of the views and the base

    @property
    def t(self) -> torch.Tensor:
        """Return log pi_T of the sampled tokens under each view, (M, B, T)."""
        return torch.stack([self._of(view)[0] for view in range(len(self.facts.informed))])

    @property
    def u(self) -> torch.Tensor:
        """Return t - s, (M, B, T)."""
        return (self.t - self.s).masked_fill(~self.facts.informed.bool()[:, :, None], 0)

    @property
    def teacher_entropy(self) -> torch.Tensor:
        """Return H_T of each view, (M, B, T)."""
        return torch.stack([self._of(view)[1] for view in range(len(self.informed))])

    @property
    def base(self) -> torch.Tensor:
        """Return the log-probabilities of the sampled tokens under the base model, (B, T)."""
        return self._of("base")[0]

    def kl(self, one: int, other: int, top_k: int | None) -> torch.Tensor:
        """Return KL(view `one` || view `other`) on the top_k entries of `one` and a tail: (B, T)."""
        key = ("kl", one, other, top_k)
        if key not in self._tables:
            table = torch.zeros_like(self.old)
            for part, (first, second) in self._scorer.scan(one, other):
                if top_k is not None:
                    ids = first.topk(min(top_k, first.shape[-1]), dim=-1).indices
                    first, second = (with_tail(logps.gather(-1, ids)) for logps in (first, second))
                self._put(table, part, divergence(second, first, 0))
            self._tables[key] = self._whole(table)
        return self._tables[key]

    def distributions(self, source: str | int) -> torch.Tensor:
        """Return the log-probabilities of "student", "base" or a view, (B, T, V), for a small vocabulary.

        They are 0 at places that the source does not score.
        """
        table = None
        for part, (logps,) in self._scorer.scan(source):
            if table is None:
                table = logps.new_zeros(*self.facts.mask.shape, logps.shape[-1])
            self._put(table, part, logps)
        return self.old.new_zeros(*self.facts.mask.shape, 1) if table is None else table

    def _of(self, source: str | int) -> torch.Tensor:
        """Return log-probability, entropy and collision of a source, (3, B, T), scored once."""
        if source not in self._tables:
            tables = torch.zeros_like(self.old).expand(3, -1, -1).clone()
            if not isinstance(source, str):
                tables[0] = self.old
            for part, (logps,) in self._scorer.scan(source):
                ids = self.facts.ids[part][self.facts.mask[part].bool()]
                measures = (
                    logps.gather(-1, ids.to(logps.device)[:, None]).squeeze(-1),
                    entropy(logps),
                    logps.exp().square().sum(-1),
                )
                for table, values in zip(tables, measures, strict=True):
                    self._put(table, part, values)
            self._tables[source] = self._whole(tables)
        return self._tables[source]

    def _put(self, table: torch.Tensor, part: Sequence[int], values: torch.Tensor) -> None:
        rows = table[part]
        rows[self.facts.mask[part].bool()] = values.to(table)
        table[part] = rows
