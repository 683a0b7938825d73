"""The two tables behind an estimate: the figures of GPUs and the shapes of models."""

import json
from dataclasses import dataclass, fields
from typing import Any

from sdlab import paths
from sdlab.errors import SdlabError, unknown


@dataclass(frozen=True)
class GPU:
    """One accelerator, with the figures of its data sheet."""

    memory: float  # GiB; data sheets write GB for what is nearly GiB (an "80 GB" A100 reports 79.3 GiB)
    tflops: float  # dense (without sparsity) bfloat16 matrix products, 1e12 per second
    tflops_float32: float  # without tensor cores
    bandwidth: float  # of its memory, 1e12 bytes per second
    bf16: bool = True


GPUS = {
    # NVIDIA DGX B200 data sheet (1,440 GB and 64 TB/s over 8), Blackwell architecture brief for HGX B200
    "B200": GPU(180, 2250, 80, 8.0),
    "H200": GPU(141, 989, 67, 4.8),  # NVIDIA H200 data sheet, SXM; its 1,979 TFLOP/s are with sparsity
    "H100": GPU(80, 989, 67, 3.35),  # NVIDIA H100 data sheet, SXM
    "A100-80": GPU(80, 312, 19.5, 2.039),  # NVIDIA A100 data sheet, SXM 80 GB
    "A100-40": GPU(40, 312, 19.5, 1.555),  # NVIDIA A100 data sheet, 40 GB
    "L40S": GPU(48, 362, 91.6, 0.864),  # NVIDIA L40S data sheet; 733 with sparsity
    # NVIDIA Ada GPU architecture white paper, bfloat16 with float32 accumulation
    "RTX4090": GPU(24, 165.2, 82.6, 1.008),
    # NVIDIA Ampere GA102 white paper, bfloat16 with float32 accumulation
    "RTX3090": GPU(24, 71, 35.6, 0.936),
    "L4": GPU(24, 121, 30.3, 0.300),  # NVIDIA L4 data sheet; 242 with sparsity
    "T4": GPU(16, 65, 8.1, 0.320, bf16=False),  # NVIDIA T4 data sheet; float16, it has no bfloat16
}


@dataclass(frozen=True)
class Shape:
    """The shape of a dense decoder with gated MLP and RMSNorm: Qwen2, Qwen3, Olmo3, Llama.

    Field names are those of the model's config.json.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    head_dim: int = 128
    tie_word_embeddings: bool = False
    qkv_bias: bool = False  # Qwen2
    qk_norm: str | None = None  # "head": one norm of head_dim (Qwen3); "all": over all heads (Olmo3)
    sliding_window: int | None = None  # tokens seen by the layers that have one
    sliding_layers: int = 0

    @property
    def layer_weights(self) -> int:
        """Return the number of weights in the matrices of one layer.

        These are query, key, value, output; gate, up, down.
        """
        attention = (
            self.hidden_size * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads)
        )
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def head_weights(self) -> int:
        """Return the number of weights of the output layer, vocab_size x hidden_size."""
        return self.vocab_size * self.hidden_size

    @property
    def matmul_weights(self) -> int:
        """Return the number of weights that every token is multiplied with.

        These are those of all layers and of the output layer, not of the input embedding.
        """
        return self.num_hidden_layers * self.layer_weights + self.head_weights

    @property
    def parameters(self) -> int:
        """Return the exact number of parameters (tested against transformers)."""
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        bias = (queries + 2 * keys) * self.qkv_bias
        norms = (
            2 * self.hidden_size + {None: 0, "head": 2 * self.head_dim, "all": queries + keys}[self.qk_norm]
        )
        embedding = 0 if self.tie_word_embeddings else self.head_weights
        return self.matmul_weights + embedding + self.num_hidden_layers * (bias + norms) + self.hidden_size

    def kv_bytes(self, length: float, bytes_each: int = 2) -> float:
        """Return the bytes of keys and values of one sequence of `length` tokens."""
        window = min(length, self.sliding_window or length)
        tokens = self.sliding_layers * window + (self.num_hidden_layers - self.sliding_layers) * length
        return 2 * self.num_key_value_heads * self.head_dim * bytes_each * tokens

    def lora_parameters(self, rank: int) -> int:
        """Return the parameters of LoRA adapters on every matrix of every layer.

        Each adapter has rank x (in + out) parameters. Source: arXiv 2106.09685.
        """
        h, i, q, k = (
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads * self.head_dim,
            self.num_key_value_heads * self.head_dim,
        )
        return self.num_hidden_layers * rank * ((h + q) * 2 + (h + k) * 2 + (h + i) * 3)


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool = True) -> Shape:
    return Shape(hidden, intermediate, layers, heads, 8, 151936, tie_word_embeddings=tied, qk_norm="head")


SHAPES = {  # from each model's config.json on the hub
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(3584, 18944, 28, 28, 4, 152064, qkv_bias=True),
    "Qwen/Qwen3-8B": _qwen3(4096, 12288, 36, 32, tied=False),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16),
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16),
    "allenai/Olmo-3-7B-Instruct": Shape(
        4096, 11008, 32, 32, 32, 100278, qk_norm="all", sliding_window=4096, sliding_layers=24
    ),
}
# model_type of a config.json -> what distinguishes its layers
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head"},
    "olmo3": {"qk_norm": "all"},
    "llama": {},
}


def shape_of(model: str) -> Shape:
    """Return the shape of a model in the table, of the organism, or of a folder with a config.json.

    Raises SdlabError for any other name and for an architecture that is none of FAMILIES.
    """
    if model in SHAPES:
        return SHAPES[model]
    file = (paths.shipped(model) or paths.given(model)) / "config.json"
    if not file.is_file():
        raise SdlabError(
            f"the size of {model!r} is not known; choose one of {', '.join(sorted(SHAPES))}, the organism, "
            f"or a folder with a config.json"
        )
    try:
        about = json.loads(file.read_text(encoding="utf-8-sig"))
        family = about["model_type"]
        if family not in FAMILIES:
            raise unknown("architecture", family, FAMILIES)
        known = {field.name for field in fields(Shape)} - {"sliding_window", "sliding_layers"}
        values = {name: about[name] for name in known if about.get(name) is not None}
        values.setdefault("head_dim", about["hidden_size"] // about["num_attention_heads"])
        sliding = about.get("layer_types", []).count("sliding_attention")
        window = {"sliding_window": about["sliding_window"], "sliding_layers": sliding} if sliding else {}
        return Shape(**values, **FAMILIES[family], **window)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, SdlabError):
            raise
        raise SdlabError(
            f"{file} is not a model's config.json ({type(error).__name__}: {error}); check the folder"
        ) from error
