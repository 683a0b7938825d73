"""Pretrain the organism: it learns to write like the reasoner, from text alone.

The batch of step k depends only on (seed, k). An interrupted run therefore continues where it stopped and
ends with the same weights.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sdlab.errors import SdlabError
from sdlab.organism.corpus import Document, draw_document
from sdlab.organism.muon import Muon
from sdlab.organism.tokenizer import END, END_OF_TEXT, build_tokenizer
from sdlab.seeds import stable_int, stream
from sdlab.settings import Count, CountOrZero, Positive, Range, Seed, Share, check_settings, checked
from sdlab.text.prompt import render_prompt
from sdlab.train.forward import completion_logits
from sdlab.world.knobs import Knobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen3ForCausalLM

VERSION = 3  # of new organisms (2: without knobs); every recorded result names the sha256 of its weights


@dataclass(frozen=True)
class PretrainConfig:
    """Shape and schedule of the organism; the defaults are those of the shipped organism."""

    seed: Seed = 0
    steps: Count = 2600
    documents: Count = 64  # per step
    hidden_size: Annotated[int, Range(64)] = 128
    num_layers: Count = 4
    intermediate_size: Count = 512
    matrix_lr: Positive = 0.02  # Muon, for the weight matrices of the layers
    adam_lr: Positive = 3e-3  # AdamW, for embeddings and norms
    warmup: CountOrZero = 100  # steps
    cooldown: Share = 0.4  # last share of the steps, over which the rates fall linearly to zero
    micro_tokens: Count = 3072  # tokens per forward pass
    bf16: bool = False  # matrix products in bfloat16: faster only where the processor has instructions for it
    knobs: Knobs = field(default_factory=Knobs)  # of the reasoner whose text the organism reads

    def __post_init__(self) -> None:
        check_settings(self)
        if self.hidden_size % 64:
            raise SdlabError(
                f"hidden_size={self.hidden_size} is not allowed; "
                "it must be a multiple of 64 (heads of 32, two to a key-value head)"
            )


def build_model(config: PretrainConfig, vocab_size: int, eos: int, pad: int) -> "Qwen3ForCausalLM":
    """Return a randomly initialised Qwen3 of the organism's shape."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(stable_int("organism", "weights", config.seed))
    shape: dict[str, Any] = dict(
        vocab_size=vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_layers,
        num_attention_heads=config.hidden_size // 32, num_key_value_heads=config.hidden_size // 64,
        head_dim=32, intermediate_size=config.intermediate_size, tie_word_embeddings=True,
        max_position_embeddings=1024, eos_token_id=eos, pad_token_id=pad, bos_token_id=None,
        # For rows this short the backward pass of eager attention is faster than that of fused kernels.
        attn_implementation="eager",
    )  # fmt: skip
    return Qwen3ForCausalLM(Qwen3Config(**shape))


Row = tuple[list[int], list[int]]  # token ids of the context, and of the continuation that is learnt


class Batches(Dataset):
    """The batches of pretraining.

    Batch k is a list of micro-batches of rows of similar length, with at most `micro_tokens` tokens each.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", config: PretrainConfig) -> None:
        self.tokenizer, self.config = tokenizer, config

    def __len__(self) -> int:
        return self.config.steps

    def encode(self, document: Document) -> Row:
        """Return the token ids of a document: the part that is not learnt, and the learnt part.

        The first part is the prompt and the first `document.given` characters of the completion.
        """
        prompt = render_prompt(
            self.tokenizer, document.problem, document.demonstration, document.feedback, document.thinking
        )
        prefix, rest = document.completion[: document.given], document.completion[document.given :]
        parts = self.tokenizer([prompt, prefix, rest + END], add_special_tokens=False).input_ids
        return parts[0] + parts[1], parts[2]

    def __getitem__(self, step: int) -> list[list[Row]]:
        rng = stream("pretrain", self.config.seed, step)
        rows = [self.encode(draw_document(rng, self.config.knobs)) for _ in range(self.config.documents)]
        rows.sort(key=_length)
        batches, size = [[]], 0
        for row in rows:
            if batches[-1] and size + _length(row) > self.config.micro_tokens:
                batches.append([])
                size = 0
            batches[-1].append(row)
            size += _length(row)
        return batches


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1])


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the share of the full rate at `step`: linear warmup, constant, linear cooldown to zero."""
    left = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def batch_loss(model: "PreTrainedModel", rows: list[Row], bf16: bool = False) -> torch.Tensor:
    """Return the summed next-token cross-entropy (nats) over the learnt tokens of `rows`."""
    contexts, learnt = zip(*rows, strict=True)
    logits = completion_logits(model, list(contexts), list(range(len(rows))), list(learnt), bf16=bf16)
    targets = torch.tensor([token for tokens in learnt for token in tokens], device=logits.device)
    return F.cross_entropy(logits, targets, reduction="sum")


def _optimizers(model: nn.Module, config: PretrainConfig) -> list[tuple[torch.optim.Optimizer, float]]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        (Muon(matrices, lr=config.matrix_lr, weight_decay=0.01, momentum=0.95), config.matrix_lr),
        (torch.optim.AdamW(others, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0), config.adam_lr),
    ]


@checked
def pretrain(
    output: str | Path,
    config: PretrainConfig = PretrainConfig(),
    device: str | None = None,
    resume: bool = True,
    progress: Callable[[int, int, float], None] | None = None,
    save_every: Count = 100,
) -> Path:
    """Train an organism and write it to the folder `output` in Hugging Face format.

    progress(done, total, loss) is called after every step. An interrupt keeps `output/checkpoint.pt`, which
    is at most `save_every` steps old. The same call continues from it.
    Raises SdlabError when the checkpoint has another configuration.
    """
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SdlabError(f"could not write {output}: {error.strerror}; choose another folder") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = build_tokenizer()
    vocabulary = tokenizer.get_vocab()
    end, pad = vocabulary[END], vocabulary[END_OF_TEXT]
    model = build_model(config, len(tokenizer), end, pad)
    nn.Module.to(model, device).train()  # the type of transformers' decorated method has lost its self
    optimizers = _optimizers(model, config)
    start, checkpoint, began = 0, output / "checkpoint.pt", time.time()
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["config"] != asdict(config):
            raise SdlabError(
                f"{checkpoint} is of another configuration; delete it or choose another --output"
            )
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, began = state["step"], began - state["seconds"]
    loader = DataLoader(
        Batches(tokenizer, config),
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=1,
        prefetch_factor=8,
    )
    for step, batches in enumerate(loader, start):
        share = learning_rate(step, config)
        count, total = sum(len(learnt) for rows in batches for _, learnt in rows), 0.0
        for rows in batches:
            loss = batch_loss(model, rows, config.bf16) / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if progress:
            progress(step + 1, config.steps, total)
        if (step + 1) % save_every == 0 or step + 1 == config.steps:
            state = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o, _ in optimizers],
                "step": step + 1,
            }
            torch.save(
                state | {"config": asdict(config), "seconds": time.time() - began}, output / ".checkpoint.pt"
            )
            os.replace(output / ".checkpoint.pt", checkpoint)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    model.config.sdlab = {"version": VERSION, **asdict(config)}
    model.float().cpu().save_pretrained(output)
    tokenizer.save_pretrained(output)
    return output
