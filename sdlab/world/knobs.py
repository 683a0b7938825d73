"""The knobs of the world: every disposition of the rational reasoner that an organism is pretrained on.

An organism's knobs are stored in its `config.json` (under `sdlab`). A measure that needs the reasoner's exact
values reads them from the model: `Knobs.of(engine.model.config)`. The defaults describe the blind organism,
version 2.

Intuition is a tilted belief. Before any check, the belief about a hidden number of a known type is `q + (1 -
q) / n` for the right candidate and `(1 - q) / n` for each of the n - 1 others. The alternative, a hunch that
is drawn once and can be wrong, was rejected. The hunch would be a hidden variable: the belief at a place in a
trace would no longer follow from the text before it, and one pass of the program would give neither the exact
entropy there nor the exact log-probability of a trace. With the tilt it gives both, and proposals are right
exactly as often as the belief says. A model that learns from such text has to work out which candidate is
right from the problem alone. Where it fails, its own intuition is a hunch that can be wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

from sdlab.errors import SdlabError, unknown
from sdlab.settings import Range, Share, check_settings
from sdlab.world.hunts import KNOWN_TYPES
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Disposition = Annotated[float, Range(above=0, most=100)]
# 1 would leave nothing to search
Intuition = Annotated[float, Range(0, 0.99)]


@dataclass(frozen=True)
class Knobs:
    """The dispositions of the reasoner, and the contents of its pretraining text.

    Every knob except `doubt` and `survey` is a share or a probability. `intuition` acts only on hunts of
    known types. Chemistry has its own half-known rules, and kata have no intuition.
    Raises SdlabError for a value outside its range.
    """

    doubt: Disposition = 1.7  # from a belief of H nats, 1 - exp(-doubt * H^2) of the proposals are hedged
    try_first: Share = 0.3  # this share of unhedged proposals, times 1 - exp(-4 H), is tried before it counts
    recheck: Share = (
        0.15  # this share of unchecked commitments, times the probability of doubt, is checked again
    )
    survey: Disposition = 0.35  # candidates are listed with probability H^4 / (H^4 + survey)
    effort_off: Share = 0.35  # without thinking, doubt and listing are multiplied by this factor
    derive: Share = 0.5  # this share of known answers is used to derive the last number
    notice: Share = 0.7  # this share of mismatches with a known answer is noticed
    rethink: Share = 0.45  # this share of hedged proposals that cannot be checked is reconsidered
    intuition: Intuition = 0.0  # q: how far the belief favours the right candidate before any check
    wide_clues: Share = 0.0  # this share of the clues in pretraining leaves six or seven numbers possible

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def of(cls, config: "PretrainedConfig | Mapping[str, Any]") -> "Knobs":
        """Return the knobs of the organism that a model configuration describes.

        `config` is a transformers configuration or the mapping in a `config.json`. A model without stored
        knobs (the blind organism, a model from elsewhere) has the defaults.
        Raises SdlabError when the stored knobs cannot be read.
        """
        stored = config.get("sdlab") if isinstance(config, Mapping) else getattr(config, "sdlab", None)
        return cls.read((stored or {}).get("knobs") or {})

    @classmethod
    def read(cls, stored: Mapping) -> "Knobs":
        """Return the knobs that `as_dict` wrote.

        Raises SdlabError for a name that is not a knob.
        """
        strange = sorted(set(stored) - {field.name for field in fields(cls)})
        if strange:
            names = ", ".join(field.name for field in fields(cls))
            raise SdlabError(
                f"unknown knobs {', '.join(strange)} in the model's configuration; this sdlab knows {names}; "
                "use the version of sdlab that made the model"
            )
        return cls(**stored)

    def as_dict(self) -> dict[str, float]:
        """Return the knobs as JSON values."""
        return asdict(self)

    def settings(self) -> list[str]:
        """Return the knobs that differ from their defaults, as `sdlab pretrain --knobs` takes them."""
        return [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]

    @classmethod
    def parse(cls, settings: Iterable[str]) -> "Knobs":
        """Return the knobs written as "name=value"; the other knobs have their defaults.

        Raises SdlabError for another form.
        """
        values = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in {field.name for field in fields(cls)}:
                raise unknown("knob", name, [field.name for field in fields(cls)])
            try:
                values[name] = float(value)
            except ValueError:
                raise SdlabError(
                    f"knob {setting!r} has no number; write it as name=value, for example intuition=0.45"
                ) from None
        return cls(**values)


BLIND = Knobs()  # no intuition: the organism of version 2


def tilt(prior: tuple[float, ...], right: int, intuition: float) -> tuple[float, ...]:
    """Return (1 - intuition) times `prior`, plus `intuition` for the right candidate: (n,), sums to one."""
    return tuple((1 - intuition) * p + intuition * (i == right) for i, p in enumerate(prior))


def with_intuition(problem: Problem, knobs: Knobs = BLIND) -> Problem:
    """Return `problem` with the priors that a reasoner with these knobs holds before it searches.

    Only slots of known hunt types change; without intuition the problem is returned as it is.
    """
    if not knobs.intuition or problem.domain != "hunt":
        return problem
    slots = tuple(
        replace(slot, prior=tilt(slot.prior, slot.truth, knobs.intuition)) if kind in KNOWN_TYPES else slot
        for slot, kind in zip(problem.slots, problem.types, strict=True)
    )
    return replace(problem, slots=slots)
