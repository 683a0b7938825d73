"""Declare the types and ranges of settings, and check values against them.

The annotation of a field of a settings dataclass, or of a function's parameter, declares the allowed values:

    steps: Annotated[int, Range(1)] = 100

`check_settings` checks a dataclass when it is created. `checked` checks the arguments of a function when it
is called. NumPy's numbers are accepted and become Python's, so that every setting can be written as JSON.
True and False are not numbers, and NaN and infinity are outside every range.
"""

import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import lru_cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from sdlab.errors import SdlabError, unknown

P = ParamSpec("P")  # the parameters of a function
T = TypeVar("T")  # what it returns
NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}
NUMBERS = {int: Integral, float: Real}


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have; `hint` follows the range in the error's message."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    hint: str = ""

    def holds(self, value: float) -> bool:
        """Return whether `value` lies in the range."""
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        return low and (self.most is None or value <= self.most)

    def words(self, number: str) -> str:
        """Return the range in words; `number` is "a number" or "a whole number"."""
        if self.least is not None and self.most is not None:
            return (
                f"{self.least:g}"
                if self.least == self.most
                else f"{number} from {self.least:g} to {self.most:g}"
            )
        low = f" above {self.above:g}" if self.above is not None else ""
        low = f" of at least {self.least:g}" if self.least is not None else low
        high = "" if self.most is None else f"{' and' if low else ' of'} at most {self.most:g}"
        return number + low + high


@dataclass(frozen=True, eq=False)  # hashed by identity, as tyro needs it: `names` may be a dict
class OneOf:
    """The names that a setting may have; `what` names their kind in an error's message."""

    what: str
    names: Collection[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # annotations must be hashable (tyro)


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, hint="random streams are keyed by whole numbers")]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(0, 1)]


class _Refused(Exception):
    """A value is not allowed; it may be a part of the setting."""

    def __init__(self, value) -> None:
        self.value = value


def check_settings(settings: Any) -> None:
    """Check every field of a dataclass against its annotation.

    `__post_init__` calls it, also in frozen dataclasses. NumPy's numbers and strings are replaced by
    Python's.
    Raises SdlabError, which names the field, its value and the allowed values.
    """
    for name, kind in _field_kinds(type(settings)).items():
        object.__setattr__(settings, name, checked_value(name, getattr(settings, name), kind))


def unused(settings: Any, name: str, used: bool, needs: str, also: tuple = ()) -> None:
    """Raise SdlabError when the field `name` is set although nothing reads it (`used` is false).

    The field may keep its default, or have a value in `also`. `needs` names the setting that gives it an
    effect.
    """
    default = next(field.default for field in fields(settings) if field.name == name)
    value = getattr(settings, name)
    if not used and value not in (default, *also):
        raise SdlabError(
            f"{name}={value!r} does nothing here; it needs {needs}; set that too, or leave {name} out"
        )


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Check, at every call, the arguments whose parameters declare a range or names.

    Raises SdlabError, which names the argument, its value and the allowed values.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        for name, kind in _argument_kinds(function).items():
            if name in bound.arguments:
                bound.arguments[name] = checked_value(name, bound.arguments[name], kind)
        return function(*bound.args, **bound.kwargs)

    return call


def checked_value(name: str, value: Any, kind: Any) -> Any:
    """Return `value` converted to the annotation `kind`.

    Raises SdlabError when the value is not allowed.
    """
    try:
        return _fit(value, kind)
    except _Refused as refused:
        names = _marks(kind, OneOf)
        if names:
            raise unknown(names[0].what, refused.value, names[0].names) from None
        hints = "".join(f"; {mark.hint}" for mark in _marks(kind, Range) if mark.hint)
        raise SdlabError(f"{name}={value!r} is not allowed; it must be {_words(kind)}{hints}") from None


@lru_cache
def _field_kinds(settings_type: type) -> dict[str, Any]:
    hints = get_type_hints(settings_type, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings_type)}


@lru_cache
def _argument_kinds(function: Callable) -> dict[str, Any]:
    hints = get_type_hints(function, include_extras=True)
    return {name: kind for name, kind in hints.items() if _marks(kind, Range) or _marks(kind, OneOf)}


def _marks(kind, mark_type: type) -> list:
    """Return the ranges or names declared anywhere in an annotation."""
    own = [mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, mark_type)]
    return own + [mark for part in get_args(kind) for mark in _marks(part, mark_type)]


def _fit(value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, or raise _Refused."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _fit(value, parts[0])
        for mark in parts[1:]:
            if isinstance(mark, Range) and not mark.holds(value):
                raise _Refused(value)
            if isinstance(mark, OneOf) and value not in mark.names:
                raise _Refused(value)
        return value
    if origin in (Union, UnionType):
        for part in parts:
            try:
                return _fit(value, part)
            except _Refused:
                continue
        raise _Refused(value)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, (tuple, list, np.ndarray)):
            raise _Refused(value)
        return tuple(_fit(one, parts[0]) for one in value)
    if kind is Any:
        return value
    if origin is Literal:
        good = value in parts
    elif kind in NUMBERS:
        good = isinstance(value, NUMBERS[kind]) and not isinstance(value, (bool, np.bool_))
        good = good and (kind is int or math.isfinite(value))
    elif kind is bool:
        good = isinstance(value, (bool, np.bool_))
    elif origin is Callable:
        good = callable(value)
    else:
        good = isinstance(value, origin or kind)
    if not good:
        raise _Refused(value)
    return kind(value) if kind in NUMBERS or kind in (bool, str) else value


def _words(kind) -> str:
    """Return the values that an annotation allows, in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        ranges = [mark for mark in parts[1:] if isinstance(mark, Range)]
        return ranges[0].words(_words(parts[0])) if ranges else _words(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if origin is tuple:
        return f"a tuple, each part {_words(parts[0])}"
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is Callable:
        return "a function"
    return NAMES.get(kind) or f"a {getattr(origin or kind, '__name__', kind)}"
