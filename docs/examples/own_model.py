"""Your own model: any causal language model in a folder. Here it is a small untrained Llama."""

from transformers import LlamaConfig, LlamaForCausalLM

import sdlab

tokenizer = sdlab.load_engine("organism").tokenizer  # with a chat template, which prompts need
config = LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=512,
    bos_token_id=None,
    eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
)
LlamaForCausalLM(config).save_pretrained("my-model")
tokenizer.save_pretrained("my-model")

engine = sdlab.load_engine("my-model")
problems = sdlab.load_problems("in-domain", limit=4)
table = sdlab.evaluate(engine, problems, num_generations=2, max_completion_length=16)
print(sdlab.summarise(table, metrics=["reward", "length"]))
print(f"{table['answer'].isna().sum()} of {len(table)} completions have no readable answer")
