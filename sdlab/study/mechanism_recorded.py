"""Read the recorded study of mechanisms, and compute quantities with intervals over seeds and problems."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.measure.crossed import crossed_interval
from sdlab.measure.intervals import Interval
from sdlab.measure.ladder import AS_IT_IS, STEER
from sdlab.measure.readouts import NEAR, OWN
from sdlab.study.mechanism_pack import TABLES
from sdlab.study.mechanism_unit import BASE
from sdlab.study.organisms import SAME_RECIPE
from sdlab.text.repr_html import ReprHtml

FOLDER = "mechanism"  # in the data


@dataclass(frozen=True)
class Point:
    """A model under an intervention; layer and dose where the intervention has them."""

    model: str
    intervention: str = AS_IT_IS
    layer: float | None = None
    dose: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A quantity with its 95% interval, its 90% interval for tests of equality, and the number of seeds."""

    interval: Interval
    narrow: Interval
    seeds: int

    @property
    def significant(self) -> bool:
        """Return whether the interval excludes 0, with at least two seeds."""
        return self.seeds > 1 and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True)
class Mechanism(ReprHtml):
    """The recorded tables of one organism; `sdlab.study.mechanism_pack` describes the columns."""

    organism: str
    probes: pandas.DataFrame
    readouts: pandas.DataFrame
    interventions: pandas.DataFrame
    about: dict

    def __repr__(self) -> str:
        seeds = ", ".join(map(str, self.about["seeds"]))
        return f"<Mechanism {self.organism}: {', '.join(self.models)}; seeds {seeds}>"

    @property
    def models(self) -> list[str]:
        """Return the names of the models: "base" and the trained conditions."""
        return list(self.about["conditions"])

    @property
    def current(self) -> bool:
        """Return whether the organism in the data is still the one that was measured."""
        path = paths.data_dir() / self.organism / "model.safetensors"
        known = self.about["provenance"]["model_sha256"] or {}
        return path.is_file() and sha256(path) == known.get(path.name)

    def layers(self) -> list[int]:
        """Return the layers with residuals, without the embedding."""
        return sorted(int(layer) for layer in self.probes["layer"].dropna().unique() if layer > 0)

    def best_layer(self, target: str = "entropy") -> int:
        """Return the layer at which the base is read best in-domain; it is then used for every model."""
        rows = self.probes[self.probes["layer"] > 0]
        rows = self._probes(rows, BASE, NEAR, OWN, target)
        return int(rows["layer"].to_numpy()[rows["mean"].to_numpy().argmax()])

    def probe(
        self,
        model: str,
        split: str = NEAR,
        probe: str = OWN,
        target: str = "entropy",
        layer: int | None = None,
    ) -> pandas.Series:
        """Return the row of a probe; layer None is `best_layer`.

        Raises SdlabError when it is not recorded.
        """
        layer = self.best_layer(target) if layer is None else layer
        rows = self._probes(self.probes[self.probes["layer"] == layer], model, split, probe, target)
        if rows.empty:
            raise SdlabError(
                f"no probe {probe!r} of {target!r} at layer {layer} of {model!r} on {split!r} "
                f"is recorded for {self.organism}; recorded models are {', '.join(self.models)}"
            )
        return rows.iloc[0]

    @staticmethod
    def _probes(rows, model, split, probe, target) -> pandas.DataFrame:
        same = (rows["model"] == model) & (rows["split"] == split) & (rows["probe"] == probe)
        return rows[same & (rows["target"] == target) & rows["control"].isin(["none", "embedding"])]

    def readout(
        self, model: str, measure: str, split: str = NEAR
    ) -> tuple[pandas.DataFrame, pandas.DataFrame]:
        """Return sums and counts of a readout: a row per seed, a column per problem.

        Raises SdlabError when it is not recorded.
        """
        rows = self.readouts
        rows = rows[(rows["model"] == model) & (rows["measure"] == measure) & (rows["split"] == split)]
        if rows.empty:
            raise SdlabError(f"no {measure!r} of {model!r} on {split!r} is recorded for {self.organism}")
        rows = rows.assign(seed=rows["seed"].fillna(-1))
        total, count = (rows.pivot(index="seed", columns="problem_id", values=c) for c in ("total", "count"))
        return total, count

    def has_readout(self, measure: str, split: str) -> bool:
        """Return whether a readout is recorded on a split."""
        rows = self.readouts
        return bool(((rows["measure"] == measure) & (rows["split"] == split)).any())

    def mean_readout(self, model: str, measure: str, split: str = NEAR) -> Interval:
        """Return the mean of a readout over places, with its interval."""
        return crossed_interval(*self.readout(model, measure, split))

    def readout_change(self, model: str, measure: str, split: str = NEAR) -> Estimate:
        """Return a readout of a trained model minus that of the base, on the same places."""
        (total, count), (before, _) = (self.readout(one, measure, split) for one in (model, BASE))
        return _estimate(total - before.iloc[0], count)

    def readout_ratio(self, model: str, measure: str, other: str, split: str = NEAR) -> Estimate:
        """Return a readout of a model divided by that of another model, or by its own readout `other`.

        The ratio of the sums over places, linearised (delta method).
        """
        top = self.readout(model, measure, split)[0]
        if other not in self.models:
            return _estimate(top, self.readout(model, other, split)[0])
        below = self.readout(other, measure, split)[0].iloc[0]
        return _estimate(top, pandas.DataFrame([below] * len(top), index=top.index))

    def readout_excess(
        self, model: str, measure: str, other: str, share: float, split: str = NEAR
    ) -> Estimate:
        """Return `share` of a model's readout `other` minus its readout `measure`, in `other`'s direction.

        Above 0, `measure` is less than that share of `other`. Unlike the interval of a ratio, this one also
        holds where `other` may be near 0. Whether `other` has a direction must be shown first.
        """
        (total, count), (whole, _) = (self.readout(model, name, split) for name in (measure, other))
        return _estimate(np.sign(whole.to_numpy().sum()) * (share * whole - total), count)

    def cells(self, point: Point, metric: str, split: str) -> pandas.DataFrame:
        """Return means per completion under an intervention: a row per seed, a column per problem.

        Raises SdlabError when it is not recorded.
        """
        rows = self.interventions
        rows = rows[(rows["model"] == point.model) & (rows["split"] == split)]
        rows = rows[rows["intervention"] == point.intervention]
        for column in ("layer", "dose"):
            value = getattr(point, column)
            rows = rows[rows[column].isna() if value is None else rows[column] == value]
        if rows.empty:
            raise SdlabError(f"no {point} on {split!r} is recorded for {self.organism}")
        rows = rows.assign(seed=rows["seed"].fillna(-1), value=rows[metric] / rows["generations"])
        return rows.pivot(index="seed", columns="problem_id", values="value")

    def combine(self, terms: Sequence[tuple[float, Point]], metric: str, split: str) -> Estimate:
        """Return a weighted sum of means, paired by seed and problem; the base is the same for every seed.

        Raises SdlabError when something is not recorded, and when the points have different training seeds.
        """
        tables = [(weight, self.cells(point, metric, split)) for weight, point in terms]
        trained = [table.index for (_, point), (_, table) in zip(terms, tables, strict=True)
                   if point.model != BASE]  # fmt: skip
        seeds = trained[0] if trained else tables[0][1].index
        if any(not index.equals(seeds) for index in trained):
            raise SdlabError(
                f"the points have the training seeds {' and '.join(str(list(index)) for index in trained)} "
                f"on {split!r}; record {self.organism} with the same seeds for all"
            )
        whole = pandas.DataFrame(0.0, index=seeds, columns=tables[0][1].columns)
        for (_, point), (weight, table) in zip(terms, tables, strict=True):
            same = pandas.DataFrame([table.iloc[0]] * len(seeds), index=seeds)
            whole = whole + weight * (same if point.model == BASE else table)
        return _estimate(whole)

    def mean(self, point: Point, metric: str, split: str) -> Interval:
        """Return the mean of a metric with its interval."""
        return self.combine([(1.0, point)], metric, split).interval

    def points(self, model: str, intervention: str | None = None) -> list[Point]:
        """Return what was done to a model, in order of appearance."""
        rows = self.interventions[self.interventions["model"] == model]
        rows = rows if intervention is None else rows[rows["intervention"] == intervention]
        unique = rows[["intervention", "layer", "dose"]].drop_duplicates()
        return [
            Point(model, name, *(None if pandas.isna(value) else float(value) for value in (layer, dose)))
            for name, layer, dose in unique.itertuples(index=False, name=None)
        ]

    def chosen_dose(self, model: str) -> Point:
        """Return the steering with the highest score in-domain; judge it on other problems (unseen types)."""
        return max(self.points(model, STEER), key=lambda point: self.mean(point, "reward", NEAR).mean)


