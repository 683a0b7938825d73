"""The types that every rollout engine takes and returns.

Shapes: P prompts, G generations of each, B = P*G rows, T tokens, V tokens in the vocabulary, K tokens of
top-k.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, Self

import torch

from sdlab.settings import Count, CountOrZero, Range, Seed, check_settings


@dataclass(frozen=True)
class SamplingParams:
    """Settings of sampling.

    Raises SdlabError for a value outside its range.
    """

    num_generations: Count = 1
    max_completion_length: Count = 256  # tokens
    temperature: Annotated[float, Range(0)] = 1.0  # 0 is greedy
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0
    top_k: CountOrZero = 0  # 0 is off
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Rollouts:
    """Sampled completions.

    Rows are prompt-major: row = prompt_index * G + generation.
    """

    prompts: list[str]  # P
    prompt_ids: list[list[int]]  # P
    num_generations: int  # G
    completion_ids: torch.Tensor  # (B, T) int64, padded with the pad id
    completion_mask: torch.Tensor  # (B, T) bool, True through the end-of-sequence token or stop string
    # (B, T) float32, log softmax(logits / temperature) before top-p and top-k; 0 where masked
    per_token_logps: torch.Tensor
    truncated: torch.Tensor  # (B,) bool, no end within max_completion_length
    texts: list[str]  # B, decoded without special tokens (<think> stays)

    @property
    def lengths(self) -> torch.Tensor:
        """Return the lengths of the completions in tokens, (B,)."""
        return self.completion_mask.sum(-1)

    def completions(self) -> list[list[int]]:
        """Return the B completions as lists of token ids, without padding."""
        return [ids[:n].tolist() for ids, n in zip(self.completion_ids, self.lengths, strict=True)]


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of given completions (teacher forcing), at completion positions only."""

    per_token_logps: torch.Tensor  # (B, T), 0 where masked
    completion_mask: torch.Tensor  # (B, T) bool
    # (B, T) nats, of the next-token distribution; 0 where masked; None when the engine cannot compute it
    entropy: torch.Tensor | None
    logits: torch.Tensor | None = None  # (B, T, V), before temperature
    topk_logps: torch.Tensor | None = None  # (B, T, K), descending, after temperature
    topk_ids: torch.Tensor | None = None  # (B, T, K)


class Engine(Protocol):
    """What samples from a model and scores with it: `TorchEngine`, `VllmEngine`, or one of your own.

    trains: whether `TrainableEngine` holds, so that the training loops accept it.
    cheap_entropy: whether `score` gives the entropy of every next-token distribution at little extra cost.
    """

    trains: ClassVar[bool]
    cheap_entropy: ClassVar[bool]
    tokenizer: Any

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together that the model accepts; None where nobody says."""
        ...

    def generate(
        self, prompts: list[str], params: SamplingParams, progress: Callable[[int, int], None] | None = None
    ) -> Rollouts:
        """Sample params.num_generations completions of each rendered prompt."""
        ...

    def score(
        self,
        prompts: list[str],
        completion_ids: list[list[int]],
        *,
        temperature: float = 1.0,
        return_logits: bool = False,
        top_k: int | None = None,
        batch_tokens: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Return the log-probabilities of given completions."""
        ...


class TrainableEngine(Engine, Protocol):
    """An engine whose torch model may be trained between calls."""

    model: Any
    pad_id: int
    bf16: bool

    def encode(self, prompts: list[str], room: int) -> list[list[int]]:
        """Return the token ids of rendered prompts that leave `room` tokens for a completion."""
        ...

    def in_bf16(self, bf16: bool) -> Self:
        """Return an engine on the same model with this setting of bf16: itself if it already has it."""
        ...
