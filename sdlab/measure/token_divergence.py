"""Where a teacher's next-token distribution differs from its student's, at every token of given completions.

The distributions are those of SDPO's loss (arXiv 2601.20802; arXiv 2603.24472, Section 4): one network reads
the student's and the teacher's prompt, and the student's own tokens after it. Whole distributions are
compared, not only the probabilities of the written tokens. So a token can have a high divergence although
teacher and student find it equally likely.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas
import torch

from sdlab.errors import SdlabError
from sdlab.measure.crossed import crossed_ratio
from sdlab.measure.intervals import Interval
from sdlab.rollout.types import Engine, TrainableEngine
from sdlab.text.markers import marker_spans
from sdlab.train.losses import sdpo_token_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOM = 15_000_000  # logits in memory at once: two distributions over the vocabulary at every token


def token_divergence(
    engine: TrainableEngine,
    prompts: Sequence[str],
    teacher_prompts: Sequence[str],
    completions: Sequence[Sequence[int]],
    *,
    names: Sequence[str] | None = None,
    teacher: Engine | None = None,
    alpha: float = 0.5,
    top_k: int | None = 100,
    tail: bool = True,
    temperature: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Return one row per token of B completions, scored under the student's and the teacher's prompts.

    completions: lists of token ids. prompts, teacher_prompts: B rendered prompts each. teacher: another
    rollout engine with the same tokenizer; None means `engine` itself, the self-teacher. alpha, top_k, tail:
    see `sdlab.train.losses`; a top_k beyond the vocabulary counts as all of it.

    Columns: row, name (`names[row]`, B of them, such as problem ids; default the row), position, token
    (text), marker (the epistemic marker that the token is part of, or ""), student and teacher
    (log-probability of the token, nats), u = teacher - student, divergence (generalised Jensen-Shannon, nats:
    SDPO's loss at this token before importance weights), entropy (nats, the student's).

    Raises SdlabError when the lengths differ, without completions, on an empty completion, and when
    temperature is not above 0.
    """
    labels = list(range(len(completions))) if names is None else list(names)
    sizes = {"prompts": len(prompts), "teacher_prompts": len(teacher_prompts), "names": len(labels)}
    for what, size in sizes.items():
        if size != len(completions) or not size:
            raise SdlabError(
                f"{len(completions)} completions but {size} {what}; "
                "give one for each completion, and at least one"
            )
    if not all(map(len, completions)):
        raise SdlabError(
            f"completion {[bool(len(row)) for row in completions].index(False)} has no tokens; leave it out"
        )
    if not temperature > 0:
        raise SdlabError(f"temperature={temperature} is not allowed; give a number above 0")
    vocabulary, longest = engine.model.get_output_embeddings().weight.shape[0], max(map(len, completions))
    at_once, parts = max(1, ROOM // (vocabulary * longest)), []
    for start in range(0, len(completions), at_once):
        part = slice(start, min(start + at_once, len(completions)))
        ids = [list(row) for row in completions[part]]
        student, entropy = _logps(engine, prompts[part], ids, temperature)
        informed, _ = _logps(teacher or engine, teacher_prompts[part], ids, temperature)
        flat = torch.tensor([token for row in ids for token in row])[:, None]
        k = None if top_k is None or top_k >= vocabulary else top_k
        numbers = {
            "student": student.gather(-1, flat).squeeze(-1),
            "teacher": informed.gather(-1, flat).squeeze(-1),
        }
        numbers |= {
            "u": numbers["teacher"] - numbers["student"],
            "divergence": sdpo_token_loss(student, informed, alpha, k, tail),
            "entropy": entropy,
        }
        words = [_words(engine.tokenizer, row) for row in ids]
        frame = {
            "row": [start + n for n, row in enumerate(ids) for _ in row],
            "name": [labels[start + n] for n, row in enumerate(ids) for _ in row],
            "position": [t for row in ids for t in range(len(row))],
            "token": [token for tokens, _ in words for token in tokens],
            "marker": [marker for _, markers in words for marker in markers],
        }
        parts.append(
            pandas.DataFrame(frame | {name: values.double().numpy() for name, values in numbers.items()})
        )
        if progress is not None:
            progress(part.stop, len(completions))
    return pandas.concat(parts, ignore_index=True)


def heat_ratio(tokens: pandas.DataFrame, value: str = "divergence", confidence: float = 0.95) -> Interval:
    """Return the mean of |value| over marker tokens divided by that over all other tokens, with its interval.

    `tokens`: as returned by `token_divergence`, or a part of it. The interval is Student's t over `name` for
    the logarithm of the ratio (`sdlab.measure.crossed.crossed_ratio`); low and high are NaN with a single
    name, and where a mean is 0.

    Raises SdlabError without markers and without other tokens.
    """
    is_marker = tokens["marker"] != ""
    if not 0 < is_marker.sum() < len(tokens):
        raise SdlabError(
            f"{is_marker.sum()} of {len(tokens)} tokens are markers; a ratio needs markers and other tokens"
        )
    heat = tokens[value].abs()
    sums = pandas.DataFrame(
        {"a": heat.where(is_marker, 0.0), "m": is_marker, "b": heat.mask(is_marker, 0.0), "n": ~is_marker}
    )
    a, m, b, n = sums.groupby(tokens["name"], sort=False).sum().to_numpy(float).T[:, None]  # (1, P) each
    markers, others = float(a.sum() / m.sum()), float(b.sum() / n.sum())
    if not (markers > 0 and others > 0):
        return Interval(markers / others if others else np.nan, np.nan, np.nan)
    return crossed_ratio(b, a, n, m, confidence)


def _logps(
    engine: Engine, prompts: Sequence[str], ids: list[list[int]], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-distributions (M, V) at the M tokens, row after row, and their entropy (M,)."""
    scores = engine.score(list(prompts), ids, temperature=temperature, return_logits=True)
    logits, entropy, mask = scores.logits, scores.entropy, scores.completion_mask
    if logits is None or entropy is None:
        raise SdlabError(
            f"{type(engine).__name__} returned no logits or no entropy; both are needed for a divergence; "
            "use engine='torch'"
        )
    return (logits[mask] / temperature).log_softmax(-1), entropy[mask]


def _words(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return the tokens as text, and for each the marker that it is part of, or "".

    A marker may consist of several tokens.
    """
    tokens = [cast(str, tokenizer.decode([token])) for token in ids]
    ends = np.cumsum([len(token) for token in tokens])
    markers = [""] * len(tokens)
    for start, end, marker in marker_spans("".join(tokens)):
        for place in range(
            int(np.searchsorted(ends, start, side="right")),
            int(np.searchsorted(ends, end - 1, side="right")) + 1,
        ):
            markers[place] = marker
    return tokens, markers
