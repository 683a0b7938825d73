"""Read the rows of a benchmark from a local file or from the hub."""

import glob
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sdlab import paths
from sdlab.benchmarks.catalogue import BENCHMARKS, DAPO, Benchmark
from sdlab.errors import MissingPackage, SdlabError

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}
HIDDEN = "private_test_cases"  # base64 of zlib of a pickle: dropped unread
_NO_DATA = "corresponds to no data"  # what datasets says of a table without rows


def local_file(benchmark: Benchmark, split: str, source: str | Path | None) -> Path | None:
    """Return the file to read, None when there is none.

    Raises SdlabError when `source` does not exist, and when it is a folder without the benchmark's file.
    """
    name = benchmark.files[split]
    if source is None:
        return paths.real_data(name)
    source = Path(source)
    if source.is_dir():
        if (source / name).is_file():
            return source / name
        if benchmark.drawn and (source / BENCHMARKS[DAPO].files["train"]).is_file():
            return None
        raise SdlabError(
            f"{source} holds no {name}, which {benchmark.name} ({split}) is read from; "
            "rename the file to that, or give the file itself"
        )
    if not source.is_file():
        raise SdlabError(
            f"no file or folder {source}; "
            f"give a parquet, json or jsonl file of {benchmark.name}, or a folder that holds {name}"
        )
    if source.suffix.lower() not in BUILDERS:
        raise SdlabError(
            f"{source.name} is not read as a benchmark; give a file ending in {', '.join(BUILDERS)}"
        )
    return source


def missing_libraries() -> str:
    """Return which packages of the extra `data` are missing and how to install them, "" when all are here."""
    missing = [name for name in ("datasets", "pyarrow") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f'benchmarks need {" and ".join(missing)}; install with: pip install "sdlab[data]"'


def need_libraries() -> None:
    """Raise MissingPackage when a package of the extra `data` is missing."""
    message = missing_libraries()
    if message:
        raise MissingPackage(message)


def rows_from_file(file: Path) -> tuple["Dataset", str, tuple[str, ...]]:
    """Return the rows of a local file, its path, and notes on it.

    Raises SdlabError when the file is empty or cannot be read, and when a package is missing.
    """
    need_libraries()
    import datasets

    from sdlab.benchmarks.recorded import load_record, record_path
    from sdlab.files import sha256

    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(
            BUILDERS[file.suffix.lower()], data_files=glob.escape(str(file)), split="train"
        )
    except Exception as error:  # pyarrow, pandas and datasets each raise their own
        cause = error.__cause__ or error
        if not file.stat().st_size or _NO_DATA in str(cause):
            raise SdlabError(f"{file} is empty; give a file with at least one problem") from error
        raise SdlabError(f"cannot read {file}: {one_line(cause)}; it may be damaged or cut off") from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    known = load_record()["files"].get(file.name) if record_path().is_file() else None
    notes = (
        ()
        if known is None
        else (
            ("the study's file, byte for byte",)
            if sha256(file) == known
            else ("differs from the study's file of that name",)
        )
    )
    return cast("Dataset", table), str(file), notes  # split= selects one table


def rows_from_hub(benchmark: Benchmark) -> tuple["Dataset", str, tuple[str, ...]]:
    """Return the rows of a benchmark from the hub at its pinned commit, their address, and notes.

    Raises SdlabError when the hub cannot be reached, when a cache holds another commit, and when a package is
    missing.
    """
    if not benchmark.repo:
        names = " or ".join(benchmark.files.values())
        raise SdlabError(
            f"{benchmark.name} is on no hub; give source= a folder with {names} (from {benchmark.origin})"
        )
    need_libraries()
    import datasets

    from sdlab.hub import cache_if_unreachable

    unreachable = None
    try:
        with cache_if_unreachable(benchmark.repo) as unreachable:
            if benchmark.hub_file:
                address = f"hf://datasets/{benchmark.hub}"
                table = datasets.load_dataset(
                    BUILDERS[Path(benchmark.hub_file).suffix], data_files=address, split="train"
                )
            else:
                table = datasets.load_dataset(
                    benchmark.repo, benchmark.config, split=benchmark.hub_split, revision=benchmark.revision
                )
    except Exception as error:  # requests, httpx, huggingface_hub and datasets each raise their own
        raise _unreadable(benchmark, error, unreachable) from error
    table = cast("Dataset", table)  # split= selects one table
    for file in table.cache_files:
        # Without the hub, datasets takes any cached commit, and the folder has the commit's name.
        folder = Path(file["filename"]).parent.name
        if len(folder) == 40 and folder != benchmark.revision:
            raise SdlabError(
                f"the cache holds {benchmark.repo} at commit {folder}, not {benchmark.revision}; "
                "go online once, or give a local file with source="
            )
    return table, benchmark.hub, ()


def _unreadable(benchmark: Benchmark, error: Exception, unreachable: str | None) -> SdlabError:
    """Return the error that says what to do about an error of the hub, or about a hub out of reach."""
    files = " or ".join(benchmark.files.values())
    instead = (
        f"give a local copy with source= (a file, or a folder with {files}), "
        "or set SDLAB_REAL_DATA to such a folder"
    )
    if "scripts are no longer supported" in str(error):
        return SdlabError(
            f"{benchmark.repo} is a loading script, which datasets 4 and later do not run (nor does sdlab); "
            f"{instead}"
        )
    if "Revision" in type(error).__name__ or "Revision" in str(error):
        return SdlabError(
            f"{benchmark.repo} has no commit {benchmark.revision} any more; "
            f"{instead}, or pin another in sdlab/benchmarks/catalogue.py"
        )
    if _NO_DATA in str(error):
        return SdlabError(f"{benchmark.hub} has no rows for {benchmark.name}; {instead}")
    if "No module named" in str(error):
        return MissingPackage(
            f'{benchmark.name} needs a package ({one_line(error)}); install with: pip install "sdlab[data]"'
        )
    return SdlabError(
        f"{benchmark.name} is not on this machine, and {benchmark.repo} could not be read from the hub "
        f"({unreachable or why_unread(error)}); {instead}"
    )


def why_unread(error: Exception) -> str:
    """Return why a data set of the hub could not be read, in a few words."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set"
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
