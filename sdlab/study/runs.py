"""Run folders: a training run that can be killed at any moment and goes on exactly where it was.

    config.json         method, model, settings, versions, the model's sha256: what makes this run this run
    steps.jsonl         one row per step (sdlab.train.log)
    samples.jsonl       some completions of every step
    evaluations.jsonl   one line per evaluation: step, split, and the sums per problem
    checkpoint.pt       weights, optimizer and the number of finished steps
    model/              the trained model in Hugging Face format, and finished.json, written last

The checkpoint alone says how many steps are finished. Tables are appended first and the checkpoint is replaced last, in
one rename, so whatever a table holds beyond the checkpoint belongs to a step that never finished and is cut off when the
run goes on. A resumed run ends with the same weights and tables as an uninterrupted one; only times differ.
"""

import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas
import torch
from filelock import FileLock, Timeout

from sdlab.errors import SdlabError, unknown
from sdlab.files import write_atomic
from sdlab.rollout.loading import quiet
from sdlab.study.provenance import provenance

TABLES = ("steps.jsonl", "samples.jsonl", "evaluations.jsonl")
FILES = ("config.json", *TABLES, "checkpoint.pt", ".checkpoint.pt", "finished.json", ".lock")
FOLDERS = ("model", "tensorboard")
EXTENDABLE = ("steps",)  # settings that may change when a run goes on: more of the same
SAME = ("sdlab", "model_sha256")  # parts of the provenance that must not differ
TRACKERS = ("tensorboard",)


