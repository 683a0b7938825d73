"""Shared options of commands: common defaults, and tyro's rules for the types of sdlab."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab import paths
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    from sdlab.benchmarks.problems import ProblemSource
    from sdlab.world.knobs import Knobs

PRESET = "quick"
RUNS = Path("runs")


@dataclass(frozen=True)
class ProblemOptions:
    """Your own problems, and how their prompts are written."""

    problems: str | None = None
    """A file (json, jsonl, parquet), a data set of the hub (org/dataset:split), a benchmark or a split."""
    question_column: str | None = None
    """Column of the questions; by default prompt, question or problem."""
    answer_column: str | None = None
    """Column of the answers; by default answer, ground_truth or solution."""
    instruction: str | None = None
    """Line after each question; by default to answer within a box, unless the question asks for a format."""
    system: str | None = None
    """Text before each question."""
    few_shot: str | None = None
    """File of solved problems that come before each question."""

    def settings(self) -> dict[str, str]:
        """Return the options that are set, by name.

        Raises SdlabError when there are options but no problems, and for a name that is none.
        """
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if values and self.problems is None:
            name = next(iter(values)).replace("_", "-")
            raise SdlabError(f"--{name} needs --problems, whose prompts it changes; add --problems FILE")
        for name in ("problems", "few_shot"):
            path = paths.given(values.get(name, ""))
            if path.is_file():
                values[name] = str(path.resolve())  # other processes may have another working directory
        return values

    def source(self) -> "ProblemSource | None":
        """Return the source of the problems; None without --problems.

        Raises the errors of `settings`.
        """
        values = self.settings()
        if not values:
            return None
        from sdlab.benchmarks.problems import ProblemSource

        return ProblemSource(values.pop("problems"), **values)


def names_in(option: str, text: str) -> tuple[str, ...]:
    """Return the names in the value of an option that takes them separated by commas.

    Raises SdlabError for an empty name between commas, which may be a name that a script has lost.
    """
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    if "" in names:
        raise SdlabError(f"{option} {text!r} has an empty name; write names with one comma between them")
    return names


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
