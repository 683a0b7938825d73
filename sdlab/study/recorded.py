"""The recorded results: `sdlab reproduce` writes them, data/runs holds them, notebooks read them.

The shipped files are small: every step's row and, for every evaluation, the sums per problem, from which any
interval can be computed. Tables are gzipped CSV files, which pandas reads without another library.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.measure.crossed import Difference, crossed_difference, crossed_interval, crossed_ratio
from sdlab.measure.intervals import Interval, pass_at_k
from sdlab.measure.spread import POSITIVE, SHARE
from sdlab.text.repr_html import ReprHtml
from sdlab.train.log import with_all_columns

TABLES = ("steps", "evaluations")
Frames = tuple[pandas.DataFrame, pandas.DataFrame, pandas.DataFrame, pandas.DataFrame]
# metric -> numerator, denominator and factor; other metrics are per completion
RATIOS = {
    "density": ("markers", "length", 1000),
    "right_if_unhedged": ("unhedged_right", "unhedged", 1),
    "right_if_hedged": ("hedged_right", "hedged", 1),
}
SHARES = ("reward", "truncated", "right_if_unhedged", "right_if_hedged")  # between 0 and 1
PASS = "pass@"  # pass@k, for example pass@4


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the largest possible mean of a recorded metric."""
    return SHARE if metric in SHARES or metric.startswith(PASS) else POSITIVE


@dataclass(frozen=True)
class Recorded(ReprHtml):
    """The recorded runs of some conditions."""

    steps: pandas.DataFrame  # one row per training step: condition, seed, then the columns of sdlab.train.log
    # One row per evaluation and problem: condition, seed, step, split, problem_id, generations, and the sums
    # of reward, length, markers and truncated. Some conditions also have the sums of
    # `sdlab.measure.commits.commitment_counts`; the others have NaN there.
    evaluations: pandas.DataFrame
    # By condition: the command, the settings, and the provenance of every seed's run.
    provenance: dict[str, dict]

    def __repr__(self) -> str:
        names, seeds = list(self.provenance), sorted(self.steps["seed"].unique().tolist())
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return f"<Recorded {', '.join(names[:4])}{more}; seeds {', '.join(map(str, seeds))}>"

    def table(
        self, name: str, metric: str, split: str, step: int | None = None
    ) -> tuple[pandas.DataFrame, pandas.DataFrame]:
        """Return the metric's sums and their denominators.

        Both are tables with a row per seed and a column per problem. step None: the last evaluation. metric:
        reward, length, markers, truncated (per completion), density (markers per 1,000 tokens), pass@k (k is
        a number; unbiased, see `sdlab.measure.intervals.pass_at_k`), right_if_unhedged (right ones among
        unhedged commitments) or right_if_hedged (among hedged proposals).

        Raises SdlabError when nothing is recorded there, and when k is above the completions per problem.
        """
        frame = self.evaluations[
            (self.evaluations["condition"] == name) & (self.evaluations["split"] == split)
        ]
        seeds = set(frame["seed"])
        frame = frame[frame["step"] == (frame["step"].max() if step is None else step)]
        when = f" after step {step}" if step is not None else ""
        if frame.empty:
            raise SdlabError(f"no evaluation of condition {name!r} on split {split!r}{when} is recorded")
        if missing := seeds - set(frame["seed"]):
            raise SdlabError(
                f"condition {name!r} on split {split!r}{when} lacks the seeds {sorted(missing)}; "
                "name a step that all seeds have"
            )
        over, under, scale = RATIOS.get(metric, (metric, "generations", 1))
        if metric.startswith(PASS):
            over, under = "passed", "one"
            values = pass_at_k(frame["generations"], frame["reward"], _k_of(metric))
            frame = frame.assign(passed=values, one=1.0)
        if over not in frame or frame[over].isna().all():
            raise SdlabError(
                f"condition {name!r} was recorded without {over!r}; choose another metric, or a condition "
                "whose plan counts it"
            )
        top, bottom = (
            frame.pivot(index="seed", columns="problem_id", values=column) for column in (over, under)
        )
        return top * scale, bottom

    def interval(self, name: str, metric: str, split: str, step: int | None = None) -> Interval:
        """Return the metric with its 95% interval over seeds and problems."""
        return crossed_interval(*self.table(name, metric, split, step), bounds=bounds(metric))

    def difference(self, a: str, b: str, metric: str, split: str, step: int | None = None) -> Difference:
        """Return condition b minus condition a, on the problems and seeds that both have; step as in `table`.

        Seeds are paired by their number (`sdlab.measure.crossed.crossed_difference`). To show that there is
        no difference, use `.equivalent(margin)`.

        Raises SdlabError when nothing is recorded there, and when the two have no problem in common.
        """
        return crossed_difference(*self._common(a, b, metric, split, step))

    def ratio(
        self, a: str, b: str, metric: str, split: str, step: int | None = None, confidence: float = 0.95
    ) -> Interval:
        """Return condition b divided by condition a, with its interval; 0.5 means that b is half of a.

        Problems, seeds, step and errors are as in `difference`.
        """
        return crossed_ratio(*self._common(a, b, metric, split, step), confidence)

    def _common(self, a: str, b: str, metric: str, split: str, step: int | None) -> Frames:
        """Return both conditions' sums, then both denominators, of the problems that both have."""
        (x, m), (y, n) = self.table(a, metric, split, step), self.table(b, metric, split, step)
        common = x.columns.intersection(y.columns)
        if common.empty:
            raise SdlabError(f"{a!r} and {b!r} have no problem of {split!r} in common; choose another split")
        return x[common], y[common], m[common], n[common]

    def curve(self, name: str, metric: str, split: str) -> pandas.DataFrame:
        """Return the metric along training: columns condition, split, metric, step, mean, low, high."""
        frame = self.evaluations[
            (self.evaluations["condition"] == name) & (self.evaluations["split"] == split)
        ]
        about = {"condition": name, "split": split, "metric": metric}
        rows = [
            {**about, "step": step, **vars(self.interval(name, metric, split, step))}
            for step in sorted(frame["step"].unique())
        ]
        return pandas.DataFrame(rows)


