"""The weights of a repair's teacher, by its `TeacherRule`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sdlab.train.batch import Rows
from sdlab.train.repairs.hooks import TeacherRule
from sdlab.train.teacher import Teacher, frozen_copy

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RuledTeacher:
    """The teacher of a repair. `fixed`: whether its weights stay as they are during a step."""

    def __init__(self, student: "PreTrainedModel", rule: TeacherRule) -> None:
        self.rule, self.student = rule, student
        self.fixed = rule.kind not in ("live", "trust_region")
        self._moving = Teacher(student, "ema", rule.rate) if rule.kind == "ema" else None
        self.model = (
            self._moving.model if self._moving else student if rule.kind == "live" else frozen_copy(student)
        )

    @property
    def base(self) -> "PreTrainedModel | None":
        """Return the frozen copy of the weights at the start, where this teacher has one that never moves."""
        return self.model if self.rule.kind in ("base", "trust_region") else None

    @property
    def state(self) -> dict:
        """Return what a run folder stores: the weights of a teacher that follows the student, by name."""
        return {"teacher": self.model} if self.rule.kind in ("ema", "snapshot") else {}

    def logits(self, rows: Rows, part: Sequence[int]) -> torch.Tensor:
        """Return logits (N, V) at the completion tokens of the rows in `part`, without gradient."""
        with torch.no_grad():
            logits = rows.logits(self.model, part)
            if self.rule.kind == "trust_region":
                logits = logits.lerp(rows.logits(self.student, part), self.rule.rate)
            return logits

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the teacher after step number `step`, counted from 0."""
        if self._moving:
            self._moving.follow()
        elif self.rule.kind == "snapshot" and (step + 1) % self.rule.every == 0:
            for mine, theirs in zip(self.model.parameters(), self.student.parameters(), strict=True):
                mine.copy_(theirs)
