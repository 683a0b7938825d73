"""The rows of a step that several processes share: who scores them, and which update sees them."""

from collections.abc import Iterator
from typing import Any

import torch

from sdlab.train.repairs.loop import stretches


class SharedScorer:
    """Scores the rows of this process, a `sdlab.train.repairs.signals.Scorer`.

    Every process scores all its rows, because networks that are sharded over processes must be called by all
    of them equally often. trainer: a `sdlab.scale.repair_trainer.StudyRepairTrainer`.
    """

    def __init__(self, trainer: Any, batch: dict[str, Any], informed: torch.Tensor) -> None:
        self.trainer, self.batch, self.informed = trainer, batch, informed

    @torch.no_grad()
    def scan(self, *sources: str | int) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
        """Yield micro-batches of rows with the log-probabilities of every source."""
        batch, trainer = self.batch, self.trainer
        rows, size = len(batch["completion_mask"]), trainer.job.per_device_rows
        first, own = sources[0], trainer.own_rows(rows)
        scored = torch.ones(rows, dtype=torch.bool) if isinstance(first, str) else self.informed[first]
        for start in range(0, rows, size):
            end = start + size
            inputs = {
                name: value[start:end]
                for name, value in batch.items()
                if isinstance(value, torch.Tensor) and value.dim()
            }
            part = [row for row in range(start, min(end, rows)) if scored[row]]
            inside = torch.tensor([row - start for row in part], dtype=torch.long)
            at = inputs["completion_mask"].bool()[inside]
            found = [trainer.logps(source, inputs)[inside][at] for source in sources]
            if part:
                yield [own.start + row for row in part], found

    def whole(self, table: torch.Tensor) -> torch.Tensor:
        """Return a table (..., B, T) with the rows of every process."""
        rows = self.trainer.own_rows(len(self.batch["completion_mask"]))
        if self.trainer.accelerator.num_processes == 1:
            return table
        mine = table.movedim(-2, 0)[rows].contiguous().to(self.trainer.accelerator.device)
        return self.trainer.accelerator.gather(mine).cpu().movedim(0, -2)


def windows_of(counted: list[int], rows: int, updates: int) -> dict[int, list[int]]:
    """Return for each update the rows, 0 to rows - 1, that its hooks see: the minibatches of `stretches`.

    An update without a row of `counted` is left out; its rows belong to a neighbour, as in the study's own
    loop.
    """
    ends = [len(counted) * part // updates for part in range(updates + 1)]
    filled = [part for part in range(updates) if ends[part] < ends[part + 1]]
    return dict(zip(filled, stretches(counted, rows, updates), strict=True))