def _k_of(metric: str) -> int:
    """Return k of the metric pass@k; raise SdlabError unless it is a number of at least 1."""
    k = metric.removeprefix(PASS)
    if not (k.isdecimal() and int(k)):
        raise SdlabError(f"metric {metric!r} is not allowed; write pass@k with a number, such as pass@4")
    return int(k)


def is_recorded(name: str, folder: str | Path | None = None) -> bool:
    """Return whether there are recorded runs of a condition."""
    return ((Path(folder) if folder else paths.data_dir() / "runs") / f"{name}.json").is_file()


def load_recorded(*names: str, folder: str | Path | None = None) -> Recorded:
    """Return the recorded runs of the conditions `names`; without names, of all recorded conditions.

    Raises SdlabError when a condition is not recorded, when a file is damaged (its sha256 differs), and when
    two results name the same organism but were made with different weights.
    """
    folder = Path(folder) if folder else paths.data_dir() / "runs"
    names = names or tuple(sorted(path.name.removesuffix(".json") for path in folder.glob("*.json")))
    tables, provenance = {table: [] for table in TABLES}, {}
    for name in names:
        try:
            provenance[name] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise SdlabError(
                f"condition {name!r} is not recorded in {folder}; make it with `sdlab reproduce {name}`"
            ) from error
        for table in TABLES:
            path = folder / f"{name}.{table}.csv.gz"
            if not path.is_file() or sha256(path) != provenance[name]["sha256"][path.name]:
                hint = f"{paths.restore_hint(path)} or make it with `sdlab reproduce {name}`"
                raise SdlabError(f"the recorded file {path} is missing or damaged; {hint}")
            frame = pandas.read_csv(path).assign(condition=name)
            tables[table].append(with_all_columns(frame) if table == "steps" else frame)
    if not names:
        raise SdlabError(f"nothing is recorded in {folder}; make it with `sdlab reproduce`")
    refuse_mixed_organisms(
        {(name, seed): run for name, about in provenance.items() for seed, run in about["runs"].items()}
    )
    steps, evaluations = (pandas.concat(tables[table], ignore_index=True) for table in TABLES)
    return Recorded(steps, evaluations, provenance)


def refuse_mixed_organisms(origins: Mapping[tuple[str, object], dict]) -> None:
    """Raise SdlabError when two results name the same organism but were made with different weights.

    `origins` maps (condition, seed) to the provenance of that run. Organisms of different names may be mixed.
    """
    first: dict[str, tuple[str, object]] = {}
    for (name, seed), origin in origins.items():
        other = first.setdefault(origin["model"], (name, seed))
        ours, theirs = (run["model_sha256"]["model.safetensors"] for run in (origin, origins[other]))
        if ours != theirs:
            raise SdlabError(
                f"{name} seed {seed} and {other[0]} seed {other[1]} were made with different weights of "
                f"{origin['model']!r} (sha256 {ours[:12]} and {theirs[:12]}); results of two organisms are "
                f"not compared under one name; make the older one again with `sdlab reproduce`"
            )
