"""The settings every method shares, under TRL's names where TRL has one."""

from dataclasses import dataclass, fields

from sdlab.errors import SdlabError, unknown
from sdlab.train.losses import AGGREGATIONS


@dataclass(frozen=True)
class TrainConfig:
    """Sizes, schedule and sampling. Raises SdlabError on a value outside its range."""

    steps: int = 100
    num_problems: int = 32  # P per step
    num_generations: int = 8  # G per problem
    max_completion_length: int = 256  # tokens
    temperature: float = 1.0
    thinking: bool = True
    learning_rate: float = (
        3e-4  # the organism's, by a recorded sweep; the paper uses 1e-5 (SDPO) and 1e-6 (GRPO) for 7-8 B
    )
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    num_minibatches: int = 2  # optimizer updates per step; the paper's batch of 256 is two minibatches of 128
    batch_tokens: int = 3072  # per micro-batch, prompts counted once: what a core's caches hold
    bf16: bool = (
        False  # the layers' matrix products in bfloat16; weights, optimizer and losses stay in float32
    )
    seed: int = 0

    def __post_init__(self):
        least = {
            "steps": 1,
            "num_problems": 1,
            "num_generations": 2,
            "max_completion_length": 1,
            "num_minibatches": 1,
            "batch_size": 1,
            "batch_tokens": 1,
            "warmup_steps": 0,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in least and not (isinstance(value, int) and value >= least[field.name]):
                hint = (
                    "; one generation has no sibling to compare with or learn from"
                    if field.name == "num_generations"
                    else ""
                )
                raise SdlabError(
                    f"{field.name}={value!r} is not allowed; it must be a whole number of at least {least[field.name]}{hint}"
                )
            if field.name in ("learning_rate", "max_grad_norm", "temperature") and not 0 < value < float(
                "inf"
            ):
                raise SdlabError(f"{field.name}={value!r} is not allowed; it must be above 0")
            if field.name == "aggregation" and value not in AGGREGATIONS:
                raise unknown("aggregation", value, AGGREGATIONS)
