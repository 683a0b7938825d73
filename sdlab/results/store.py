"""Write results to folders and read them."""

import gzip
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256 as hash_of
from pathlib import Path

import pandas
from filelock import FileLock, Timeout

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import files_below, sha256, to_json, write_atomic
from sdlab.results.result import ABOUT, PROBLEMS, QUESTION, SAMPLES, SUMMARY, Result, make_result


class held:
    """Lock a result's folder for this process inside a `with`.

    Raises SdlabError when another process holds the lock.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        if self.folder is None:
            return
        path = self.folder.with_name(f".{self.folder.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(path)
            self.lock.acquire(timeout=0)
        except Timeout:
            raise SdlabError(
                f"another process is evaluating into {self.folder}; wait for it or choose another folder"
            ) from None
        except OSError as error:
            raise SdlabError(
                f"could not write {path.parent}: {error.strerror}; choose another folder"
            ) from error
        recover(self.folder)

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.lock.release()


def check_same(folder: Path, model: str, benchmark: str, settings: dict, origin: dict) -> None:
    """Raise SdlabError unless the result in `folder` was made with these settings and weights."""
    if not (folder / ABOUT).is_file():
        raise SdlabError(f"{folder} holds no result; choose another folder")
    about = read_about(folder)
    requested = {"model": model, "benchmark": benchmark, **json.loads(json.dumps(settings))}
    saved = {"model": about["model"], "benchmark": about["benchmark"], **about["settings"]}
    differ = [
        f"{key} is {saved.get(key)!r} there and {requested.get(key)!r} here"
        for key in {**requested, **saved}
        if saved.get(key) != requested.get(key)
    ]
    then, now = (place.get("model_sha256") or {} for place in (about.get("provenance") or {}, origin))
    differ += [f"the model's {name} differs" for name in {**then, **now} if then.get(name) != now.get(name)]
    if differ:
        more = f"; and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise SdlabError(
            f"{folder} holds another result: {'; '.join(differ[:3])}{more}; "
            "choose another output or name, or use --overwrite"
        )


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Raise SdlabError when `folder` exists, unless overwrite, and then only when it holds a result."""
    if folder.exists() and not overwrite:
        raise SdlabError(f"{folder} exists already; choose another folder or use --overwrite")
    if folder.exists() and not (folder / ABOUT).is_file():
        raise SdlabError(f"{folder} holds no result, so it is not replaced; choose another folder")


def save_result(result: Result, folder: str | Path, overwrite: bool = False) -> Result:
    """Write `result` into `folder` and return it with its folder.

    The folder is complete or absent afterwards, whatever happens during the write.

    Raises SdlabError when the folder exists (unless overwrite, and then only for a result's folder) and when
    it cannot be written.
    """
    folder = Path(folder)
    recover(folder)
    refuse_existing(folder, overwrite)
    dropped = [*QUESTION, "model", "benchmark", "no_answer"]
    rows = result.samples.drop(columns=dropped, errors="ignore").to_dict("records")
    lines = "".join(to_json(row) + "\n" for row in rows)
    files = {
        SAMPLES: gzip.compress(lines.encode(), mtime=0),
        PROBLEMS: _csv(result.problems),
        SUMMARY: _csv(result.summary()),
    }
    about = {"model": result.model, "benchmark": result.benchmark, **result.about}
    about["sha256"] = {name: hash_of(content).hexdigest() for name, content in files.items()}
    partial, old = folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a write that was killed
        for name, content in [*files.items(), (ABOUT, to_json(about, indent=1) + "\n")]:
            write_atomic(partial / name, content)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise SdlabError(
            f"could not write {folder}: {error.strerror}; free some space or choose another folder"
        ) from error
    return load_result(folder)


def read_about(folder: str | Path) -> dict:
    """Return the content of result.json in a result's folder.

    Raises SdlabError when it is missing or damaged.
    """
    path = Path(folder) / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
        # a missing part raises KeyError
        _ = about["model"], about["benchmark"], about["settings"], about["notes"], about["length_unit"]
        _ = about["sha256"][SAMPLES], about["sha256"][PROBLEMS]
    except FileNotFoundError:
        raise SdlabError(
            f"{folder} holds no result ({ABOUT} is missing); "
            "name a folder that `sdlab evaluate` or `sdlab import` wrote"
        ) from None
    except OSError as error:
        raise SdlabError(f"cannot read {path}: {error.strerror}; check its rights") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SdlabError(
            f"{path} is damaged or does not belong to a result; make the result again with --overwrite"
        ) from error
    return about


def load_result(folder: str | Path) -> Result:
    """Return the result in `folder`.

    Raises SdlabError when there is none, and when a file is damaged (its sha256 differs).
    """
    folder = Path(folder)
    about = read_about(folder)
    for name, expected in about["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise SdlabError(f"{folder / name} is missing or damaged; make the result again with --overwrite")
    with gzip.open(folder / SAMPLES, "rt", encoding="utf-8") as file:
        samples = pandas.DataFrame([json.loads(line) for line in file])
    texts = pandas.read_csv(folder / PROBLEMS, dtype=str, keep_default_na=False)  # "NA" and "007" are answers
    return replace(make_result(about["model"], about["benchmark"], samples, texts, about), folder=folder)


def recover(folder: Path) -> None:
    """Put back a result whose replacement was killed between the two renames of `save_result`."""
    old = folder.with_name(f".{folder.name}.old")
    if old.is_dir() and not folder.exists():
        os.rename(old, folder)


def load_results(folders: Sequence[str | Path]) -> list[Result]:
    """Return every result in `folders` and in their subfolders, in order.

    Raises SdlabError when a folder has none, and when a result is damaged.
    """
    results = []
    for folder in map(paths.given, folders):
        below = files_below(folder) if folder.is_dir() else []
        inside = sorted(path.parent for path in below if path.name == ABOUT)
        if not inside:
            raise SdlabError(
                f"no result in {folder}; name a folder that `sdlab evaluate` or `sdlab import` wrote"
            )
        results += inside
    return [load_result(folder) for folder in dict.fromkeys(results)]


def _csv(frame: pandas.DataFrame) -> bytes:
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode()
