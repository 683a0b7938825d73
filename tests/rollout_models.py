"""Tiny random models and a word tokenizer for the rollout tests and benchmarks."""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 650
EOS, PAD = 1, 0


def word_tokenizer(vocab: int = VOCAB):
    """Words w3, w4, ... split at spaces; <eos> is 1, <pad> is 0, <unk> is 2."""
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, vocab)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def sharpen(model, layers: float = 4.0, head: float = 3.0):
    """Random weights predict almost uniformly; scaled ones make a token depend on what came before it."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(head if any(part in name for part in ("embed", "wte", "lm_head")) else layers)
            elif "norm" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))  # norms that are not all one
    return model.eval()


def qwen3(seed: int = 0, vocab: int = VOCAB, layers: int = 4, **changes):
    torch.manual_seed(seed)
    settings = dict(
        vocab_size=vocab, hidden_size=128, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, intermediate_size=512, tie_word_embeddings=True,
        max_position_embeddings=1024, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None,
    )  # fmt: skip
    return sharpen(Qwen3ForCausalLM(Qwen3Config(**settings | changes)))


def llama(seed: int = 0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=512, eos_token_id=EOS, pad_token_id=PAD,
        bos_token_id=None,
    )  # fmt: skip
    return sharpen(LlamaForCausalLM(config))


def gpt2(seed: int = 0):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=512,
        eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    return sharpen(GPT2LMHeadModel(config))


def prompts(count: int, low: int = 3, high: int = 40, seed: int = 0) -> list[str]:
    """Random prompts of low..high words, so that a batch of them needs padding."""
    draw = random.Random(seed)
    return [
        " ".join(f"w{draw.randrange(3, VOCAB)}" for _ in range(draw.randint(low, high))) for _ in range(count)
    ]
