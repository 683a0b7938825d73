"""Information in nats from tables of probabilities: entropy, mutual and conditional mutual information.

I(y; c | x) = H(y | x) - H(y | x, c) is what the paper (arXiv 2603.24472) calls the richness of a context c:
how much c lowers the uncertainty about the completion y for a reader who knows the problem x. This module has
the closed form. `sdlab.measure.traces` computes it for the rational reasoner,
`sdlab.measure.model_information` for a language model.

Tables are arrays of any real type. Their entries are at least 0 and sum to 1 (to 1e-8). Axes are named in the
order of the function's argument: `p_xyc` has shape (X, Y, C). Every function raises SdlabError on any other
table.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from sdlab.errors import SdlabError

BITS = 1 / np.log(2)  # bits in a nat: multiply nats by it
TOLERANCE = 1e-8


def entropy(p: ArrayLike) -> float:
    """Return H = -sum p log p of a table of any shape, taken as one distribution."""
    table = check_table(p, "p")
    return float(-np.sum(table[table > 0] * np.log(table[table > 0])))


def conditional_entropy(p_yc: ArrayLike) -> float:
    """Return H(y | c) = -sum p(y, c) log p(y | c) of a joint table (Y, C)."""
    p = check_table(p_yc, "p_yc", 2)
    return float(-rel_entr(p, np.broadcast_to(p.sum(0), p.shape)).sum())


def mutual_information(p_yc: ArrayLike) -> float:
    """Return I(y; c) = sum p(y, c) log p(y, c) / (p(y) p(c)) of a joint table (Y, C)."""
    p = check_table(p_yc, "p_yc", 2)
    return float(rel_entr(p, p.sum(1, keepdims=True) * p.sum(0, keepdims=True)).sum())


def conditional_mutual_information(p_xyc: ArrayLike) -> float:
    """Return I(y; c | x) of a joint table (X, Y, C).

    I(y; c | x) = sum p(x, y, c) log p(x, y, c) p(x) / (p(x, y) p(x, c)).
    """
    p = check_table(p_xyc, "p_xyc", 3)
    p_x = p.sum((1, 2), keepdims=True)
    together = p.sum(2, keepdims=True) * p.sum(1, keepdims=True)
    apart = np.divide(together, p_x, out=np.zeros_like(p), where=p_x > 0)  # p(x, y) p(x, c) / p(x)
    return float(rel_entr(p, apart).sum())


def kl_divergence(p: ArrayLike, q: ArrayLike) -> float:
    """Return KL(p || q) = sum p log p / q of two tables of one shape.

    It is infinite where q is 0 and p is not.
    """
    first, second = check_table(p, "p"), check_table(q, "q")
    if first.shape != second.shape:
        raise SdlabError(f"kl_divergence needs two tables of one shape; got {first.shape} and {second.shape}")
    return float(rel_entr(first, second).sum())


def check_table(p: ArrayLike, name: str = "p", axes: int | None = None) -> np.ndarray:
    """Return `p` as a float array.

    Raises SdlabError unless it is a probability table, with `axes` axes if given.
    """
    try:
        table = np.asarray(p, dtype=float)
    except (TypeError, ValueError) as error:
        raise SdlabError(f"{name} is no table of numbers; give an array of probabilities") from error
    if axes is not None and table.ndim != axes:
        raise SdlabError(
            f"{name} has shape {table.shape}; "
            f"it needs {axes} axes, one for each of {', '.join(name.split('_')[-1])}"
        )
    if not table.size or not np.isfinite(table).all() or table.min() < 0:
        wrong = "is empty" if not table.size else f"holds {table[~np.isfinite(table) | (table < 0)].flat[0]}"
        raise SdlabError(f"{name} {wrong}; probabilities must be finite and at least 0")
    if abs(table.sum() - 1) > TOLERANCE:
        raise SdlabError(
            f"{name} sums to {table.sum():.10g}; a joint table must sum to 1, so divide it by its sum"
        )
    return table
