"""Pack the measured models of one organism into the recorded tables of data/mechanism."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from sdlab.errors import SdlabError
from sdlab.files import from_json, sha256, to_json, write_atomic
from sdlab.measure.spread import crossed_spread
from sdlab.provenance import provenance
from sdlab.study.mechanism_unit import BASE, DOUBTFUL, INTERVENTIONS, PROBES, READOUTS, Sizes

UNIT = "mechanism"  # the folder of measured models in the folder of runs
TABLES = ("probes", "readouts", "interventions")
KEYS = ("split", "probe", "target", "layer", "control")
BOUNDS = {"R2": (-np.inf, 1.0), "AUROC": (0.0, 1.0)}


def pack(organism: str, units: Sequence[Any], sizes: Sizes, output: Path, command: str) -> Path:
    """Write the tables of an organism's measured models and their origin; return the origin's path.

    units: with organism, condition, seed and folder (`sdlab.study.mechanism.Unit`).
    """
    tables = {
        "probes": probe_rows(units),
        "readouts": _stacked(units, READOUTS),
        "interventions": _stacked(units, INTERVENTIONS),
    }
    sums = {}
    for name, table in tables.items():
        text = io.StringIO()
        table.to_csv(text, index=False, float_format="%.6g")
        data = gzip.compress(text.getvalue().encode(), mtime=0)  # no time, so equal tables give equal files
        path = write_atomic(output / f"{organism}.{name}.csv.gz", data)
        sums[path.name] = sha256(path)
    trained = [unit for unit in units if unit.seed is not None]
    about = {
        "organism": organism,
        "command": command,
        "seeds": sorted({unit.seed for unit in trained}),
        "conditions": [BASE, *dict.fromkeys(unit.condition for unit in trained)],
        "sizes": asdict(sizes),
        "doubtful_bits": DOUBTFUL,
        "sha256": sums,
        "models": {f"{unit.condition} seed {unit.seed}": sha256(Path(unit.model, "model.safetensors"))
                   for unit in trained},
        "provenance": provenance(model=organism),
    }  # fmt: skip
    return write_atomic(output / f"{organism}.json", to_json(about, indent=1) + "\n")


def probe_rows(units: Sequence[Any]) -> pandas.DataFrame:
    """Return one row per model, split, probe, target, layer and control, with intervals.

    Columns: model, KEYS, metric, mean, low, high (over seeds and problems), change with change_low and
    change_high (minus the model before training, same problems; nan for itself), seeds, problems, rows,
    dimensions.
    """
    scores: dict[str, list[dict]] = {}
    for unit in units:
        one = {tuple(row[key] for key in KEYS): row for row in _known(unit.folder / PROBES)}
        scores.setdefault(unit.condition, []).append(one)
    (base,) = scores[BASE]
    rows = []
    for condition, runs in scores.items():
        for key, first in runs[0].items():
            same = [one[key] for one in runs]
            own = (*key[:1], "own", *key[2:])
            before = base.get(own) if condition != BASE and not key[4].startswith("shuffled") else None
            change = {} if before is None else _interval(same, before, first["metric"])
            rows.append(
                {"model": condition, **dict(zip(KEYS, key, strict=True)), "metric": first["metric"]}
                | _interval(same, None, first["metric"])
                | change
                | {
                    "seeds": len(same),
                    "problems": len(first["parts"]),
                    "rows": first["rows"],
                    "dimensions": first["dimensions"],
                }
            )
    table = pandas.DataFrame(rows)
    return table.assign(layer=table["layer"].where(table["layer"] >= 0))


def _known(path: Path) -> list[dict]:
    """Return the scores of a unit; layer None (no residuals) becomes -1, which can be a key."""
    rows = from_json(path.read_text(encoding="utf-8"))
    return [row | {"layer": -1 if row["layer"] != row["layer"] else row["layer"]} for row in rows]


def _interval(same: list[dict], before: dict | None, metric: str) -> dict[str, float]:
    names = ("mean", "low", "high")
    orders = [row["problems"] for row in same] + ([] if before is None else [before["problems"]])
    if any(order != orders[0] for order in orders):
        raise SdlabError(
            f"probes of {same[0]['target']!r} were judged on different problems, or in another order; "
            "measure all models of an organism with the same sizes"
        )
    values = np.array([row["value"] for row in same])
    tables = np.stack([np.array(row["parts"]) + row["value"] for row in same])
    bounds = BOUNDS[metric]
    if before is not None:
        names = ("change", "change_low", "change_high")
        values = values - before["value"]
        tables = tables - (np.array(before["parts"]) + before["value"])
        bounds = (-np.inf, np.inf)
    mean = float(values.mean())
    interval = crossed_spread(tables - mean).around(mean, 0.95, bounds)
    return dict(zip(names, (interval.mean, interval.low, interval.high), strict=True))


def _stacked(units: Sequence[Any], name: str) -> pandas.DataFrame:
    tables = [
        pandas.read_csv(unit.folder / name, keep_default_na=False, na_values=[""]).assign(
            model=unit.condition, seed=unit.seed
        )
        for unit in units
    ]
    return pandas.concat(tables, ignore_index=True).astype({"seed": "Int64"})
