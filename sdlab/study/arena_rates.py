"""The learning rate of every method of the arena, chosen by recorded tuning runs.

A method is trained at each of RATES with the first of the seeds TUNING_SEEDS, none of which is reported. A
rate that is then more than LEFT_BEHIND below the best one is left behind; the others are trained with the
second seed, too. Of these the rate with the highest score in-domain is chosen; of equal scores the smaller
rate. The problems of that score (`eval_seed` TUNING_PROBLEMS) are in no training set and in no reported
evaluation. `data/arena/rates.json` holds the chosen rates, with the scores, the organism's checksum and the
checksums of the recorded runs; `sdlab reproduce arena-rates` makes it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
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
LEFT_BEHIND = 0.05  # score; a rate that is lower by more with the first seed needs no second one
SPLIT = "in-domain"
# Rates that a method cannot be trained at, with the reason; they are left out of its choice.
DIVERGED: Mapping[tuple[str, float], str] = {}
COLUMNS = ("method", "learning_rate", "seeds", "mean", "low", "high", "left_behind", "chosen")
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
    problems. seeds: how many of TUNING_SEEDS are recorded. left_behind: with the first seed the score is more
    than LEFT_BEHIND below that of the method's best rate; false in all rows of a method until all its rates
    have that seed. chosen: whether it is the method's rate; false in all rows of a method until all its runs
    are recorded. folder: as in `load_recorded`.

    Raises SdlabError when a record is damaged.
    """
    rows: list[dict[str, Any]] = []
    for method in CATALOGUE:
        mine = [_tuned(method, rate, folder) for rate in tried(method)]
        mine = [row for row in mine if row]
        first = [row.pop("first") for row in mine]
        raced = len(mine) == len(tried(method)) and None not in first
        for row, score in zip(mine, first, strict=True):
            row["left_behind"] = raced and score < max(first) - LEFT_BEHIND
        left = [row for row in mine if not row["left_behind"]]
        whole = raced and all(row["seeds"] == len(TUNING_SEEDS) for row in left)
        best = max(left, key=lambda row: (row["mean"], -row["learning_rate"])) if whole else None
        rows += [row | {"chosen": row is best} for row in mine]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _tuned(method: str, rate: float, folder: str | Path | None) -> dict[str, Any] | None:
    """Return the row of a rate and `first`, its score with the first seed (None without it); None if bare."""
    name = rate_name(method, rate)
    if not is_recorded(name, folder):
        return None
    recorded = load_recorded(name, folder=folder)
    both, one = (_only(recorded, seeds) for seeds in (TUNING_SEEDS, TUNING_SEEDS[:1]))
    if not len(both.evaluations):
        return None
    score = both.interval(name, "reward", SPLIT)
    first = one.interval(name, "reward", SPLIT).mean if len(one.evaluations) else None
    seeds = both.evaluations["seed"].nunique()
    return {"method": method, "learning_rate": rate, "seeds": seeds, **vars(score), "first": first}


def left_behind(names: Iterable[str], folder: str | Path | None = None) -> set[str]:
    """Return which of the tuning runs `names` need no second seed; see `rates_table`."""
    table = rates_table(folder)
    behind = table[table["left_behind"].astype(bool)]
    found = map(rate_name, behind["method"], behind["learning_rate"])
    return set(names) & set(found)


def _only(recorded: Recorded, seeds: Sequence[int]) -> Recorded:
    """Return the recorded runs with some seeds only."""
    steps, evaluations = (
        frame[frame["seed"].isin(seeds)] for frame in (recorded.steps, recorded.evaluations)
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
        runs = [run for name in names for run in about[name]["runs"].values()]
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
