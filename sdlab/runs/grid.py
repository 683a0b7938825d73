"""What a sweep's grid is: settings and their values, read from text or from Python, and the combinations they make."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import product
from types import NoneType
from typing import get_args, get_origin

from sdlab.errors import SdlabError, unknown
from sdlab.runs.training import METHODS, Plan, settings_of
from sdlab.train.config import TrainConfig

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


@dataclass(frozen=True)
class Point:
    """One combination of a grid's values. settings: those its method has, method and seed included."""

    settings: dict
    method: str
    config: TrainConfig
    plan: Plan


@dataclass(frozen=True)
class Grid:
    """Settings and their values, for example Grid({"method": ["grpo", "sdpo"], "num_questions": [1, 8, None], "seed": range(5), "steps": 40}).

    A setting is "method", a field of Plan, or a field of a method's config. One value or an iterable of values; text is read
    as the field's type ("all" or "none" is None, "a+b" a tuple). Without a seed it is 0. Raises SdlabError for anything that
    could not be run: an unknown setting, a bad, missing or repeated value.
    """

    axes: Mapping[str, Sequence]

    def __post_init__(self):
        given = {
            name: (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
            for name, values in self.axes.items()
        }
        if not given.get("method"):
            raise SdlabError(f"a grid needs a method; choose from: {', '.join(METHODS)}")
        given.setdefault("seed", (0,))
        for method in given["method"]:
            if method not in METHODS:
                raise unknown("method", method, METHODS)
        kinds = {name: kind for method in given["method"] for name, kind in settings_of(method).items()}
        for name, values in given.items():
            if name not in kinds:
                raise unknown(f"axis of {', '.join(given['method'])}", name, kinds)
            given[name] = values = tuple(_read(name, value, kinds[name]) for value in values)
            if not values:
                raise SdlabError(f"axis {name!r} has no value")
            twice = {to_text(value) for value in values if values.count(value) > 1}
            if twice:
                raise SdlabError(f"axis {name!r} has {', '.join(sorted(twice))} more than once")
        order = [
            "method",
            *(name for method in METHODS for name in settings_of(method) if name != "seed"),
            "seed",
        ]
        object.__setattr__(
            self, "axes", {name: given[name] for name in sorted(given, key=order.index)}
        )  # however they were given: names depend on it
        self.points()  # every config and plan can be made

    def points(self) -> list[Point]:
        """The combinations, methods outermost. A setting that a method does not have makes no further combinations of it."""
        found = []
        for method in self.axes["method"]:
            names = [name for name in self.axes if name in settings_of(method) and name != "method"]
            kind = METHODS[method]
            for values in product(*(self.axes[name] for name in names)):
                chosen = dict(zip(names, values))
                config, plan = (
                    {field.name: chosen[field.name] for field in fields(part) if field.name in chosen}
                    for part in (kind, Plan)
                )
                plan |= {"eval_every": 0} if method == "base" else {}  # there is nothing along the way
                found.append(Point({"method": method, **chosen}, method, kind(**config), Plan(**plan)))
        return found


def read_grid(words: Sequence[str]) -> Grid:
    """A grid as it is written on the command line: "method=grpo,sdpo", "num_questions=1,8,all", "steps=40", ..."""
    axes = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name:
            raise SdlabError(f"{word!r} is no axis of a grid; write NAME=VALUE,VALUE,... such as seed=0,1,2")
        name = name.lstrip("-").replace("-", "_")
        if name in axes:
            raise SdlabError(f"axis {name!r} is given twice")
        axes[name] = [value for value in values.split(",") if value]
    return Grid(axes)


def to_text(value) -> str:
    """A value as it stands in folder names and tables; `Grid` reads it back."""
    if value is None:
        return "all"
    return "+".join(map(to_text, value)) if isinstance(value, (tuple, list)) else str(value)


def _read(name: str, value, kind):
    """`value`, text perhaps, as the type `kind` of setting `name`."""
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


def cell_name(point: Point, fixed: Mapping) -> str:
    """Method, the settings that are not as `fixed` has them, seed."""
    parts = [
        f"{name}={to_text(value)}"
        for name, value in point.settings.items()
        if name not in ("method", "seed")
        and not (name in fixed and json.loads(json.dumps(value)) == fixed[name])
    ]
    return "_".join([point.method, *parts, f"seed={point.config.seed}"])
