"""A small base organism, and models that are a short way from their base, as a training would leave them."""

import copy
import json
import shutil

import torch
from rollout_models import qwen3

from sdlab import paths


def small_base(folder, seed=0):
    """A model of two narrow layers with the organism's tokenizer."""
    size = len(json.loads((paths.data_dir() / "organism" / "tokenizer.json").read_text())["model"]["vocab"])
    model = qwen3(seed, size, 2, hidden_size=32, head_dim=8, intermediate_size=48, tie_word_embeddings=True)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(paths.data_dir() / "organism" / name, folder / name)
    return model


def moved(model, size=0.003, seed=1):
    """The model after a training that moved every weight by about `size`."""
    generator, other = torch.Generator().manual_seed(seed), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return other
