"""Settings shared by all methods, under TRL's names where TRL has one."""

from dataclasses import dataclass
from typing import Annotated

from sdlab.settings import Count, CountOrZero, OneOf, Positive, Range, Seed, check_settings
from sdlab.train.losses import AGGREGATIONS

Aggregation = Annotated[str, OneOf("aggregation", AGGREGATIONS)]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of sizes, schedule and sampling.

    Raises SdlabError when a value is outside its range.
    """

    steps: Count = 100
    num_problems: Count = 32  # P per step
    num_generations: Annotated[
        int, Range(2, hint="one generation has no sibling to compare with or learn from")
    ] = 8
    """G per problem."""
    max_completion_length: Count = 256  # tokens
    temperature: Positive = 1.0
    thinking: bool = True
    learning_rate: Positive = 3e-4
    """The default is the organism's, by a recorded sweep; the paper uses 1e-5 (SDPO) and 1e-6 (GRPO) for
    7-8 B."""
    warmup_steps: CountOrZero = 10
    max_grad_norm: Positive = 1.0
    num_minibatches: Count = 2
    """Optimizer updates per step; the paper's batch of 256 is two minibatches of 128."""
    batch_tokens: Count = 3072  # per micro-batch, prompts counted once: what a core's caches hold
    bf16: bool = False
    """The layers' matrix products in bfloat16; weights, optimizer and losses stay in float32."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self)
