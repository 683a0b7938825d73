"""Run folders: a training run that can be killed at any moment and goes on exactly where it was.

    config.json         method, model, settings, versions, the model's sha256: what makes this run this run
    steps.jsonl         one row per step (sdlab.train.log)
    samples.jsonl       some completions of every step
    evaluations.jsonl   one line per evaluation: step, split, and the sums per problem
    checkpoint.pt       weights, optimizer and the number of finished steps
    model/              the trained model in Hugging Face format; finished.json, written last, says that the run is complete

The checkpoint alone says how many steps are finished. Tables are appended first and the checkpoint is replaced last, in
one rename, so whatever a table holds beyond the checkpoint belongs to a step that never finished and is cut off when the
run goes on. A resumed run ends with the same weights and tables as an uninterrupted one; only the columns of seconds differ.
"""

import json
import os
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pandas
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from sdlab.errors import SdlabError, unknown
from sdlab.files import write_atomic
from sdlab.rollout.loading import quiet
from sdlab.study.provenance import LIBRARIES, provenance

TABLES = ("steps.jsonl", "samples.jsonl", "evaluations.jsonl")
FILES = ("finished.json", "checkpoint.pt", *TABLES, "config.json")  # in the order in which overwriting removes them
FOLDERS = {  # and what a run puts there
    "model": ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "chat_template.jinja",
              "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    "tensorboard": ("events.out.tfevents.*",),
}  # fmt: skip
EXTENDABLE = ("steps",)  # settings that may grow when a run goes on: no schedule depends on them
TRACKERS = ("tensorboard",)


def open_run(folder, config, *, method: str, model: str, settings=None, resume: bool = True, overwrite: bool = False, tracker: str | None = None, save_every: int = 1) -> "Run":
    """The run in `folder`, new or to be continued; use it in a `with`.

    config, settings: dataclasses that, with method and model, must equal those of the run that is there; only EXTENDABLE may
    be raised, also of a finished run (which keeps its last evaluations). save_every: steps between checkpoints; a kill loses
    at most so many. tracker: "tensorboard" or nothing. overwrite removes the files of the run that is there and no others.
    Raises SdlabError when the folder holds another run, a finished one (unless overwrite), an unfinished one (unless resume
    or overwrite), or no run but other files; when another process is writing it; and when the tracker is not installed.
    """
    folder = Path(folder)
    if save_every < 1:
        raise SdlabError(f"save_every={save_every} is not allowed; it must be at least 1")
    writer = _summary_writer(tracker)
    wanted = {"method": method, "model": model, "config": asdict(config), "settings": asdict(settings) if settings else {}}
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as they will when read again
    wanted["provenance"] = provenance(model=model, seed=getattr(config, "seed", None))
    _refuse_foreign(folder, overwrite)  # before anything is written there
    lock = _lock(folder)
    try:
        _begin(folder, wanted, resume, overwrite)
    except BaseException:
        lock.release()
        raise
    return Run(folder, lock, wanted["config"].get("steps", 0), writer, save_every)


