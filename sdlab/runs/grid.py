"""A sweep's grid: settings and their values, read from text or Python, and their combinations."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import product
from types import NoneType
from typing import Any, get_args, get_origin

from sdlab.errors import SdlabError, unknown
from sdlab.runs.identity import FILE_SETTINGS
from sdlab.runs.training import METHODS, Plan, settings_of
from sdlab.train.config import TrainConfig

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


@dataclass(frozen=True)
class Point:
    """One combination of a grid's values.

    settings: those that its method has, with method and seed.
    """

    settings: dict
    method: str
    config: TrainConfig
    plan: Plan


@dataclass(frozen=True)
class Grid:
    """Settings and their values, for example Grid({"method": ["grpo", "sdpo"], "seed": range(5)}).

    A setting is "method", a field of Plan, or a field of a method's config. It has one value or an iterable
    of values; text is read as the field's type ("all" or "none" is None, "a+b" a tuple). The default seed is
    0.

    Raises SdlabError for a grid that cannot be run: an unknown setting, a bad, missing or repeated value.
    """

    axes: Mapping[str, Sequence]

    def __post_init__(self) -> None:
        axes = {
            name: (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
            for name, values in self.axes.items()
        }
        if not axes.get("method"):
            raise SdlabError(f"a grid needs a method; choose from: {', '.join(METHODS)}")
        axes.setdefault("seed", (0,))
        for method in axes["method"]:
            if method not in METHODS:
                raise unknown("method", method, METHODS)
        kinds = {name: kind for method in axes["method"] for name, kind in settings_of(method).items()}
        for name, values in axes.items():
            if name not in kinds:
                raise unknown(f"axis of {', '.join(axes['method'])}", name, kinds)
            axes[name] = values = tuple(_read(name, value, kinds[name]) for value in values)
            if not values:
                raise SdlabError(f"axis {name!r} has no value; give at least one")
            twice = {to_text(value) for value in values if values.count(value) > 1}
            if twice:
                raise SdlabError(
                    f"axis {name!r} has {', '.join(sorted(twice))} more than once; give every value once"
                )
        order = [
            "method",
            *(name for method in METHODS for name in settings_of(method) if name != "seed"),
            "seed",
        ]
        # One order, because the names of cells depend on it.
        object.__setattr__(self, "axes", {name: axes[name] for name in sorted(axes, key=order.index)})
        self.points()  # raises an error now if a config or plan is not possible

    def points(self) -> list[Point]:
        """Return the combinations, with methods outermost.

        A setting that a method does not have adds no combinations of that method.
        """
        points = []
        for method in self.axes["method"]:
            names = [name for name in self.axes if name in settings_of(method) and name != "method"]
            kind = METHODS[method]
            for values in product(*(self.axes[name] for name in names)):
                chosen = dict(zip(names, values, strict=True))
                config, plan = (
                    {field.name: chosen[field.name] for field in fields(part) if field.name in chosen}
                    for part in (kind, Plan)
                )
                plan |= {"eval_every": 0} if method == "base" else {}  # it has no steps to evaluate between
                points.append(Point({"method": method, **chosen}, method, kind(**config), Plan(**plan)))
        return points


def read_grid(words: Sequence[str], settings: Mapping | None = None) -> Grid:
    """Return the grid that words of the command line describe.

    For example "method=grpo,sdpo", "num_questions=1,8,all", "steps=40". settings: more settings, each with
    one value.

    Raises SdlabError for a word that is not NAME=VALUE,..., for an empty value, and for a name that is
    repeated, among the settings too.
    """
    axes = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name:
            raise SdlabError(f"{word!r} is no axis of a grid; write NAME=VALUE,VALUE,... such as seed=0,1,2")
        name = name.lstrip("-").replace("-", "_")
        if name in axes:
            raise SdlabError(f"axis {name!r} is given twice; give it once, with all its values")
        if "" in values.split(","):
            raise SdlabError(f"{word!r} has an empty value; write every value once, such as seed=0,1,2")
        axes[name] = values.split(",")
    for name in settings or {}:
        if name in axes:
            option = name.replace("_", "-")
            raise SdlabError(f"{name!r} is an axis and the option --{option}; leave one of them out")
    return Grid(axes | {name: (value,) for name, value in (settings or {}).items()})


def to_text(value: object) -> str:
    """Return a value as written in folder names and tables; `Grid` reads it back."""
    if value is None:
        return "all"
    return "+".join(map(to_text, value)) if isinstance(value, (tuple, list)) else str(value)


def _read(name: str, value: Any, kind: Any) -> Any:
    """Return `value`, which may be text, as the type `kind` of setting `name`."""
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is tuple:
        return tuple(
            _read(name, part, kinds[0]) for part in (value.split("+") if isinstance(value, str) else value)
        )
    if NoneType in kinds and (value is None or str(value).lower() in ("all", "none")):
        return None
    kind = next(one for one in kinds if one is not NoneType)
    value = value.item() if hasattr(value, "item") else value  # numpy's
    if type(value) is kind:
        return value
    if kind is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind in (int, float) and (isinstance(value, str) or (kind, type(value)) == (float, int)):
        with suppress(ValueError):
            return kind(value)
    raise SdlabError(
        f"{name}={value!r} is not allowed; it must be {WORDS[kind]}{' or all' if NoneType in kinds else ''}"
    )


def _in_folder_name(text: str) -> str:
    """Return a path or another text as a part of a folder's name."""
    return re.sub(r"[^\w.+=-]+", "_", text)


def cell_name(point: Point, fixed: Mapping) -> str:
    """Return the name of a cell: method, the settings that differ from `fixed`, seed."""
    parts = [
        f"{name}={_in_folder_name(to_text(value)) if name in FILE_SETTINGS else to_text(value)}"
        for name, value in point.settings.items()
        if name not in ("method", "seed")
        and not (name in fixed and json.loads(json.dumps(value)) == fixed[name])
    ]
    return "_".join([point.method, *parts, f"seed={point.config.seed}"])
