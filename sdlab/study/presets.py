"""How big a run is: smoke for tests, quick for a class, full for the recorded results."""

from dataclasses import dataclass

from sdlab.errors import unknown


@dataclass(frozen=True)
class Preset:
    """Sizes of one preset. A notebook reads them with `preset(PRESET)` and hard-codes none.

    num_problems (P) and num_generations (G) make P*G rows; max_completion_length is in tokens;
    resamples is the number of bootstrap draws behind an interval; cell_timeout is in seconds.
    """

    name: str
    num_problems: int
    num_generations: int
    max_completion_length: int
    resamples: int
    seeds: tuple[int, ...]
    cell_timeout: int


PRESETS = {
    "smoke": Preset("smoke", 8, 4, 256, 200, (0,), 120),
    "quick": Preset("quick", 100, 8, 256, 1000, (0,), 900),
    "full": Preset("full", 400, 16, 256, 10_000, (0, 1, 2, 3, 4), 4 * 3600),
}


def preset(name: str) -> Preset:
    """The preset called `name`. Raises SdlabError when there is none."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