class Run:
    """A run that is being written. Loops call restore once and save_step after every step."""

    def __init__(self, folder: Path, lock: FileLock, steps: int, writer, save_every: int):
        self.folder, self.steps, self.save_every = folder, steps, save_every
        self.done, self.whole = 0, False  # finished steps; whether the tables end with them
        self._lock, self._writer, self._board = lock, writer, None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; harmless when done twice."""
        if self._board:
            self._board.close()
        self._lock.release()

    def restore(self, state: dict) -> list[dict]:
        """Load the checkpoint into the objects of `state` (by name, in place); returns the rows of the finished steps.

        The models handed over must be as when the run began: loops copy the base model and the fixed teacher from them.
        Raises SdlabError when they are not, and when checkpoint or tables are damaged.
        """
        path, start = self.folder / "checkpoint.pt", _fingerprint(state)
        if path.exists():
            saved = _load(path)
            if set(saved["state"]) != set(state):
                raise SdlabError(f"{path} holds {sorted(saved['state'])}, not {sorted(state)}; it is of another version of sdlab; use --overwrite")
            if saved.get("start", start) != start:
                raise SdlabError(f"the model is not as it was when the run in {self.folder} began (trained since, or another dtype); load it again")
            for name, thing in state.items():
                thing.load_state_dict(saved["state"][name])
        else:
            saved = {"steps": 0, "start": start}
        self.done, self._start = saved["steps"], start
        for name in TABLES:
            # an evaluation after step k belongs to k finished steps, a row of step k to k + 1
            extra = 0 if name == "evaluations.jsonl" else 1
            self._rewrite(name, [row for row in _lines(self.folder / name) if row["step"] + extra <= self.done])
        rows = _lines(self.folder / "steps.jsonl")
        if [row["step"] for row in rows] != list(range(self.done)):
            raise SdlabError(f"{self.folder / 'steps.jsonl'} has {len(rows)} of the {self.done} steps of the checkpoint; start again with --overwrite")
        self.whole = True
        if not path.exists():
            self._save(0, state)  # so that an interrupted first step can be undone
        if self._writer and not self._board:
            self._board = self._writer(self.folder / "tensorboard", purge_step=self.done)
        return rows

    def save_step(self, row: dict, samples: list[dict], state: dict) -> None:
        """Append a step's row and samples, then replace the checkpoint. Raises SdlabError on a full disk; what was saved before stays."""
        if row["step"] != self.done:
            raise SdlabError(f"step {row['step']} does not follow the {self.done} finished steps of {self.folder}; call restore first")
        with self._whole_or_not():
            self._append("samples.jsonl", [{"step": row["step"], **sample} for sample in samples])
            self._append("steps.jsonl", [row])
            if (self.done + 1) % self.save_every == 0 or self.done + 1 == self.steps:
                self._save(self.done + 1, state)
            self.done += 1
        if self._board:
            for name, value in row.items():
                self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def save_evaluation(self, step: int, split: str, sums: pandas.DataFrame) -> None:
        """Keep the evaluation of a split after `step` steps: a frame of any columns. It takes the place of one of the same step and split."""
        new = {"step": step, "split": split, "sums": sums.to_dict("list")}
        with self._whole_or_not():
            rows = _lines(self.folder / "evaluations.jsonl")
            places = [(row["step"], row["split"]) for row in rows]
            if (step, split) in places:
                rows[places.index((step, split))] = new
                self._rewrite("evaluations.jsonl", rows)
            else:
                self._append("evaluations.jsonl", [new])

    def finish(self, model=None, tokenizer=None) -> None:
        """Write the trained model, then finished.json: from now on the run is complete. Raises SdlabError when steps are missing."""
        self._check()
        if 0 < self.done < self.steps:
            raise SdlabError(f"the run in {self.folder} has {self.done} of {self.steps} steps; finish them first")
        if model is not None:
            _clear(self.folder, (), ("model",))
            with quiet(True), _told(self.folder / "model"):
                model.save_pretrained(self.folder / "model")
                if tokenizer is not None:
                    tokenizer.save_pretrained(self.folder / "model")
        write_atomic(self.folder / "finished.json", json.dumps({"steps": self.done}) + "\n")

    def _check(self) -> None:
        if not self.whole:
            raise SdlabError(f"the last step of {self.folder} was not saved whole (interrupted, or restore was not called); start the run again to go on")

    @contextmanager
    def _whole_or_not(self):
        """After an error or Ctrl-C inside, nothing more is written before restore has put the tables right."""
        self._check()
        self.whole = False
        yield
        self.whole = True

    def _append(self, name: str, rows: list[dict]) -> None:
        text = "".join(map(_line, rows))
        with _told(self.folder / name), open(self.folder / name, "a", encoding="utf-8") as file:
            file.write(text)

    def _rewrite(self, name: str, rows: list[dict]) -> None:
        path, text = self.folder / name, "".join(map(_line, rows))
        if not path.exists() or path.read_bytes() != text.encode():
            write_atomic(path, text)

    def _save(self, done: int, state: dict) -> None:
        """One rename, no fsync: a killed process loses nothing that was written; a power cut might, and restore would say so."""
        content = {"steps": done, "start": self._start, "state": {name: thing.state_dict() for name, thing in state.items()}}
        path, scratch = self.folder / "checkpoint.pt", self.folder / ".checkpoint.pt"
        try:
            with _told(path):
                with open(scratch, "wb") as file:
                    torch.save(content, file)
                os.replace(scratch, path)
        except SdlabError:
            scratch.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds. evaluations: step, split, problem_id and the sums per problem; None without any.

    An unfinished run's tables may be ahead of its checkpoint: those steps are made again, equal, when it goes on.
    """

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
    """Read a run folder, finished or not. Raises SdlabError when there is none and when a table is damaged."""
    folder = Path(folder)
    about = _about(folder)
    latest = {(row["step"], row["split"]): row["sums"] for row in _lines(folder / "evaluations.jsonl")}
    frames = [pandas.DataFrame(sums).assign(step=step, split=split) for (step, split), sums in latest.items()]
    return LoadedRun(
        folder, about["method"], about["config"], about["settings"], about["provenance"], pandas.DataFrame(_lines(folder / "steps.jsonl")),
        pandas.concat(frames, ignore_index=True) if frames else None, (folder / "finished.json").exists(),
    )  # fmt: skip


def find_runs(root) -> list[Path]:
    """Folders of runs, finished or not, anywhere under `root`, sorted."""
    found = []
    for path in Path(root).rglob("config.json"):
        with suppress(SdlabError):
            _about(path.parent)
            found.append(path.parent)
    return sorted(found)


def _begin(folder: Path, wanted: dict, resume: bool, overwrite: bool) -> None:
    """Write config.json, unless the run that is there goes on as it is."""
    path = folder / "config.json"
    if path.exists() and not overwrite:
        there = _about(folder)
        _compare(folder, there, wanted)
        longer = any(there["config"].get(name) != wanted["config"].get(name) for name in EXTENDABLE)
        if (folder / "finished.json").exists() and not longer:
            raise SdlabError(f"the run in {folder} is finished; read it with load_run, or write it anew with --overwrite")
        if not resume:
            raise SdlabError(f"{folder} holds a run that can go on; do so with --resume, or write it anew with --overwrite")
        if not longer:
            return
        (folder / "finished.json").unlink(missing_ok=True)  # first: a longer run is not finished
        wanted = wanted | {"provenance": there["provenance"]}
    elif path.exists():
        _clear(folder, FILES[:-1], FOLDERS)  # all but config.json: killed here, it is still a run, of no steps
    write_atomic(path, json.dumps(wanted, indent=1) + "\n")


def _compare(folder: Path, there: dict, wanted: dict) -> None:
    """Raise SdlabError unless the run in `folder` is of the same settings and made from the same model."""
    differ = []

    def compare(name, a, b, fine=False):
        if a != b and not fine:
            differ.append(f"{name} is {a!r} there and {b!r} here")

    for name in ("method", "model"):
        compare(name, there[name], wanted[name])
    for part in ("config", "settings"):
        for name in sorted({*there[part], *wanted[part]}):
            a, b = there[part].get(name), wanted[part].get(name)
            compare(name, a, b, part == "config" and name in EXTENDABLE and None not in (a, b) and a < b)
    then, now = there["provenance"], wanted["provenance"]
    compare("sdlab", then.get("sdlab"), now["sdlab"])
    then_files, now_files = then.get("model_sha256") or {}, now["model_sha256"] or {}
    for name in sorted({*then_files, *now_files}):
        compare(f"sha256 of the model's {name}", then_files.get(name, "nothing")[:12], now_files.get(name, "nothing")[:12])
    if differ:
        more = f"; and {len(differ) - 4} more" if len(differ) > 4 else ""
        raise SdlabError(f"{folder} holds another run: {'; '.join(differ[:4])}{more}; choose another folder or use --overwrite")
    other = [f"{name} {now[name]} (begun with {then.get(name)})" for name in LIBRARIES if then.get(name) != now[name]]
    if other:
        warnings.warn(f"the run in {folder} goes on with {', '.join(other)}; its numbers may differ from an uninterrupted run's", stacklevel=4)


def _about(folder: Path) -> dict:
    """A run's config.json. Raises SdlabError when there is none, and when it is damaged or of something else."""
    path = folder / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SdlabError(f"{folder} holds no run (config.json is missing)") from None
    except (OSError, ValueError) as error:
        raise SdlabError(f"{path} cannot be read ({error}); write the run anew with --overwrite, or choose another folder") from error
    if not isinstance(about, dict) or not {"method", "model", "config", "settings", "provenance"} <= set(about):
        raise SdlabError(f"{path} is not a run's; choose another folder")
    return about