def open_run(folder, config, *, method: str, model: str, settings=None, resume: bool = True, overwrite: bool = False, tracker: str | None = None, save_every: int = 1) -> "Run":
    """The run in `folder`, new or to be continued; use it in a `with`.

    config, settings: dataclasses that, with method and model, must equal those of the run that is there (but for
    EXTENDABLE). save_every: steps between checkpoints; a kill loses at most so many. tracker: "tensorboard" or nothing.
    Raises SdlabError when the folder holds another run, a finished one (unless overwrite), an unfinished one (unless
    resume or overwrite), or files that no run makes; and when another process is writing it.
    """
    folder = Path(folder)
    if tracker is not None and tracker not in TRACKERS:
        raise unknown("tracker", tracker, TRACKERS)
    wanted = {"method": method, "model": model, "config": asdict(config), "settings": asdict(settings) if settings else {}}
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as they will when read again
    foreign = [p.name for p in folder.iterdir() if p.name not in (*FILES, *FOLDERS) and not p.name.startswith(".config.json.")] if folder.is_dir() else []
    if foreign:
        raise SdlabError(f"{folder} holds files that no run makes ({', '.join(sorted(foreign)[:3])}); choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SdlabError(f"another process is writing the run in {folder}; wait for it or choose another folder") from None
    try:
        if overwrite:
            _clear(folder)
        there = (folder / "config.json").exists()
        if there:
            _compare(folder, wanted)
            if (folder / "finished.json").exists() and _read(folder / "finished.json")["steps"] >= wanted["config"].get("steps", 0):
                raise SdlabError(f"the run in {folder} is finished; read it with load_run, or write it anew with --overwrite")
            if not resume:
                raise SdlabError(f"{folder} holds an unfinished run; go on with it (--resume) or write it anew (--overwrite)")
        wanted["provenance"] = provenance(model=model, seed=getattr(config, "seed", None))
        if there:
            wanted["provenance"] = _read(folder / "config.json")["provenance"]
        write_atomic(folder / "config.json", json.dumps(wanted, indent=1) + "\n")
        (folder / "finished.json").unlink(missing_ok=True)  # an extended run is not finished
    except BaseException:
        lock.release()
        raise
    return Run(folder, lock, tracker, save_every)


class Run:
    """A run that is being written. Loops call restore once and save_step after every step."""

    def __init__(self, folder: Path, lock: FileLock, tracker: str | None, save_every: int):
        self.folder, self.lock, self.save_every = folder, lock, save_every
        self.steps_done = 0
        self.writer = _summary_writer(folder) if tracker == "tensorboard" else None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; harmless when done twice."""
        if self.writer:
            self.writer.close()
        self.lock.release()

    def restore(self, state: dict) -> list[dict]:
        """Load the checkpoint into the objects of `state` (by name, in place); returns the rows of the finished steps."""
        path, saved = self.folder / "checkpoint.pt", {"steps": 0}
        if path.exists():
            try:
                saved = torch.load(path, map_location="cpu", weights_only=True)
                for name, thing in state.items():
                    thing.load_state_dict(saved["state"][name])
            except Exception as error:  # whatever a damaged file makes torch say
                raise SdlabError(f"the checkpoint {path} is damaged ({type(error).__name__}); start again with --overwrite") from error
        self.steps_done = saved["steps"]
        for name in TABLES:
            table = self.folder / name
            # an evaluation after step k belongs to k finished steps, a row of step k to k + 1
            kept = [row for row in _lines(table) if row["step"] + (name != "evaluations.jsonl") <= self.steps_done]
            write_atomic(table, "".join(json.dumps(row) + "\n" for row in kept))
        return _lines(self.folder / "steps.jsonl")

    def save_step(self, row: dict, samples: list[dict], state: dict) -> None:
        """Append a step's row and samples, then replace the checkpoint. Raises SdlabError on a full disk; what was saved before stays."""
        self._append("samples.jsonl", samples)
        self._append("steps.jsonl", [row])
        if self.writer:
            for name, value in row.items():
                self.writer.add_scalar(name, value, row["step"])
        done = row["step"] + 1
        if done % self.save_every == 0:
            self._save({"steps": done, "state": {name: thing.state_dict() for name, thing in state.items()}})
            self.steps_done = done

    def save_evaluation(self, step: int, split: str, sums: pandas.DataFrame) -> None:
        """Append the evaluation of a split after `step` steps; a later one of the same step and split takes its place."""
        self._append("evaluations.jsonl", [{"step": step, "split": split, "sums": sums.to_dict("list")}])

    def finish(self, model=None, tokenizer=None) -> None:
        """Write the trained model, then finished.json: from now on the run is complete."""
        if model is not None:
            shutil.rmtree(self.folder / "model", ignore_errors=True)
            with quiet(True):
                model.save_pretrained(self.folder / "model")
                tokenizer.save_pretrained(self.folder / "model")
        write_atomic(self.folder / "finished.json", json.dumps({"steps": self.steps_done}) + "\n")

    def _append(self, name: str, rows: list[dict]) -> None:
        try:
            with open(self.folder / name, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise SdlabError(f"could not write {self.folder / name}: {error.strerror}; free some space and run again") from error

    def _save(self, content: dict) -> None:
        """One rename, no fsync: a killed process loses nothing that was written; a power cut might."""
        scratch, data = self.folder / ".checkpoint.pt", io.BytesIO()
        torch.save(content, data)
        try:
            scratch.write_bytes(data.getbuffer())
            os.replace(scratch, self.folder / "checkpoint.pt")
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise SdlabError(f"could not write {self.folder / 'checkpoint.pt'}: {error.strerror}; free some space and run again") from error


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds. evaluations: step, split, problem_id and the sums per problem; None without any."""

    folder: Path
    method: str
    config: dict
    settings: dict
    provenance: dict
    steps: pandas.DataFrame
    evaluations: pandas.DataFrame | None
    finished: bool

    def samples(self) -> pandas.DataFrame:
        """The completions kept: step, problem_id, prompt, completion, reward."""
        return pandas.DataFrame(_lines(self.folder / "samples.jsonl"))


def load_run(folder) -> LoadedRun:
    """Read a run folder, finished or not. Raises SdlabError when there is none."""
    folder = Path(folder)
    about = _read(folder / "config.json")
    latest = {(row["step"], row["split"]): row["sums"] for row in _lines(folder / "evaluations.jsonl")}
    frames = [pandas.DataFrame(sums).assign(step=step, split=split) for (step, split), sums in latest.items()]
    return LoadedRun(
        folder, about["method"], about["config"], about["settings"], about["provenance"], pandas.DataFrame(_lines(folder / "steps.jsonl")),
        pandas.concat(frames, ignore_index=True) if frames else None, (folder / "finished.json").exists(),
    )  # fmt: skip


def find_runs(root) -> list[Path]:
    """Folders of runs anywhere under `root`, sorted."""
    return sorted(path.parent for path in Path(root).rglob("config.json") if (path.parent / "steps.jsonl").exists())


def _lines(path: Path) -> list[dict]:
    """The whole lines of a table; a last line that a kill cut short is no line."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise SdlabError(f"{path.parent} holds no run ({path.name} is missing)") from None
    except (OSError, ValueError) as error:
        raise SdlabError(f"{path} cannot be read ({error}); start again with --overwrite") from error


def _compare(folder: Path, wanted: dict) -> None:
    """Raise SdlabError unless the run in `folder` is of the same settings and made from the same model."""
    there = _read(folder / "config.json")
    fields = [(part, name) for part in ("config", "settings") for name in {*there.get(part, {}), *wanted[part]} if name not in EXTENDABLE]
    differ = [f"{name} {there[part].get(name)!r} there, {wanted[part].get(name)!r} here" for part, name in sorted(fields) if there[part].get(name) != wanted[part].get(name)]
    differ += [f"{name} {there.get(name)!r} there, {wanted[name]!r} here" for name in ("method", "model") if there.get(name) != wanted[name]]
    now = provenance(model=wanted["model"])
    differ += [f"another {name}" for name in SAME if there["provenance"].get(name) != now[name]]
    if differ:
        raise SdlabError(f"{folder} holds another run: {'; '.join(differ[:4])}; choose another folder or use --overwrite")


def _clear(folder: Path) -> None:
    """Remove what a run makes, and nothing else."""
    for name in FILES:
        if name != ".lock":
            (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def _summary_writer(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SdlabError("the tracker tensorboard is not installed; run `pip install tensorboard`") from None
    return SummaryWriter(folder / "tensorboard")
