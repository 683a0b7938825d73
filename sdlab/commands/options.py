"""Shared options of commands: common defaults, and tyro's rules for the types of sdlab."""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    from sdlab.world.knobs import Knobs

PRESET = "quick"
RUNS = Path("runs")


def default(function: Callable, name: str) -> Any:
    """Return the default of the parameter `name` of `function`, so that a command does not repeat it."""
    return inspect.signature(function).parameters[name].default


def registry() -> "ConstructorRegistry":
    """Return tyro's rules for the types of sdlab: `--knobs intuition=0.45 ...` for the reasoner's knobs."""
    from tyro.constructors import ConstructorRegistry

    rules = ConstructorRegistry()
    rules.primitive_rule(_knobs_rule)
    return rules


def _knobs_rule(info: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec | None":
    # Compared by name first: most commands have no knobs and should not import them.
    if getattr(info.type, "__name__", "") != "Knobs":
        return None
    from tyro.constructors import PrimitiveConstructorSpec

    from sdlab.world.knobs import Knobs

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=VALUE ...]",
        instance_from_str=Knobs.parse,
        is_instance=lambda value: isinstance(value, Knobs),
        str_from_instance=_knob_words,
    )


def _knob_words(knobs: "Knobs") -> list[str]:
    """Return the words that give `knobs`, without those at their defaults."""
    usual = asdict(type(knobs)())
    return [f"{name}={value}" for name, value in asdict(knobs).items() if value != usual[name]]
