"""Mistakes that students make in lab 4, and the points that each must cost: nothing else may be lost."""

WRONG = [
    (
        "mask forgotten in the mean",
        {
            "entropy-weights": """
def entropy_weights(teacher_logps, mask, beta=1.0):
    entropy = -(teacher_logps.exp() * teacher_logps).sum(-1)
    raw = torch.exp(-beta * entropy) * mask
    return raw / raw.mean()
"""
        },
        {"entropy-weights-test": 5},
    ),
    (
        "entropy in bits",
        {
            "entropy-weights": """
def entropy_weights(teacher_logps, mask, beta=1.0):
    entropy = -(teacher_logps.exp() * teacher_logps).sum(-1) / np.log(2)
    raw = torch.exp(-beta * entropy)
    return torch.where(mask, raw / raw[mask].mean(), torch.zeros_like(raw))
"""
        },
        {"entropy-weights-test": 5},
    ),
    (
        "sign of the entropy flipped",
        {
            "entropy-weights": """
def entropy_weights(teacher_logps, mask, beta=1.0):
    raw = torch.exp(-beta * (teacher_logps.exp() * teacher_logps).sum(-1))
    return torch.where(mask, raw / raw[mask].mean(), torch.zeros_like(raw))
"""
        },
        {"entropy-weights-test": 5},
    ),
    (
        "softmax over the wrong axis",
        {
            "entropy-weights": """
def entropy_weights(teacher_logps, mask, beta=1.0):
    logps = teacher_logps.log_softmax(1)
    raw = torch.exp(beta * (logps.exp() * logps).sum(-1))
    return torch.where(mask, raw / raw[mask].mean(), torch.zeros_like(raw))
"""
        },
        {"entropy-weights-test": 5},
    ),
    (
        "right answers distilled, too",
        {
            "route": """
def route(rewards, num_generations):
    right = rewards.view(-1, num_generations) > 0.5
    return right.any(1, keepdim=True).expand_as(right).flatten()
"""
        },
        {"route-test": 5},
    ),
    (
        "groups taken by generation instead of by prompt",
        {
            "route": """
def route(rewards, num_generations):
    right = rewards.view(num_generations, -1) > 0.5
    return (~right & right.any(0, keepdim=True)).flatten()
"""
        },
        {"route-test": 5},
    ),
    (
        "a mean of its own for each loss",
        {
            "routed-loss": """
def routed_loss(grpo_losses, sdpo_losses, weights, distilled, mask):
    one, two = mask & ~distilled[:, None], mask & distilled[:, None]
    grpo, sdpo = grpo_losses[one].sum(), (weights * sdpo_losses)[two].sum()
    return grpo / one.sum().clamp(min=1) + sdpo / two.sum().clamp(min=1)
"""
        },
        {"routed-loss-test": 5},
    ),
    (
        "mean over the questions that teach only, and square root forgotten",
        {
            "pass-rate-weights": """
def pass_rate_weights(rewards, num_generations):
    p = rewards.view(-1, num_generations).mean(1)
    weights = p * (1 - p)
    return (weights / weights[weights > 0].mean()).repeat_interleave(num_generations)
"""
        },
        {"pass-rate-weights-test": 5},
    ),
    (
        "0 / 0 where no question teaches",
        {
            "pass-rate-weights": """
def pass_rate_weights(rewards, num_generations):
    p = rewards.view(-1, num_generations).mean(1)
    weights = (p * (1 - p)).sqrt()
    return (weights / weights.mean()).repeat_interleave(num_generations)
"""
        },
        {"pass-rate-weights-test": 5},
    ),
]
