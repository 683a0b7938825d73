"""The parts that all training loops share: set up, restore, sample, update, log, save, stop.

A step is either finished or undone. Before its row is in the table and its checkpoint in the run folder, any
end of the loop (Ctrl-C, the stop button, an exception) resets weights, optimizer and folder to the end of the
previous step.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import pandas
import torch
from torch.utils._pytree import tree_map

from sdlab.errors import SdlabError
from sdlab.interrupts import HeldInterrupts
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import TrainableEngine
from sdlab.train.batch import Batch, accumulate, apply_update, make_optimizer, sample_batch
from sdlab.train.config import TrainConfig
from sdlab.train.log import COLUMNS, Clock, Idle, samples, step_row
from sdlab.train.signals import Signals
from sdlab.train.teacher import frozen_copy
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RunFolder(Protocol):
    """Where a loop restores and saves its steps, such as `sdlab.runs.folder.Run`."""

    def restore(self, state: dict[str, Any]) -> list[dict]:
        """Load the checkpoint into the objects of `state` and return the rows of the finished steps."""
        ...

    def save_step(self, row: dict, samples: list[dict], state: dict[str, Any]) -> None:
        """Append a step's row and samples, and save the objects of `state`."""
        ...

    def settle(self, steps: int, state: dict[str, Any]) -> None:
        """Return to the end of the first `steps` steps, whose weights `state` holds."""
        ...


class Session:
    """The training of `engine.model` in place; use it in a `with`, and iterate over `steps()`.

    run: a run folder (`sdlab.runs.folder`); it is restored at the beginning and written after every step.
    on_step(row) is called after that. state: further objects that change during training (an EMA teacher), by
    name, with state_dict and load_state_dict. idle: the warning for the user after several steps without an
    update. base: a frozen copy of the model, where the loop has one already.

    `signals` collects what the losses of the step measure at its tokens (`sdlab.train.signals`).

    Ctrl-C while a step samples drops the step at once. From its first update on, the step is finished first;
    a second Ctrl-C drops it. A KeyboardInterrupt, from on_step too, ends the `with` without an error once the
    finished steps are restored.
    """

    def __init__(
        self,
        engine: TrainableEngine,
        config: TrainConfig,
        run: RunFolder | None = None,
        on_step: Callable[[dict], None] | None = None,
        *,
        state: dict[str, Any] | None = None,
        idle: str = "",
        base: "PreTrainedModel | None" = None,
    ) -> None:
        if not engine.trains:
            raise SdlabError(
                f"{type(engine).__name__} cannot train, because its weights do not change; "
                "load the model with engine='torch'"
            )
        self.student, self.config, self.run, self.on_step = engine.model, config, run, on_step
        self.base = TorchEngine(base or frozen_copy(engine.model), engine.tokenizer)
        self.engine = engine.in_bf16(config.bf16)
        self.optimizer = make_optimizer(self.student, config)
        self.state = {"model": self.student, "optimizer": self.optimizer} | (state or {})
        self.idle = Idle(idle)
        self.rows: list[dict] = []  # of the finished steps
        self.stopped = False
        self._restored = False
        ends = (Session.__enter__.__code__, Session.__exit__.__code__)
        self._interrupts = HeldInterrupts(presses=1, sealed=ends)
        self._begin()

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._roll_back()
        interrupted = isinstance(error, KeyboardInterrupt)
        self.stopped = interrupted or self._interrupts.pressed > 0
        self._interrupts.end()
        return interrupted and self._restored

    def steps(self) -> Iterator[int]:
        """Yield the number of every step that is not finished.

        The loop must end each step with `finish_step`; otherwise an SdlabError is raised.
        """
        if self.run is not None:
            self._interrupts.held = False
            rows = self.run.restore(self.state)
            self._interrupts.held = True
            self.rows += rows
        self._restored = True
        for step in range(len(self.rows), self.config.steps):
            self._begin()
            self._interrupts.held = False
            self._interrupts.act()  # a Ctrl-C from the previous step
            yield step
            if len(self.rows) != step + 1:
                raise SdlabError(
                    f"step {step} was not finished; call session.finish_step at the end of a step"
                )
        self._interrupts.act()

    def sample(self, problems: Sequence[Problem]) -> Batch:
        """Draw the step's problems, sample completions and grade them."""
        batch = sample_batch(self.engine, problems, self.config, len(self.rows))
        self._clock.stage("sampling")
        return batch

    def update(self, *losses: tuple[Sequence[list[int]], Callable[[list[int]], torch.Tensor]]) -> None:
        """Take one optimizer step on the sum of the losses, each as (micro-batches, loss_of(micro-batch)).

        Without a micro-batch nothing happens.

        Raises SdlabError when the loss or the gradient is not finite.
        """
        self._interrupts.held = True
        if any(parts for parts, _ in losses):
            loss = sum(accumulate(self.student, parts, loss_of) for parts, loss_of in losses)
            norm = apply_update(self.student, self.optimizer, self.config, len(self.rows), loss)
            self._losses.append(loss)
            self._norms.append(norm)

    def finish_step(self, batch: Batch, used_rows: int, idle_groups: float = math.nan) -> None:
        """Log the step, save it in the run folder, and call on_step.

        used_rows: the number of completions in the loss. idle_groups: the share of groups without such a
        completion.
        """
        self._interrupts.held = True
        step = len(self.rows)
        self._clock.stage("update")
        self.idle.step(len(self._losses))
        row = step_row(
            self.config,
            step,
            batch,
            self.base,
            losses=self._losses,
            norms=self._norms,
            used_rows=used_rows,
            clock=self._clock,
            collected=self.signals,
            idle_groups=idle_groups,
        )
        if self.run is not None:
            self.run.save_step(row, samples(step, batch), self.state)
        self.rows.append(row)  # from here on the step is finished
        if self.on_step:
            self.on_step(row)

    @property
    def table(self) -> pandas.DataFrame:
        """Return one row per finished step.

        table.attrs["stopped"] says whether Ctrl-C or the stop button ended the training.
        """
        table = pandas.DataFrame(self.rows, columns=COLUMNS)
        table.attrs["stopped"] = self.stopped
        return table

    def _begin(self) -> None:
        """Copy the state to which an unfinished step returns."""
        self._snapshot = None  # first, so that two copies are never in memory at once
        self._snapshot = {name: _copied(thing.state_dict()) for name, thing in self.state.items()}
        self._begun = len(self.rows)
        self._losses, self._norms, self._clock, self.signals = [], [], Clock(), Signals()

    def _roll_back(self) -> None:
        """Undo the unfinished step, in the weights and in the run folder."""
        self.student.zero_grad(set_to_none=True)
        if self._snapshot is not None and self._begun == len(self.rows):
            for name, thing in self.state.items():
                thing.load_state_dict(self._snapshot[name])
        if self.run is not None and self._restored:
            with suppress(SdlabError):  # the disk is full: restore will cut the tables
                self.run.settle(len(self.rows), self.state)


def _copied(state: dict) -> dict:
    """Return a copy of a state_dict in main memory."""
    return tree_map(
        lambda x: x.detach().to("cpu", copy=True) if isinstance(x, torch.Tensor) else copy.deepcopy(x), state
    )