def _refuse_foreign(folder: Path, overwrite: bool) -> None:
    """Raise SdlabError when `folder` is a file, or holds files but no run."""
    if folder.exists() and not folder.is_dir():
        raise SdlabError(f"{folder} is a file; choose a folder for the run")
    if (folder / "config.json").exists():
        try:
            _about(folder)
        except SdlabError as error:
            damaged = error.__cause__ is not None and (folder / "steps.jsonl").exists()  # else it is something else's
            if not (overwrite and damaged):
                raise
    elif folder.is_dir():
        foreign = sorted(path.name for path in folder.iterdir() if path.name != ".lock" and not _scratch(path))
        if foreign:
            raise SdlabError(f"{folder} holds files but no run ({', '.join(foreign[:3])}{' ...' if foreign[3:] else ''}); choose another folder")


def _scratch(path: Path) -> bool:
    """Whether a kill may have left this half-written file."""
    return path.name.startswith(tuple(f".{name}" for name in FILES))


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        pid = ""
        with suppress(OSError):
            pid = (folder / ".lock").read_text()
        if pid == str(os.getpid()):
            raise SdlabError(f"the run in {folder} is still open in this process; close() it first") from None
        raise SdlabError(f"another process{pid and f' ({pid})'} is writing the run in {folder}; wait for it or choose another folder") from None
    except OSError as error:
        raise SdlabError(f"could not write {folder}: {error.strerror}; choose another folder") from error
    with suppress(OSError):  # Windows lets nobody write a locked file
        (folder / ".lock").write_text(str(os.getpid()))
    return lock


