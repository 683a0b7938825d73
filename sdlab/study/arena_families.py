"""The methods of the arena by what their loss does at a choice point.

A choice point is a token at which the student is unsure and the teacher, who reads a solution, is not: there
a trace either hedges and checks, or commits. The families are read off the formulas, before any result.
"""

from sdlab.train.repairs.catalogue import CATALOGUE

# family -> (label, what reaches a choice point)
FAMILIES = {
    "follow": ("follow the teacher", "the full pull towards the informed teacher"),
    "soften": ("a softened teacher", "a pull that is clipped, bounded or towards a changed target"),
    "share": ("teacher and reward", "the reward on some tokens or rows, the teacher on others or less of it"),
    "weigh": ("reward, weighed by the teacher", "the reward sets the direction, the teacher the size"),
    "oppose": ("reward, against the teacher", "the reward, and a push away from the informed teacher"),
    "reward": ("reward alone", "the reward; no teacher"),
    "neither": ("neither", "less of what is unlikely; no reward and no teacher"),
}
_MEMBERS = {
    "follow": "sdpo opsd_sampled sd_zero veto topd tropd iw_opd eopd rosd other_problem",
    "soften": "opsd_clip opsd_ectr pw_opsd purified_opsd demopsd fire avsd avsd_full reopold sdpo_base_kl",
    "share": "srpo srpo_rlcsd srpo_shuffled srpo_random scope drift sdpg choice_gate mix_0.1 mix_0.5 mix_0.9",
    "weigh": "rlsd rlsd_ectr rlsd_shuffled rlcsd distilled_rl",
    "oppose": "antisd rlrt rlrt_ungated",
    "reward": "grpo grpo_entropy_bonus grpo_top_entropy grpo_base_kl",
    "neither": "opsa",
}
FAMILY = {method: family for family, methods in _MEMBERS.items() for method in methods.split()}


def in_order() -> list[str]:
    """Return all methods of the catalogue, family by family."""
    return [method for method in FAMILY if method in CATALOGUE]
