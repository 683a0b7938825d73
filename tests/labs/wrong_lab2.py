"""Typical wrong answers to lab 2, and exactly the points that each must lose.

WRONG: (name, {grade_id: new source of the solution cell}, {grade_id of the test cell: points lost}).
"""

POPULATION_STD = '''
def advantages(rewards: torch.Tensor, scale: bool = False) -> torch.Tensor:
    """Divides by the population standard deviation, over G: NumPy's default."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4) if scale else centred
'''

MEAN_OF_THE_BATCH = '''
def advantages(rewards: torch.Tensor, scale: bool = False) -> torch.Tensor:
    """Compares an answer with the whole batch instead of with its siblings."""
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + 1e-4) if scale else centred
'''

SIGN_FLIPPED = '''
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    """The objective itself, to be made large, handed over as a loss."""
    ratio = (per_token_logps - old_per_token_logps.detach()).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    return torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
'''

CLIPPED_RATIO_ONLY = '''
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    """Clips the ratio on both sides whatever the advantage: the minimum, and its repair, is forgotten."""
    ratio = (per_token_logps - old_per_token_logps.detach()).exp()
    return -ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages[:, None]
'''

WRONG_SIDE = '''
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    """The larger of the two instead of the smaller: clips repair and lets progress run on."""
    ratio = (per_token_logps - old_per_token_logps.detach()).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    return -torch.maximum(ratio * advantages[:, None], clipped * advantages[:, None])
'''

EPSILONS_SWAPPED = '''
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    """The wide end below and the narrow one above."""
    ratio = (per_token_logps - old_per_token_logps.detach()).exp()
    clipped = ratio.clamp(1 - epsilon_high, 1 + epsilon_low)
    return -torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
'''

OLD_NOT_DETACHED = '''
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    """The right numbers, and a gradient into the old log-probabilities."""
    ratio = (per_token_logps - old_per_token_logps).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    return -torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
'''

SHIFTED_MASK = '''
def mean_loss(per_token_loss: torch.Tensor, completion_mask: torch.Tensor, how: str) -> torch.Tensor:
    """Drops the first token of each answer, as if the mask were that of the tokens' inputs."""
    mask = completion_mask[:, 1:].bool()
    kept = torch.where(mask, per_token_loss[:, 1:], 0.0)
    if how == "token_mean":
        return kept.sum() / mask.sum().clamp(min=1)
    lengths = mask.sum(dim=1)
    return (kept.sum(dim=1) / lengths.clamp(min=1)).sum() / (lengths > 0).sum().clamp(min=1)
'''

PADDING_COUNTED = '''
def mean_loss(per_token_loss: torch.Tensor, completion_mask: torch.Tensor, how: str) -> torch.Tensor:
    """Masks the losses and forgets the mask in the denominators."""
    kept = torch.where(completion_mask.bool(), per_token_loss, torch.zeros_like(per_token_loss))
    return kept.mean() if how == "token_mean" else kept.mean(dim=1).mean()
'''

ANY_REWARD = '''
def teaching_groups(rewards: torch.Tensor) -> torch.Tensor:
    """Asks whether any answer was rewarded: a group that is all right is taken for a lesson."""
    return rewards.sum(dim=1) > 0
'''

ALL_WRONG_FORGOTTEN = '''
def useful_share(pass_rate, num_generations: int):
    """Leaves out the groups that are all right, and forgets those that are all wrong."""
    return 1 - pass_rate**num_generations
'''

ANSWERS_AS_UNITS = '''
from scipy import stats


def first_rise(table: pandas.DataFrame, confidence: float = 0.95) -> int | None:
    """Takes every answer for independent and the two steps for unpaired."""
    steps = sorted(table["step"].unique())
    before = table[table["step"] == steps[0]]["reward"]
    for step in steps[1:]:
        now = table[table["step"] == step]["reward"]
        found = stats.ttest_ind(now, before)
        if found.pvalue < 1 - confidence and found.statistic > 0:
            return int(step)
    return None
'''

WRONG = [
    ("standard deviation over G instead of G - 1", {"advantages": POPULATION_STD}, {"advantages-test": 4}),
    ("sign of the loss flipped", {"clipped-loss": SIGN_FLIPPED}, {"clipped-loss-test": 4}),
    (
        "minimum forgotten, and padding counted",
        {"clipped-loss": CLIPPED_RATIO_ONLY, "mean-loss": PADDING_COUNTED},
        {"clipped-loss-test": 4, "mean-loss-test": 4},
    ),
    ("mean of the batch instead of the group's", {"advantages": MEAN_OF_THE_BATCH}, {"advantages-test": 4}),
    ("clipped on the wrong side", {"clipped-loss": WRONG_SIDE}, {"clipped-loss-test": 4}),
    ("ends of the clip range swapped", {"clipped-loss": EPSILONS_SWAPPED}, {"clipped-loss-test": 4}),
    ("old log-probabilities not detached", {"clipped-loss": OLD_NOT_DETACHED}, {"clipped-loss-test": 4}),
    ("off by one: first token dropped", {"mean-loss": SHIFTED_MASK}, {"mean-loss-test": 4}),
    (
        "all right taken for a lesson, all wrong forgotten",
        {"teaching-groups": ANY_REWARD, "useful-share": ALL_WRONG_FORGOTTEN},
        {"teaching-groups-test": 2, "useful-share-test": 2},
    ),
    ("answers taken for independent", {"first-rise": ANSWERS_AS_UNITS}, {"first-rise-test": 4}),
]
