"""The main conditions on the other organisms: another pretraining seed, or no intuition.

They show whether a result depends on the organism. Only the organism and the number of seeds change. The
records are next to those of the first organism under their own names, for example `sdpo_1` and `sdpo_blind`.
"""

from collections.abc import Mapping
from dataclasses import replace

from sdlab.errors import unknown
from sdlab.study.condition import Condition

ORGANISMS = {
    "organism-1": "pretraining seed 1",
    "organism-2": "pretraining seed 2",
    "organism-blind": "no intuition",
}
REPEATED = ("base", "sft_unguided", "sft_guided", "grpo", "sdpo", "sdpo_no_think")


def organism_name(name: str, organism: str) -> str:
    """Return the name of the condition `name` on another organism, for example sdpo_blind.

    Raises SdlabError when `organism` is none of ORGANISMS.
    """
    if organism not in ORGANISMS:
        raise unknown("organism", organism, ORGANISMS)
    return f"{name}_{organism.removeprefix('organism-')}"


def organism_conditions(conditions: Mapping[str, Condition]) -> dict[str, dict[str, Condition]]:
    """Return the repeated conditions by organism and name; `conditions` are those of the first organism."""
    return {
        organism: {
            organism_name(name, organism): replace(
                conditions[name],
                name=organism_name(name, organism),
                label=f"{conditions[name].label}, {meaning}",
                model=organism,
            )
            for name in REPEATED
        }
        for organism, meaning in ORGANISMS.items()
    }
