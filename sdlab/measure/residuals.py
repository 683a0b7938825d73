"""Read the residual stream of a model: what every block has written, at chosen places of completions.

It works for every Hugging Face causal language model whose blocks are in one list. Layer 0 is the input of
the first block (the token's embedding); layer k is the output of block k. The model's own forward pass runs,
not the fast path of `sdlab.rollout`, so the numbers are those that hooks see.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sdlab.errors import SdlabError
from sdlab.measure.places import Places
from sdlab.rollout.cache import accepted
from sdlab.rollout.torch_engine import TorchEngine, frozen

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def blocks(model: "PreTrainedModel") -> nn.ModuleList:
    """Return the blocks of a model, in order.

    Raises SdlabError when they are not in one list.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise SdlabError(
        f"{type(model).__name__} has no list of its {count} blocks; residuals can be read from models that "
        "keep their blocks in one list, such as Qwen, Llama and GPT-2; use one of these"
    )


def unembedding(model: "PreTrainedModel") -> nn.Linear:
    """Return the linear layer from the last residual to the logits.

    Raises SdlabError when the model has none.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise SdlabError(
            f"{type(model).__name__} has no linear layer before its logits; the logits of markers can be "
            "changed or explained only in models that have one; use a causal language model"
        )
    return head


def checked_layers(model: "PreTrainedModel", layers: Sequence[int] | None) -> list[int]:
    """Return the layers to read; None means all, 0 to the number of blocks.

    Raises SdlabError for a layer that the model does not have.
    """
    count = len(blocks(model))
    layers = list(range(count + 1)) if layers is None else list(layers)
    for layer in layers:
        if layer not in range(count + 1):
            raise SdlabError(
                f"layer {layer!r} is not in this model; it has the layers 0 (the embedding) to {count}; "
                "choose among them"
            )
    return layers


def hidden_of(output: torch.Tensor | tuple) -> torch.Tensor:
    """Return the hidden states (B, T, d) in what a block returns: a tensor, or the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def recording(model: "PreTrainedModel", layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Record the residual stream of every forward pass inside a `with`: layer -> (B, T, d), the last pass's.

    The hooks are removed at the end, also after an error.
    """
    seen: dict[int, torch.Tensor] = {}

    def enter(_, args, kwargs):
        seen[0] = args[0] if args else kwargs["hidden_states"]

    def leave(layer: int):
        return lambda _, __, output: seen.__setitem__(layer, hidden_of(output))

    with ExitStack() as stack:
        modules = blocks(model)
        for layer in layers:
            if layer == 0:
                handle = modules[0].register_forward_pre_hook(enter, with_kwargs=True)
            else:
                handle = modules[layer - 1].register_forward_hook(leave(layer))
            stack.callback(handle.remove)
        yield seen


def residuals(
    engine: TorchEngine, places: Places, layers: Sequence[int] | None = None, batch_tokens: int = 4096
) -> dict[int, np.ndarray]:
    """Return the residual stream at every place: layer -> (N, d) float32.

    engine: a torch rollout engine. layers: None reads all. A batch has at most `batch_tokens` padded
    tokens, or is one completion.

    Raises SdlabError for a layer that the model does not have and for completions that are too long for it.
    """
    model, layers = engine.model, checked_layers(engine.model, layers)
    room = max(map(len, places.completion_ids))
    prompts = engine.encode(places.prompts, room)
    rows, positions = (places.frame[name].to_numpy() for name in ("row", "position"))
    needed = np.zeros(len(prompts), dtype=int)  # tokens after the last place are not run
    np.maximum.at(needed, rows, positions)
    ids = [prompt + list(places.completion_ids[i][: needed[i]]) for i, prompt in enumerate(prompts)]
    at = np.array([len(prompts[i]) for i in rows]) + positions - 1
    states: dict[int, np.ndarray] = {}
    with frozen(model), torch.inference_mode(), recording(model, layers) as seen:
        for batch in _batches(ids, set(rows.tolist()), batch_tokens):
            tokens, mask = padded([ids[i] for i in batch], engine.pad_id, model.device)
            model(input_ids=tokens, attention_mask=mask, use_cache=False, **accepted(model, logits_to_keep=1))
            place = {i: n for n, i in enumerate(batch)}
            mine = np.flatnonzero(np.isin(rows, batch))
            here = torch.tensor([place[i] for i in rows[mine]]), torch.tensor(at[mine])
            for layer in layers:
                part = seen[layer].cpu()[here].float().numpy()
                states.setdefault(layer, np.zeros((len(rows), part.shape[1]), np.float32))[mine] = part
    return states


def padded(rows: list[list[int]], pad: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids padded on the right, and their attention mask, each (B, T) int64."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def _batches(ids: list[list[int]], used: set[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield row numbers of similar length, at most batch_tokens padded tokens at once."""
    batch: list[int] = []
    for row in sorted(used, key=lambda i: len(ids[i])):
        if batch and (len(batch) + 1) * len(ids[row]) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
