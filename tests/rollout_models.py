"""Tiny random models and a word tokenizer for the rollout tests and benchmarks."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCAB = 650
EOS, PAD = 1, 0


def word_tokenizer(vocab: int = VOCAB):
    """Words w3, w4, ... split at spaces; <eos> is 1, <pad> is 0, <unk> is 2."""
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, vocab)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def sharpen(model, factor: float):
    """Random weights give almost uniform predictions; scaled ones make tokens depend on what came before."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(factor)
            elif parameter.dim() == 1 and "Qwen3" in type(model).__name__:
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))  # norms that are not all one
    return model.eval()


def qwen3(seed: int = 0, factor: float = 3.0, vocab: int = VOCAB, layers: int = 4):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab, hidden_size=128, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=512, tie_word_embeddings=True, max_position_embeddings=1024, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None,
    )  # fmt: skip
    return sharpen(Qwen3ForCausalLM(config), factor)


def llama(seed: int = 0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=512, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None,
    )  # fmt: skip
    return sharpen(LlamaForCausalLM(config), 4.0)


def gpt2(seed: int = 0):
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=512, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None)
    return sharpen(GPT2LMHeadModel(config), 4.0)
