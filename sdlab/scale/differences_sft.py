"""The rows of the differences table that concern SFT only."""

from sdlab.scale.differences_shared import Difference


def sft_rows() -> list[Difference]:
    """Return the rows that concern SFT only."""
    return [
        Difference(
            "long traces",
            trl="cut off beyond 1024 tokens",
            paper="not stated",
            run="kept whole",
            how="max_length=None",
        ),
        Difference(
            "tokens of a trace",
            trl="rendered as a finished conversation, whose thinking some templates drop",
            paper="not stated",
            run="the prompt's, the completion's, the end",
            how="override: trace_rows",
        ),
        Difference(
            "tokens with a loss",
            trl="the completion",
            paper="not stated",
            run="the completion and its end",
            how="labels in trace_rows",
        ),
        Difference(
            "order of traces",
            trl="shuffled by TRL",
            paper="not stated",
            run="that of sdlab.train, wrapping around",
            how="train_sampling_strategy='sequential'; trace_rows",
        ),
    ]
