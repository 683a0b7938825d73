"""The files of a run folder: read, write, lock and remove them, and report damage."""

import json
import os
from collections.abc import Collection, Container, Generator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from sdlab.errors import SdlabError
from sdlab.files import from_json, to_json

TABLES = ("steps.jsonl", "samples.jsonl", "evaluations.jsonl")
# in the order in which overwriting removes them
FILES = ("finished.json", "checkpoint.pt", *TABLES, "config.json")
# the folders of a run, and the files that it puts there
FOLDERS = {
    "model": (
        "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
        "tokenizer*", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.*",
        "merges.txt", "*.model",
    ),
    "tensorboard": ("events.out.tfevents.*",),
}  # fmt: skip


def read_about(folder: Path) -> dict:
    """Return a run's config.json.

    Raises SdlabError when it is missing or damaged, and when it does not belong to a run.
    """
    path = folder / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SdlabError(
            f"{folder} holds no run (config.json is missing); name the folder of a run"
        ) from None
    except (OSError, ValueError) as error:
        raise SdlabError(
            f"{path} cannot be read ({error}); write the run anew with --overwrite, or choose another folder"
        ) from error
    if not isinstance(about, dict) or not {"method", "model", "config", "settings", "provenance"} <= set(
        about
    ):
        raise SdlabError(f"{path} does not belong to a run; choose another folder")
    return about


def refuse_foreign(folder: Path, overwrite: bool) -> None:
    """Raise SdlabError when `folder` is a file, or holds files but no run."""
    if folder.exists() and not folder.is_dir():
        raise SdlabError(f"{folder} is a file; choose a folder for the run")
    if (folder / "config.json").exists():
        try:
            read_about(folder)
        except SdlabError as error:
            # otherwise the file belongs to something else
            damaged = error.__cause__ is not None and (folder / "steps.jsonl").exists()
            if not (overwrite and damaged):
                raise
    elif folder.is_dir():
        foreign = sorted(
            path.name for path in folder.iterdir() if path.name != ".lock" and not is_scratch(path)
        )
        if foreign:
            raise SdlabError(
                f"{folder} holds files but no run ({', '.join(foreign[:3])}{' ...' if foreign[3:] else ''}); "
                "choose another folder"
            )


def is_scratch(path: Path) -> bool:
    """Return whether the file may be half-written by a process that was killed."""
    return path.name.startswith(tuple(f".{name}" for name in FILES))


def lock_folder(folder: Path, lock: FileLock) -> None:
    """Lock `folder` for this process.

    Raises SdlabError when another process, or another run in this process, holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        pid = ""
        with suppress(OSError):
            pid = (folder / ".lock").read_text()
        if pid == str(os.getpid()):
            raise SdlabError(f"the run in {folder} is still open in this process; close() it first") from None
        raise SdlabError(
            f"another process{pid and f' ({pid})'} is writing the run in {folder}; "
            "wait for it or choose another folder"
        ) from None
    except OSError as error:
        raise SdlabError(f"could not write {folder}: {error.strerror}; choose another folder") from error
    with suppress(OSError):  # Windows does not allow writing a locked file
        (folder / ".lock").write_text(str(os.getpid()))


def clear(folder: Path, files: Collection[str], folders: Container[str]) -> None:
    """Remove the files that a run makes, and no others."""
    for name in files:
        (folder / name).unlink(missing_ok=True)
    for path in [*folder.iterdir()]:
        if files and path.is_file() and is_scratch(path):
            path.unlink()
        elif path.name in folders and path.is_dir() and not path.is_symlink():
            for pattern in FOLDERS[path.name]:
                for file in path.glob(pattern):
                    file.unlink()
            with suppress(OSError):  # other files are there
                path.rmdir()


def to_line(row: dict) -> str:
    """Return a row as a line of a table."""
    return to_json(row) + "\n"


def read_lines(path: Path) -> list[dict]:
    """Return the complete lines of a table; a last line that was cut short by a kill is ignored.

    Raises SdlabError on any other damage.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], 1):
        try:
            rows.append(from_json(line))
            rows[-1]["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            raise SdlabError(f"line {number} of {path} is damaged; start again with --overwrite") from error
    return rows


def load_checkpoint(path: Path) -> dict:
    """Return the checkpoint.

    Raises SdlabError when the file is damaged. zipfile verifies the checksums stored with its tensors; torch
    does not.
    """
    try:
        with ZipFile(path) as file:
            if file.testzip():
                raise ValueError
        saved = torch.load(path, map_location="cpu", weights_only=True)
        saved["steps"], saved["state"]
    except Exception as error:  # a damaged file makes torch raise any kind of error
        raise SdlabError(
            f"the checkpoint {path} is damaged ({type(error).__name__}); start again with --overwrite"
        ) from error
    return saved


def fingerprint(state: dict) -> str:
    """Return the sha256 of all tensors of the models in `state`."""
    digest = sha256()
    for name, thing in state.items():
        for key, tensor in thing.state_dict().items() if isinstance(thing, torch.nn.Module) else ():
            digest.update(f"{name} {key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def explain_write_errors(path: Path) -> Generator[None]:
    """Turn a write error of the system into a one-line SdlabError; other errors pass through."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch wraps the system's error
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        if not isinstance(cause, (OSError, SafetensorError)):
            raise
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise SdlabError(
            f"could not write {path}: {reason}; what was saved before is kept; free some space and run again"
        ) from error
