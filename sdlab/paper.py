"""The numbers and sampling settings of the paper (arXiv 2603.24472)."""

from dataclasses import asdict, replace
from typing import Any

import pandas

from sdlab.errors import unknown
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int
from sdlab.settings import Count, Seed, checked
from sdlab.text.prompt import CONTEXTS

PAPER = pandas.DataFrame(  # DeepSeek-R1-Distill-Qwen-7B, Table 1 of arXiv 2603.24472
    {
        "reward": [0.30, 0.98, 0.78, 0.95],
        "length": [13054, 1873, 12036, 2808],
        "markers": [182.5, 8.8, 159.8, 24.1],
    },
    index=list(CONTEXTS),
)
# DeepSeek-R1-Distill-Qwen-7B after 100 steps of GRPO, scores in percent; no intervals are given
FIGURE_3 = (
    {"model": "paper, 7 B", "problems": "AIME24", "base": 54.7, "GRPO": 56.0},
    {"model": "paper, 7 B", "problems": "AMC23", "base": 89.3, "GRPO": 91.1},
)
TABLE_TWO = pandas.DataFrame(  # the same model, percent right, after SFT on 800 traces each
    {
        "AIME24": [54.79, 51.04, 20.21],
        "AIME25": [37.92, 40.00, 12.71],
        "AMC23": [89.06, 87.66, 57.03],
        "MATH500": [92.19, 90.93, 65.52],
    },
    index=["base", "sft_unguided", "sft_guided"],
)
TEMPERATURE = 0.6  # the paper's, with top-p 0.95 and top-k 20
TOP_P, TOP_K = 0.95, 20
# Source: the paper's evaluation code. 16 samples, at most 38,912 tokens, Qwen3's recommended settings.
PAPER_SAMPLING = {
    "thinking": SamplingParams(16, 38912, temperature=0.6, top_p=0.95, top_k=20),
    "non-thinking": SamplingParams(16, 38912, temperature=0.7, top_p=0.8, top_k=20),
}


@checked
def sampling(
    num_generations: Count, seed: Seed, purpose: str, max_completion_length: Count = 256
) -> SamplingParams:
    """Return the paper's sampling settings, with another random seed for each purpose."""
    return SamplingParams(
        num_generations,
        max_completion_length,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        stable_int("contexts", purpose, seed),
    )


def paper_sampling(thinking: bool = True, **overrides: Any) -> SamplingParams:
    """Return the paper's sampling settings for a thinking mode.

    overrides: settings to change, such as num_generations=4. A value of None changes nothing.
    Raises SdlabError for an unknown setting or a value out of range.
    """
    base = PAPER_SAMPLING["thinking" if thinking else "non-thinking"]
    for name in overrides:
        if name not in asdict(base):
            raise unknown("sampling setting", name, asdict(base))
    return replace(base, **{name: value for name, value in overrides.items() if value is not None})
