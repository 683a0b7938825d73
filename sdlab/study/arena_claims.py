"""What the papers claim of their repairs, in terms of the arena's comparisons.

A claim is tested where its paper made it: claims about science and tools in the round "chemistry", the others
on the hunts, in-domain and on unseen types. `NOT_TESTED` says why a method of the catalogue has no claim
here.
"""

from dataclasses import dataclass
from typing import Annotated

from sdlab.settings import OneOf, check_settings

RELATIONS = {
    "above": "scores higher",
    "below": "scores lower",
    "equal": "differs by less than the margin",
}
SPLITS = {"hunts": ("in-domain", "unseen-types"), "chemistry": ("chemistry-test",)}


@dataclass(frozen=True)
class Claim:
    """A paper's claim that the score of `method` has a relation to that of `than`.

    than: a name of the catalogue, or "base" for the untrained model. note: how the arena differs from the
    paper.

    Raises SdlabError for a relation or a round that is not known.
    """

    method: str
    relation: Annotated[str, OneOf("relation", RELATIONS)]
    than: str
    round_name: Annotated[str, OneOf("round of claims", SPLITS)] = "hunts"
    note: str = ""

    def __post_init__(self) -> None:
        check_settings(self)

    def __str__(self) -> str:
        other = "the untrained model" if self.than == "base" else self.than
        link = {"above": "above", "below": "below", "equal": "equal to"}[self.relation]
        return f"{self.method} {link} {other}"


CLAIMS = (
    Claim("sdpo", "above", "base", "chemistry"),
    Claim("sdpo", "above", "grpo", "chemistry"),
    Claim("opsd_clip", "above", "base"),
    Claim("purified_opsd", "above", "base"),
    Claim("purified_opsd", "above", "opsd_clip"),
    Claim("demopsd", "above", "grpo", "chemistry"),
    Claim("demopsd", "above", "sdpo", "chemistry"),
    Claim("sd_zero", "below", "base", note="the paper's words on thinking models, as the organism is one"),
    Claim("rlsd", "below", "grpo", note="in another paper's runs"),
    Claim("rlcsd", "above", "grpo"),
    Claim("rlcsd", "above", "opsd_clip"),
    Claim("rlcsd", "above", "srpo_rlcsd"),
    Claim("rlcsd", "above", "sdpo"),
    Claim("antisd", "above", "grpo", note="the paper's model does not think"),
    Claim("antisd", "above", "sdpo", note="the paper's model does not think"),
    Claim("distilled_rl", "above", "grpo", note="the paper's teacher was another model"),
    Claim("pw_opsd", "equal", "opsd_clip", note="the paper's difference is within noise"),
    Claim("srpo", "above", "grpo", "chemistry"),
    Claim("srpo", "above", "sdpo", "chemistry"),
    Claim("srpo_rlcsd", "below", "grpo", note="in another paper's runs"),
    Claim("drift", "above", "srpo", "chemistry"),
    Claim("drift", "above", "sdpo", "chemistry"),
    Claim("opsa", "above", "base"),
    Claim("other_problem", "equal", "opsd_clip"),
    Claim("rlrt_ungated", "below", "base", note="the paper says that it diverges"),
    Claim("mix_0.1", "below", "srpo", "chemistry"),
)
_NO_NUMBERS = "no number of its paper is known here"
_NONE = "its source makes no claim about it"
NOT_TESTED = {
    "grpo": _NONE,
    "opsd_sampled": _NONE,
    "opsd_ectr": "a baseline in its paper, without a claim",
    "rlsd_ectr": "a baseline in its paper, without a claim",
    "sdpg": "its source gives scores without a comparison",
    "choice_gate": "a method of this package",
    **dict.fromkeys(
        "veto fire avsd avsd_full rlrt topd tropd reopold eopd rosd iw_opd scope".split(), _NO_NUMBERS
    ),
    **dict.fromkeys(
        "srpo_shuffled srpo_random rlsd_shuffled grpo_entropy_bonus grpo_top_entropy grpo_base_kl "
        "sdpo_base_kl mix_0.5 mix_0.9".split(),
        "a control, without a claim",
    ),
}
