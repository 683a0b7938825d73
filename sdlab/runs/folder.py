"""Run folders: a training run that can be killed at any moment and resumes with bit-identical results.

    config.json         method, model, settings, versions, the model's sha256: the identity of the run
    steps.jsonl         one row per step (sdlab.train.log)
    samples.jsonl       some completions of every step
    evaluations.jsonl   one line per evaluation: step, split, and the sums per problem
    checkpoint.pt       weights, optimizer and the number of finished steps
    model/              the trained model in Hugging Face format
    finished.json       written last: the run is complete

Only the checkpoint says how many steps are finished. Tables are appended first, and the checkpoint is
replaced last, in one rename. So rows beyond the checkpoint belong to a step that never finished, and they are
removed when the run resumes. A resumed run ends with the same weights and tables as an uninterrupted one;
only the columns of seconds differ.
"""

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch
from filelock import FileLock

from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.interrupts import uninterrupted
from sdlab.provenance import provenance
from sdlab.rollout.bars import hide_progress
from sdlab.runs.files import (
    TABLES,
    clear,
    explain_write_errors,
    fingerprint,
    load_checkpoint,
    lock_folder,
    read_lines,
    refuse_foreign,
    to_line,
)
from sdlab.runs.identity import Dataclass, begin, defaults
from sdlab.runs.state import check_state, checkpoint_content
from sdlab.runs.tracking import summary_writer
from sdlab.settings import Count, checked

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@checked
def open_run(
    folder: str | Path,
    config: Dataclass,
    *,
    method: str,
    model: str,
    settings: Dataclass | None = None,
    origin: dict | None = None,
    resume: bool = True,
    overwrite: bool = False,
    tracker: str | None = None,
    save_every: Count = 1,
    keep_optimizer: bool = True,
) -> "Run":
    """Return the run in `folder`, new or to be resumed; use it in a `with`.

    config, settings: dataclasses that, with method and model, must equal those of the run in the folder. Only
    EXTENDABLE settings may be raised, also for a finished run (which keeps its last evaluations). save_every:
    steps between checkpoints; a kill loses at most so many. keep_optimizer: whether checkpoints hold the
    optimizer, which takes twice the memory of the weights; a run without it cannot resume after its first
    step. tracker: "tensorboard" or None. origin: more of
    the provenance. overwrite removes the files of the run in the folder, and no others.

    Raises SdlabError when the folder holds another run, a finished one (unless overwrite), an unfinished one
    (unless resume or overwrite), or no run but other files; when another process is writing it; and when the
    tracker is not installed.
    """
    folder, writer = Path(folder), summary_writer(tracker)
    about = {
        "method": method,
        "model": model,
        "config": asdict(config),
        "settings": asdict(settings) if settings else {},
    }
    about = json.loads(json.dumps(about))  # tuples become lists, as when read again
    about["provenance"] = provenance(model=model, seed=getattr(config, "seed", None), **(origin or {}))
    refuse_foreign(folder, overwrite)  # before anything is written there
    lock = FileLock(folder / ".lock")
    try:
        lock_folder(folder, lock)
        begin(folder, about, {"config": defaults(config), "settings": defaults(settings)}, resume, overwrite)
        return Run(folder, lock, about["config"].get("steps", 0), writer, save_every, keep_optimizer)
    except BaseException:
        lock.release()
        raise


