"""The sizes of a run: smoke for tests, quick for a class, full for the recorded results."""

from dataclasses import dataclass

from sdlab.errors import unknown
from sdlab.settings import Count, check_settings


@dataclass(frozen=True)
class Preset:
    """The sizes of one preset; a notebook reads them with `preset(PRESET)`.

    num_problems (P) and num_generations (G) give P*G rows. max_completion_length is in tokens. cell_timeout
    is the time limit of a notebook's cell, in seconds.
    """

    num_problems: Count
    num_generations: Count
    max_completion_length: Count
    cell_timeout: Count

    def __post_init__(self) -> None:
        check_settings(self)


PRESETS = {
    "smoke": Preset(8, 4, 256, 900),
    "quick": Preset(100, 8, 256, 900),
    "full": Preset(400, 16, 256, 4 * 3600),
}
# The solutions of the exercises: seconds for each. Raise them for a firm result.
EXERCISES = {
    "smoke": Preset(8, 4, 256, 900),
    "quick": Preset(24, 4, 256, 900),
    "full": Preset(128, 8, 256, 4 * 3600),
}


def preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises SdlabError when there is none.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def exercise_preset(name: str) -> Preset:
    """Return the small sizes at which the solutions of the exercises run under the preset `name`.

    Raises SdlabError when there is none.
    """
    if name not in EXERCISES:
        raise unknown("preset", name, EXERCISES)
    return EXERCISES[name]
