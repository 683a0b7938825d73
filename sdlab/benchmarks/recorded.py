"""The coverage of the real files: measured, recorded in data/coverage/real.json, and read from there.

The real data are not part of this repository; their measures are (numbers, words that distinguish groups,
sha256 of the files; no question). With the files in `shared/real` (or the folder in SDLAB_REAL_DATA) the
record is made again with

    python -c "from sdlab.benchmarks.recorded import record_coverage; record_coverage()"
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sdlab import paths
from sdlab.benchmarks.clusters import Division, agreement, find_types, stability, variety
from sdlab.benchmarks.coverage import PAPER_PLAN, SamplingPlan, copies_of, hill_number, measure_coverage
from sdlab.benchmarks.duplicates import NEAR, boilerplate, near_copies, overlap
from sdlab.benchmarks.files import load_problems
from sdlab.errors import MissingPackage, SdlabError
from sdlab.files import sha256, to_json, write_atomic
from sdlab.settings import CountOrZero, checked
from sdlab.world.problems import Problem

SETS = {  # name -> names of its files in the folder
    "chemistry": ("sciknoweval_chemistry_train.json", "sciknoweval_chemistry_test.json"),
    "DAPO 1 x 64": ("dapo_seen_1x64.parquet",),
    "DAPO 8 x 8": ("dapo_seen_8x8.parquet",),
    "DAPO 64": ("dapo_seen_64.parquet",),
    "DAPO 128": ("dapo_seen_128.parquet",),
    "DAPO 512": ("dapo_seen_512.parquet",),
    "AIME24": ("aime24.parquet",),
    "AMC23": ("amc23.parquet",),
    "MATH-500": ("math500.parquet",),
    "ToolAlpaca test": ("tooluse_test.json",),
}
OVERLAPS = (  # training file, test file
    ("sciknoweval_chemistry_train.json", "sciknoweval_chemistry_test.json"),
    ("dapo_seen_512.parquet", "aime24.parquet"),
    ("dapo_seen_512.parquet", "amc23.parquet"),
    ("dapo_seen_512.parquet", "math500.parquet"),
    ("dapo_seen_512.parquet", "dapo_seen_128.parquet"),
)
SMALL_PLAN = SamplingPlan(steps=100, num_problems=64)  # the paper's runs on few questions
ENOUGH = 20  # least number of distinct questions for a search of types
SIZES = (2, 4, 8, 16, 32, 64, 128, 256)  # of the curves of variety
HAN = re.compile(r"[\u4e00-\u9fff]")


@checked
def measure_texts(problems: Sequence[Problem], resamples: CountOrZero = 10) -> dict:
    """Return the measures of a set of problems that need only their texts, JSON-ready.

    template: characters of boilerplate. near: distinct questions with a near copy before them. chinese:
    distinct questions with a Han character. groups: the result of `find_types`, with its `stability` over
    `resamples` parts (0: not computed). variety: {n: effective number}. `groups` and `variety` are None where
    there are too few questions.
    """
    texts = [problem.prompt for problem in problems]
    prefix, suffix = boilerplate(texts)
    row = {
        "template": len(prefix) + len(suffix),
        "near": len(near_copies(texts)),
        "chinese": len({t for t in texts if HAN.search(t)}),
        "groups": None,
        "variety": None,
    }
    if len(set(texts)) < ENOUGH:
        return row
    types = find_types(texts)
    again = stability(texts, types, resamples) if resamples else {"types": None, "wordings": None}
    row["groups"] = {
        "curve": {str(k): round(value, 4) for k, value in types.curve.items()},
        "without_words": types.without_words,
        "best": round(types.best.silhouette, 4),
        "types": _plain(types.types),
        "wordings": _plain(types.wordings),
        "again": again,
    }
    kinds = [problem.kind for problem in problems]
    if len(set(kinds)) > 1 and all(kinds):
        row["rand_with_kinds"] = round(agreement((types.types or types.best).labels, kinds), 4)
    sizes = [size for size in SIZES if size <= types.distinct - types.without_words]
    values = variety(texts, sizes)
    return row | {"variety": {str(n): round(value, 3) for n, value in zip(sizes, values, strict=True)}}


def _plain(division: Division | None) -> dict | None:
    """Return a division as plain numbers and words, JSON-ready; None stays None."""
    if division is None:
        return None
    return {
        "count": division.count,
        "silhouette": round(division.silhouette, 4),
        "effective": hill_number(division.sizes),
        "sizes": list(division.sizes),
        "terms": [list(words) for words in division.terms],
    }


@checked
def measure_set(folder: str | Path, name: str, resamples: CountOrZero = 10) -> dict:
    """Return all measures of the set `name` of SETS, from its files in `folder`.

    Raises SdlabError when a file is missing.
    """
    problems = [problem for file in SETS[name] for problem in load_problems(Path(folder) / file)]
    plan = SMALL_PLAN if name.startswith("DAPO") else PAPER_PLAN
    counted = {str(k): v for k, v in sorted(Counter(copies_of(problems).tolist()).items())}
    kinds = dict(sorted(Counter(problem.kind for problem in problems).items()))
    return (
        measure_coverage(problems, plan)
        | {"copies": counted, "kinds": kinds}
        | measure_texts(problems, resamples)
    )


def measure_overlaps(folder: str | Path) -> list[dict]:
    """Return exact and near overlap of each pair of OVERLAPS.

    Near is at 90, 95 and 99, without exact copies.
    """
    rows = []
    for train, test in OVERLAPS:
        old, new = (
            [problem.prompt for problem in load_problems(Path(folder) / file)] for file in (train, test)
        )
        shared = overlap(old, new, near=90.0)
        near = [score for *_, score in shared.pairs][shared.exact :]
        rows.append(
            {"train": train, "test": test, "test_questions": shared.test, "exact": shared.exact}
            | {f"near_{limit}": sum(score >= limit for score in near) for limit in (90, 95, 99)}
        )
    return rows


@checked
def measure_real(folder: str | Path, resamples: CountOrZero = 10) -> dict:
    """Return the whole content of the record, measured now.

    Raises SdlabError when a file is missing.
    """
    from importlib.metadata import version

    folder = Path(folder)
    files = dict.fromkeys(file for names in SETS.values() for file in names)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise SdlabError(f"{folder} lacks {', '.join(missing)}; give the folder that holds the real files")
    return {
        "made_by": "sdlab.benchmarks.recorded.record_coverage",
        "near": NEAR,
        "resamples": resamples,
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "rapidfuzz")},
        "files": {file: sha256(folder / file) for file in files},
        "sets": {name: measure_set(folder, name, resamples) for name in SETS},
        "overlaps": measure_overlaps(folder),
    }


def real_folder(folder: str = "") -> Path | None:
    """Return the folder with the real files, None when they are not there.

    It is the named folder, or else where `sdlab.paths.real_data` looks.

    Raises SdlabError when the named folder does not exist.
    """
    if folder:
        if not Path(folder).is_dir():
            raise SdlabError(
                f"no folder {folder}; "
                "give the folder that holds the real files, or nothing for the recorded measures"
            )
        return Path(folder)
    first = paths.real_data(next(iter(SETS.values()))[0])
    return first.parent if first else None


def record_path() -> Path:
    """Return the path of the record."""
    return paths.data_dir() / "coverage" / "real.json"


def record_coverage(folder: str = "", output: str | Path | None = None) -> Path:
    """Measure the real files (about a minute), write the record and return its path.

    Raises SdlabError when files are missing.
    """
    files = real_folder(folder)
    if files is None:
        raise SdlabError("the real files are not here; name their folder, or set SDLAB_REAL_DATA to it")
    return write_atomic(
        output or paths.record_dir() / "coverage" / "real.json",
        to_json(measure_real(files), indent=1, ensure_ascii=False) + "\n",
    )


def load_record() -> dict:
    """Return the recorded measures.

    Raises SdlabError when the record is missing or damaged.
    """
    try:
        record = json.loads(record_path().read_text(encoding="utf-8-sig"))
        complete = {"files", "sets", "overlaps"} <= record.keys()
    except OSError as error:
        raise SdlabError(
            f"no record {record_path()}; "
            f"{paths.restore_hint(record_path())}, or make it with record_coverage()"
        ) from error
    except (json.JSONDecodeError, AttributeError) as error:
        raise SdlabError(f"{record_path()} is damaged; {paths.restore_hint(record_path())}") from error
    if not complete:
        raise SdlabError(f"{record_path()} is damaged: it lacks a part; {paths.restore_hint(record_path())}")
    return record


def real_coverage(folder: str = "") -> tuple[dict, str]:
    """Return the measures of the real files, and a sentence on their source.

    They are the recorded ones where the files are missing, or equal the measured files byte for byte; else
    they are measured now. Without the package that reads the files they are the recorded ones too, and the
    sentence names the package.

    Raises SdlabError when a named folder does not exist or lacks a file.
    """
    recorded, files = load_record(), real_folder(folder)
    if files is None:
        return (
            recorded,
            f"the {len(recorded['files'])} real files are not here: these are the recorded measures",
        )
    changed = [
        file
        for file, sum_ in recorded["files"].items()
        if not (files / file).is_file() or sha256(files / file) != sum_
    ]
    if not changed:
        return (
            recorded,
            f"the {len(recorded['files'])} real files are here, "
            "byte for byte those that the recorded measures were made from",
        )
    differ = f"{', '.join(changed)} differ from the files of the record"
    try:
        return measure_real(files), f"measured now: {differ}"
    except MissingPackage as error:
        return recorded, f"these are the recorded measures, but {differ}: {error}"
