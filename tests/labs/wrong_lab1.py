"""Typical wrong answers to lab 1: (name, {grade_id: source of the cell}, {grade_id: points lost})."""

BITS_FOR_NATS = '''
def conditional_mutual_information(p_xyc):
    """I(y; c | x), with the logarithm to base 2."""
    p = np.asarray(p_xyc, dtype=float)
    p_x = p.sum((1, 2), keepdims=True)
    apart = p.sum(2, keepdims=True) * p.sum(1, keepdims=True)
    seen = p > 0
    return float((p[seen] * np.log2((p * p_x)[seen] / apart[seen])).sum())
'''

NATS_FOR_BITS = '''
def belief_entropy(prior, possible):
    """Entropy of N beliefs, with the natural logarithm."""
    belief = np.where(possible, prior, 0.0)
    belief = belief / belief.sum(1, keepdims=True)
    logs = np.log(belief, out=np.zeros_like(belief), where=belief > 0)
    return -(belief * logs).sum(1)
'''

X_FORGOTTEN = '''
def conditional_mutual_information(p_xyc):
    """I(y; c): summed over x first, instead of given x."""
    p = np.asarray(p_xyc, dtype=float).sum(0)
    apart = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / apart[seen])).sum())
'''

NOT_RENORMALISED = '''
def belief_entropy(prior, possible):
    """What is ruled out is dropped, but the rest does not share its probability."""
    belief = np.where(possible, prior, 0.0)
    logs = np.log2(belief, out=np.zeros_like(belief), where=belief > 0)
    return -(belief * logs).sum(1)
'''

SIGN_FLIPPED = '''
def context_information(given, alone, completion_mask, weights):
    """log p(y|x) - log p(y|x,c): the wrong way round."""
    mask = completion_mask.bool()
    per_token = torch.where(mask, alone - given, 0.0)
    return per_token, float((weights * per_token.sum(1)).sum() / (weights * mask.sum(1)).sum())
'''

MASK_FORGOTTEN = '''
def context_information(given, alone, completion_mask, weights):
    """Padding counts like any token."""
    per_token = torch.nan_to_num(given - alone)
    tokens = torch.full((len(given),), given.shape[1])
    return per_token, float((weights * per_token.sum(1)).sum() / (weights * tokens).sum())
'''

SHIFTED = '''
def context_information(given, alone, completion_mask, weights):
    """Shifts by one, as one must with logits; log-probabilities already stand at their own token."""
    mask = completion_mask[:, 1:].bool()
    per_token = torch.zeros_like(given)
    per_token[:, 1:] = torch.where(mask, given[:, :-1] - alone[:, :-1], 0.0)
    return per_token, float((weights * per_token.sum(1)).sum() / (weights * mask.sum(1)).sum())
'''

SUBSTRINGS = '''
def count_markers(text):
    """Counts letters, not words: `unlikely` holds a `likely`."""
    return {marker: text.lower().count(marker) for marker in MARKERS}
'''

MEAN_OF_RATES = '''
def per_1000_tokens(counts, lengths):
    """The mean of each answer's own rate."""
    rates = [1000 * count / length for count, length in zip(counts, lengths) if length]
    return sum(rates) / len(rates) if rates else float("nan")
'''

TIES_BY_ORDER = '''
def rank_correlation(x, y):
    """Equal values get different ranks, by order of appearance."""
    a, b = (np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (x, y))
    return float(np.corrcoef(a, b)[0, 1])
'''

WRONG = [
    (
        "natural log against log2, both ways",
        {"cmi": BITS_FOR_NATS, "belief-entropy": NATS_FOR_BITS},
        {"cmi-test": 4, "belief-entropy-test": 3},
    ),
    (
        "x not given, belief not renormalised",
        {"cmi": X_FORGOTTEN, "belief-entropy": NOT_RENORMALISED},
        {"cmi-test": 4, "belief-entropy-test": 3},
    ),
    (
        "sign flipped, ties broken by order",
        {"information": SIGN_FLIPPED, "rank-correlation": TIES_BY_ORDER},
        {"information-test": 4, "rank-correlation-test": 3},
    ),
    ("mask forgotten", {"information": MASK_FORGOTTEN}, {"information-test": 4}),
    ("off by one: shifted as logits are", {"information": SHIFTED}, {"information-test": 4}),
    (
        "substrings counted, mean of rates",
        {"markers": SUBSTRINGS, "rate": MEAN_OF_RATES},
        {"markers-test": 4, "rate-test": 2},
    ),
]
