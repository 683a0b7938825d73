"""The learning rate of every method of the arena, chosen by recorded tuning runs.

A method is trained at each of RATES with the seeds TUNING_SEEDS, none of which is reported. The rate with the
highest score in-domain is chosen; of equal scores the smaller rate. The problems of that score (`eval_seed`
TUNING_PROBLEMS) are in no training set and in no reported evaluation. `data/arena/rates.json` holds the
chosen rates, with the scores, the organism's checksum and the checksums of the recorded runs;
`sdlab reproduce arena-rates` makes it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.study.recorded import Recorded, is_recorded, load_recorded
from sdlab.train.repairs.catalogue import CATALOGUE

RATES = (1e-4, 3e-4, 1e-3)
TUNING_SEEDS = (10, 11)  # reported runs have the seeds 0 to 4
TUNING_PROBLEMS = 15  # Plan.eval_seed of the tuning runs
SPLIT = "in-domain"
# Rates that a method cannot be trained at, with the reason; they are left out of its choice.
DIVERGED: Mapping[tuple[str, float], str] = {}
COLUMNS = ("method", "learning_rate", "seeds", "mean", "low", "high", "chosen")
GROUP = "arena-rates"


def rate_name(method: str, learning_rate: float) -> str:
    """Return the name of a tuning condition, for example arena_rate_sdpo_1e-04."""
    return f"arena_rate_{method}_{learning_rate:.0e}"


def rates_path() -> Path:
    """Return the file of the chosen rates, `data/arena/rates.json`."""
    return paths.data_dir() / "arena" / "rates.json"


def tried(method: str) -> list[float]:
    """Return the rates that a method is trained at in its tuning."""
    return [rate for rate in RATES if (method, rate) not in DIVERGED]


def read_rates(path: str | Path | None = None) -> dict[str, Any]:
    """Return the content of the file of chosen rates; without a file, one without methods.

    Keys: weights (sha256 of the organism's weights), seeds, eval_seed, and methods: name -> learning_rate,
    scores (by rate) and records (sha256 by file).

    Raises SdlabError when the file is damaged.
    """
    path = Path(path) if path else rates_path()
    if not path.is_file():
        return {"weights": "", "methods": {}}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, tuned in content["methods"].items():
            if name in CATALOGUE and tuned["learning_rate"] not in RATES:
                raise ValueError(f"{name} has learning_rate {tuned['learning_rate']}")
        if not isinstance(content["weights"], str):
            raise TypeError("weights is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SdlabError(
            f"{path} cannot be used ({error}); {paths.restore_hint(path)}, or make it again with "
            f"`sdlab reproduce {GROUP}`"
        ) from error
    return content


def why_not_tuned(method: str, content: Mapping[str, Any], weights: str) -> str:
    """Return why `content` (from `read_rates`) has no rate for a method, or "" when it has one.

    weights: sha256 of the weights of the organism that is to be trained.
    """
    names = " ".join(rate_name(method, rate) for rate in tried(method))
    command = f"run `sdlab reproduce {names}`"
    if method not in content["methods"]:
        return f"the learning rate of {method} is not tuned; {command}"
    if content["weights"] != weights:
        return (
            f"the learning rate of {method} was tuned on another organism (sha256 "
            f"{content['weights'][:12]}, and this one is {weights[:12]}); {command}"
        )
    return ""


def shipped_weights() -> str:
    """Return the sha256 of the organism's weights, as its SHA256SUMS says; "" without that file."""
    try:
        lines = (paths.data_dir() / paths.ORGANISM / "SHA256SUMS").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in lines if line.endswith(" model.safetensors")), "")


def rates_table(folder: str | Path | None = None) -> pandas.DataFrame:
    """Return the recorded tuning runs: one row per method and rate, with the columns COLUMNS.

    mean, low and high: the score in-domain on the tuning problems, with its 95% interval over seeds and
    problems. seeds: how many of TUNING_SEEDS are recorded. chosen: whether it is the method's rate; false in
    all rows of a method until all its runs are recorded. folder: as in `load_recorded`.

    Raises SdlabError when a record is damaged.
    """
    rows: list[dict[str, Any]] = []
    for method in CATALOGUE:
        mine = []
        for rate in tried(method):
            name = rate_name(method, rate)
            if is_recorded(name, folder):
                recorded = _tuning_seeds(load_recorded(name, folder=folder))
                score = recorded.interval(name, "reward", SPLIT) if len(recorded.evaluations) else None
                seeds = recorded.evaluations["seed"].nunique()
                if score:
                    mine.append({"method": method, "learning_rate": rate, "seeds": seeds, **vars(score)})
        whole = len(mine) == len(tried(method)) and all(row["seeds"] == len(TUNING_SEEDS) for row in mine)
        best = max(mine, key=lambda row: (row["mean"], -row["learning_rate"])) if whole else None
        rows += [row | {"chosen": row is best} for row in mine]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _tuning_seeds(recorded: Recorded) -> Recorded:
    """Return the recorded runs with the tuning seeds only."""
    steps, evaluations = (
        frame[frame["seed"].isin(TUNING_SEEDS)] for frame in (recorded.steps, recorded.evaluations)
    )
    return Recorded(steps, evaluations, recorded.provenance)


def chosen_rates(folder: str | Path | None = None) -> dict[str, Any]:
    """Return the content of the file of chosen rates, computed from the recorded tuning runs.

    Raises SdlabError when runs were made with different weights.
    """
    table, methods, weights = rates_table(folder), {}, set()
    for method, rows in table.groupby("method", sort=False):
        names = [rate_name(str(method), rate) for rate in rows["learning_rate"]]
        if not rows["chosen"].any():
            continue
        about = load_recorded(*names, folder=folder).provenance
        runs = [about[name]["runs"][str(seed)] for name in names for seed in TUNING_SEEDS]
        weights |= {run["model_sha256"]["model.safetensors"] for run in runs}
        methods[method] = {
            "learning_rate": float(rows.loc[rows["chosen"], "learning_rate"].item()),
            "scores": {
                f"{rate:.0e}": round(float(mean), 6)
                for rate, mean in zip(rows["learning_rate"], rows["mean"], strict=True)
            },
            "records": {
                file: sum_
                for name in names
                for file, sum_ in about[name]["sha256"].items()
                if ".evaluations." in file
            },
        }
    if len(weights) > 1:
        raise SdlabError(
            f"the recorded tuning runs were made with different weights ({', '.join(sorted(weights))}); "
            f"remove the records of the older organism, and make them again with `sdlab reproduce {GROUP}`"
        )
    return {
        "weights": next(iter(weights), ""),
        "seeds": list(TUNING_SEEDS),
        "eval_seed": TUNING_PROBLEMS,
        "methods": methods,
    }


def write_rates(folder: str | Path | None = None, path: str | Path | None = None) -> Path:
    """Write the chosen rates of the methods whose tuning runs are all recorded, and return the file.

    Raises SdlabError as `chosen_rates`.
    """
    path = Path(path) if path else paths.record_dir() / "arena" / "rates.json"
    return write_atomic(path, to_json(chosen_rates(folder), indent=1) + "\n")