def _estimate(over: pandas.DataFrame, under: pandas.DataFrame | None = None) -> Estimate:
    wide, narrow = (crossed_interval(over, under, confidence=level) for level in (0.95, 0.9))
    return Estimate(wide, narrow, len(over))


def load_mechanism(organism: str, folder: str | Path | None = None) -> Mechanism:
    """Return the recorded study of an organism. folder: data/mechanism by default.

    Raises SdlabError when nothing is recorded, and when a file is missing or damaged.
    """
    folder = paths.data_dir() / FOLDER if folder is None else Path(folder)
    try:
        about = json.loads((folder / f"{organism}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SdlabError(
            f"nothing is recorded for {organism!r} in {folder}; make it with `sdlab reproduce mechanism`"
        ) from error
    tables = []
    for name in TABLES:
        path = folder / f"{organism}.{name}.csv.gz"
        if not path.is_file() or sha256(path) != about["sha256"][path.name]:
            hint = f"{paths.restore_hint(path)} or make it with `sdlab reproduce mechanism`"
            raise SdlabError(f"the recorded file {path} is missing or damaged; {hint}")
        tables.append(pandas.read_csv(path, keep_default_na=False, na_values=[""]))
    probes, readouts, interventions = tables
    return Mechanism(organism, probes, readouts, interventions, about)


def load_mechanisms(folder: str | Path | None = None) -> dict[str, Mechanism]:
    """Return the recorded studies by organism, those of one recipe first; an empty dict when there is none.

    Raises SdlabError when a file is missing or damaged.
    """
    place = paths.data_dir() / FOLDER if folder is None else Path(folder)
    names = {path.stem for path in place.glob("*.json")}
    order = [name for name in SAME_RECIPE if name in names] + sorted(names - set(SAME_RECIPE))
    return {name: load_mechanism(name, place) for name in order}
