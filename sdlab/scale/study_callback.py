"""The callback of TRL's trainers that skips updates without a gradient and writes the log of the study."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sdlab.files import to_json, write_atomic
from sdlab.scale.study_trainer import StudyTrainer
from sdlab.train.log import COLUMNS


class StudyCallback(TrainerCallback):
    """Skip updates that teach nothing, and write one row per step with the columns of `sdlab.train.log`."""

    def __init__(
        self, trainer: StudyTrainer, path: Path, on_step: Callable[[dict], None] | None = None
    ) -> None:
        self.trainer, self.path, self.on_step, self.start = trainer, path, on_step, time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock, and drop the logged rows after the checkpoint from which the run resumes."""
        if state.is_world_process_zero:
            done = state.global_step // self.trainer.sizes.updates
            lines = self.path.read_text().splitlines(True) if self.path.exists() else []
            write_atomic(self.path, "".join(lines[:done]))
        self.start = time.perf_counter()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: torch.nn.Module,
        **_: Any,
    ) -> None:
        """Remove the gradients of an update that teaches nothing.

        AdamW then moves no weight; with gradients of zero it would move them by its momentum.
        """
        teaching = getattr(self.trainer, "teaching", None)
        if teaching and not teaching[state.global_step % len(teaching)]:
            model.zero_grad(set_to_none=True)
            self.trainer.norms.pop()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Write the row of a step, with TRL's loss as a mean over the updates that teach."""
        if "loss" not in logs:  # the summary at the end
            return
        trainer, now = self.trainer, time.perf_counter()
        updates = trainer.sizes.updates
        teaching_updates = getattr(trainer, "row", {}).get("updates", updates)
        row = (
            dict.fromkeys(COLUMNS, math.nan)
            | {"used_rows": trainer.sizes.rows, "updates": teaching_updates}
            | getattr(trainer, "row", {})
        )
        row |= {
            "step": state.global_step // updates - 1,
            "learning_rate": logs["learning_rate"],
            "seconds": now - self.start,
            "loss": logs["loss"] * updates / teaching_updates if teaching_updates else math.nan,
            "grad_norm": sum(trainer.norms) / len(trainer.norms) if trainer.norms else math.nan,
        }
        if "entropy" in logs:
            row["entropy"] = logs["entropy"]
        if "seconds_sampling" in row:
            row["seconds_update"] = row["seconds"] - row["seconds_sampling"]
        self.start = now
        trainer.norms.clear()
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(to_json(row) + "\n")
            if self.on_step:
                self.on_step(row)