def _clear(folder: Path, files, folders) -> None:
    """Remove what a run makes, and nothing else."""
    for name in files:
        (folder / name).unlink(missing_ok=True)
    for path in [*folder.iterdir()]:
        if files and path.is_file() and _scratch(path):
            path.unlink()
        elif path.name in folders and path.is_dir() and not path.is_symlink():
            for pattern in FOLDERS[path.name]:
                for made in path.glob(pattern):
                    made.unlink()
            with suppress(OSError):  # something else lies there
                path.rmdir()


def _line(row: dict) -> str:
    return json.dumps(row, default=lambda number: number.item()) + "\n"  # numpy's numbers, too


def _lines(path: Path) -> list[dict]:
    """The whole lines of a table; a last line that a kill cut short is no line. Raises SdlabError on any other damage."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], 1):
        try:
            rows.append(json.loads(line))
            rows[-1]["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            raise SdlabError(f"line {number} of {path} is damaged; start again with --overwrite") from error
    return rows


def _load(path: Path) -> dict:
    """The checkpoint. torch does not look at the sums stored with its tensors, zipfile does."""
    try:
        with ZipFile(path) as file:
            if file.testzip():
                raise ValueError
        saved = torch.load(path, map_location="cpu", weights_only=True)
        saved["steps"], saved["state"]
    except Exception as error:  # whatever a damaged file makes torch say
        raise SdlabError(f"the checkpoint {path} is damaged ({type(error).__name__}); start again with --overwrite") from error
    return saved


def _fingerprint(state: dict) -> str:
    """sha256 of all tensors of the models in `state`."""
    found = sha256()
    for name, thing in state.items():
        for key, tensor in thing.state_dict().items() if isinstance(thing, torch.nn.Module) else ():
            found.update(f"{name} {key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


@contextmanager
def _told(path: Path):
    """A write that the system refuses becomes one line; any other error stays what it is."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch wraps what the system said
        if not isinstance(cause, (OSError, SafetensorError)):
            raise
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise SdlabError(f"could not write {path}: {reason}; what was saved before is kept; free some space and run again") from error


def _summary_writer(tracker: str | None):
    """TensorBoard's writer class, imported only when wanted."""
    if tracker is None:
        return None
    if tracker not in TRACKERS:
        raise unknown("tracker", tracker, TRACKERS)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SdlabError("the tracker tensorboard is not installed; run `pip install tensorboard`") from None
    return SummaryWriter