class Run:
    """A run that is being written.

    Loops call `restore` once, `save_step` after every step, and `settle` when they stop.
    """

    def __init__(
        self,
        folder: Path,
        lock: FileLock,
        steps: int,
        writer: Callable[..., Any] | None,
        save_every: int,
        keep_optimizer: bool = True,
    ) -> None:
        self.folder, self.steps, self.save_every = folder, steps, save_every
        self.keep_optimizer = keep_optimizer
        self.done, self.whole = 0, False  # finished steps; whether the tables end with them
        self._kept: int | None = None  # steps that the checkpoint holds
        self._lock, self._writer, self._board = lock, writer, None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder; calling it twice does no harm."""
        try:
            if self._board:
                self._board.close()
        finally:
            self._lock.release()

    def restore(self, state: dict) -> list[dict]:
        """Load the checkpoint into the objects of `state` and return the rows of the finished steps.

        The objects are loaded in place, by name. The models must be as when the run began, because loops copy
        the base model and the fixed teacher from them.

        Raises SdlabError when they are not, and when the checkpoint or a table is damaged.
        """
        path, start = self.folder / "checkpoint.pt", fingerprint(state)
        saved: dict[str, Any]
        if path.exists():
            saved = load_checkpoint(path)
            check_state(self.folder, saved, state, start)
        else:
            saved = {"steps": 0, "start": start}
        done, self._start = saved["steps"], start
        with uninterrupted():
            self._cut(done)
            rows = read_lines(self.folder / "steps.jsonl")
            if [row["step"] for row in rows] != list(range(done)):
                raise SdlabError(
                    f"{self.folder / 'steps.jsonl'} has {len(rows)} of the {done} steps of the checkpoint; "
                    "start again with --overwrite"
                )
            for name, thing in state.items() if "state" in saved else ():
                if name in saved["state"]:  # before the first step the optimizer is empty
                    thing.load_state_dict(saved["state"][name])
            self.done, self._kept, self.whole = done, done, True
            if "state" not in saved:
                self._save(0, state)  # so that an interrupted first step can be undone
        if self._writer and not self._board:
            self._board = self._writer(self.folder / "tensorboard", purge_step=self.done)
        return rows

    def save_step(self, row: dict, samples: list[dict], state: dict) -> None:
        """Append a step's row and samples, then replace the checkpoint.

        Raises SdlabError on a full disk; what was saved before stays.
        """
        if row["step"] != self.done:
            raise SdlabError(
                f"step {row['step']} does not follow the {self.done} finished steps of "
                f"{self.folder}; call restore first"
            )
        with uninterrupted(), self._whole_or_not():
            self._append("samples.jsonl", [{"step": row["step"], **sample} for sample in samples])
            self._append("steps.jsonl", [row])
            if (self.done + 1) % self.save_every == 0 or self.done + 1 == self.steps:
                self._save(self.done + 1, state)
            self.done += 1
        if self._board:
            for name, value in row.items():
                self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def settle(self, steps: int, state: dict) -> None:
        """Bring tables and checkpoint to the end of the first `steps` steps, whose weights `state` holds.

        For loops that drop an unfinished step, or stop between two checkpoints.
        """
        with uninterrupted():
            self.whole = False
            self._cut(steps)
            if self._kept != steps:
                self._save(steps, state)
            self.done, self.whole = steps, True

    def save_evaluation(self, step: int, split: str, sums: pandas.DataFrame) -> None:
        """Save the evaluation of a split after `step` steps: a frame with any columns.

        It replaces an evaluation of the same step and split.
        """
        new = {"step": step, "split": split, "sums": sums.to_dict("list")}
        with uninterrupted(), self._whole_or_not():
            rows = read_lines(self.folder / "evaluations.jsonl")
            places = [(row["step"], row["split"]) for row in rows]
            if (step, split) in places:
                rows[places.index((step, split))] = new
                self._rewrite("evaluations.jsonl", rows)
            else:
                self._append("evaluations.jsonl", [new])

    def finish(
        self,
        model: "PreTrainedModel | None" = None,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
    ) -> None:
        """Write the trained model, then finished.json; from then on the run is complete.

        Raises SdlabError when steps are missing.
        """
        self._check()
        if 0 < self.done < self.steps:
            raise SdlabError(
                f"the run in {self.folder} has {self.done} of {self.steps} steps; finish them first"
            )
        with uninterrupted():
            if model is not None:
                clear(self.folder, (), ("model",))
                with hide_progress(True), explain_write_errors(self.folder / "model"):
                    model.save_pretrained(self.folder / "model")
                    if tokenizer is not None:
                        tokenizer.save_pretrained(self.folder / "model")
            write_atomic(self.folder / "finished.json", to_json({"steps": self.done}) + "\n")

    def _check(self) -> None:
        if not self.whole:
            raise SdlabError(
                f"the last step of {self.folder} was not saved completely "
                "(interrupted, or restore was not called); "
                "start the run again to resume it"
            )

    @contextmanager
    def _whole_or_not(self) -> Generator[None]:
        """Block all further writes after an error inside, until restore or settle has repaired the tables."""
        self._check()
        self.whole = False
        yield
        self.whole = True

    def _append(self, name: str, rows: list[dict]) -> None:
        text = "".join(map(to_line, rows))
        with (
            explain_write_errors(self.folder / name),
            open(self.folder / name, "a", encoding="utf-8") as file,
        ):
            file.write(text)

    def _rewrite(self, name: str, rows: list[dict]) -> None:
        path, content = self.folder / name, "".join(map(to_line, rows)).encode()
        before = path.read_bytes() if path.exists() else None
        if before is not None and len(before) > len(content) and before.startswith(content):
            os.truncate(path, len(content))  # this works on a full disk, too
        elif before != content:
            write_atomic(path, content)

    def _cut(self, done: int) -> None:
        """Remove incomplete lines and rows of later steps than the first `done` from the tables."""
        for name in TABLES:
            # an evaluation after step k belongs to k finished steps, a row of step k to k + 1
            extra = 0 if name == "evaluations.jsonl" else 1
            rows = read_lines(self.folder / name)
            self._rewrite(name, [row for row in rows if row["step"] + extra <= done])

    def _save(self, done: int, state: dict) -> None:
        """Replace the checkpoint by one rename, without fsync.

        A killed process loses nothing that was written. A power failure might; restore would then report the
        damage.
        """
        content = checkpoint_content(done, self._start, state, self.keep_optimizer)
        path, scratch = self.folder / "checkpoint.pt", self.folder / ".checkpoint.pt"
        try:
            with explain_write_errors(path):
                with open(scratch, "wb") as file:
                    torch.save(content, file)
                self._kept = None  # until the rename has certainly happened
                os.replace(scratch, path)
                self._kept = done
        except SdlabError:
            scratch.unlink(missing_ok=True)
            raise
