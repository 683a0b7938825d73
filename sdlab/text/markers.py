"""Count the ten epistemic markers in texts: wait, hmm, perhaps, ... (arXiv 2603.24472, Section 3).

There are two ways to count, and they differ on real text: - match="word": whole words, case ignored. A word
ends where letters, digits and underscores end. "double-check" and
  "check's" therefore contain a `check`, while "checking", "unlikely" and "hmmm" contain no marker.
- match="substring": the paper's counter, `text.lower().count(marker)`, which also finds "checking",
"unlikely",
  "await".
A count grows with the length of the text, so every table here also has the rate per 1,000 tokens.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError, unknown

if TYPE_CHECKING:
    import pandas

MARKERS = (
    "wait",
    "hmm",
    "perhaps",
    "maybe",
    "actually",
    "alternatively",
    "seems",
    "might",
    "likely",
    "check",
)
MATCHES = ("word", "substring")
_WORDS = re.compile(rf"\b(?:{'|'.join(MARKERS)})\b")


def count_markers(text: str, match: str = "word") -> dict[str, int]:
    """Return how often each of MARKERS occurs in `text`, in the order of MARKERS.

    Raises SdlabError for an unknown `match`.
    """
    if match == "word":
        counts = Counter(_WORDS.findall(text.lower()))
        return {marker: counts[marker] for marker in MARKERS}
    if match == "substring":
        lowered = text.lower()
        return {marker: lowered.count(marker) for marker in MARKERS}
    raise unknown("match", match, MATCHES)


def total_markers(text: str, match: str = "word") -> int:
    """Return the sum of all ten counts of `text`, the paper's E(y)."""
    return sum(count_markers(text, match).values())


def marker_spans(text: str) -> list[tuple[int, int, str]]:
    """Return (start, end, marker) of every whole-word marker, for colouring `text`."""
    # lower() may change the length of rare letters, so the positions come from the text itself.
    return [
        (m.start(), m.end(), m[0].lower())
        for m in re.finditer(_WORDS.pattern, text, re.IGNORECASE)
        if m[0].isascii()
    ]


def marker_table(
    texts: Sequence[str], lengths: Sequence[int] | None = None, match: str = "word"
) -> "pandas.DataFrame":
    """Return a table with one row per marker and a last row "total".

    Columns: marker, count, texts (number of texts with the marker), per_text (mean count), and
    per_1000_tokens, the count of all texts over the tokens of all texts. `lengths` (B,) are token counts.
    Without them words (split at white space) are counted, and the column is called per_1000_words.
    Raises SdlabError when `texts` is empty or `lengths` has another length.
    """
    import pandas

    if not len(texts):
        raise SdlabError("no texts to count markers in; give at least one")
    if lengths is not None and len(lengths) != len(texts):
        raise SdlabError(f"{len(texts)} texts but {len(lengths)} lengths; give one length per text")
    unit = "words" if lengths is None else "tokens"
    size = sum(len(text.split()) for text in texts) if lengths is None else sum(lengths)
    counts = pandas.DataFrame([count_markers(text, match) for text in texts])
    counts["total"] = counts.sum(axis=1)
    total = counts.sum()
    return pandas.DataFrame(
        {
            "marker": total.index,
            "count": total.to_numpy(),
            "texts": (counts > 0).sum().to_numpy(),
            "per_text": counts.mean().to_numpy(),
            f"per_1000_{unit}": 1000 * total.to_numpy() / size if size else float("nan"),
        }
    )
