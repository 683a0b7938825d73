"""Change a model while it writes: ban words, replace them, steer it, or give it a layer of another model.

Each intervention is a context manager. Its hooks are removed, and weights are restored, when the `with` ends,
also after an error. An intervention with dose 0 installs nothing, so nothing changes, bit for bit.

    with steer(engine.model, direction, layer=2, dose=1.0):
        table = evaluate(engine, problems, params)

A rollout engine on torch sees hooks: `sdlab.rollout.packed` leaves its fast path when a model has any. On any
other Hugging Face model the same `with` works around `model(...)` and `model.generate(...)`. Do not train
inside.

A marker is a word and, often, a behaviour: after "Check:" comes a check. `replace` keeps the behaviour and
changes the word; `ban` on "check" and "test" takes the behaviour and leaves the words of doubt.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from sdlab.errors import SdlabError
from sdlab.measure.logit_change import marker_tokens
from sdlab.measure.residuals import blocks, checked_layers, hidden_of, unembedding
from sdlab.text.markers import MARKERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEUTRAL = {"Check": "Test", "check": "test", "Maybe": "Try", "Perhaps": "Try"}


@contextmanager
def bias_logits(model: "PreTrainedModel", bias: Mapping[int, float]) -> Iterator[None]:
    """Add `bias` (token id -> nats, may be -inf) to the model's logits.

    Raises SdlabError for a token id that the model does not have, and for nan.
    """
    size = unembedding(model).weight.shape[0]
    for token, value in bias.items():
        if token not in range(size) or math.isnan(value):
            raise SdlabError(
                f"a bias of {value} on token {token} is not allowed; ids go from 0 to {size - 1}, "
                "and a bias is a number or -inf; choose others"
            )
    if not any(bias.values()):
        yield
        return
    added = torch.zeros(size)
    added[list(bias)] = torch.tensor(list(bias.values()))

    def hook(_, __, logits):
        return logits + added.to(logits)

    with _hooked(unembedding(model), hook):
        yield


@contextmanager
def ban(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    words: Sequence[str] = MARKERS,
    dose: float = math.inf,
) -> Iterator[dict[str, list[int]]]:
    """Lower the logits of every token that is one of `words` by `dose` nats; infinity forbids them.

    Yields the tokens by word. A word that the tokenizer writes in several tokens has none and is not banned.

    Raises SdlabError when no word has a token of its own, and for a negative dose.
    """
    tokens = marker_tokens(tokenizer, [word.lower() for word in words])
    if not any(tokens.values()):
        raise SdlabError(f"none of the words {', '.join(words)} is a token of this model; name others")
    if not dose >= 0:
        raise SdlabError(f"dose={dose} is not allowed; it must be 0 or more; use bias_logits to favour words")
    with bias_logits(model, {token: -dose for ids in tokens.values() for token in ids}):
        yield tokens


@contextmanager
def replace(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    table: Mapping[str, str] = NEUTRAL,
    dose: float = 1.0,
) -> Iterator[dict[int, int]]:
    """Make the model write neutral words where it would write markers; the share `dose` of the probability.

    table: marker -> neutral word; each form that the tokenizer has (with or without a space, capitals as
    in the table) must be one token on both sides. The probability of the marker is added to that of the
    neutral word, so the decision to write something there does not change. Yields the pairs of token ids.

    Raises SdlabError when no pair is a single token on both sides, and for a dose outside 0 to 1.
    """
    if not 0 <= dose <= 1:
        raise SdlabError(f"dose={dose} is not allowed; it must be a share from 0 to 1")
    vocabulary = {tokenizer.decode([token]): token for token in range(len(tokenizer))}
    pairs = {
        vocabulary[space + marker]: vocabulary[space + neutral]
        for marker, neutral in table.items()
        for space in ("", " ")
        if space + marker in vocabulary and space + neutral in vocabulary
    }
    if not pairs:
        raise SdlabError(
            f"no pair of {dict(table)} is one token on both sides in this model; name words of one token"
        )
    if dose == 0:
        yield pairs
        return
    keep = -math.inf if dose == 1 else math.log1p(-dose)

    def hook(_, __, logits):
        logits = logits.clone()
        for marker, neutral in pairs.items():
            written = logits[..., marker].clone()
            logits[..., neutral] = torch.logaddexp(logits[..., neutral], written + math.log(dose))
            logits[..., marker] = written + keep
        return logits

    with _hooked(unembedding(model), hook):
        yield pairs


def doubt_direction(states: np.ndarray, doubtful: ArrayLike) -> np.ndarray:
    """Return the mean residual at doubtful places minus that at the others: (N, d) and (N,) bool to (d,).

    Raises SdlabError when one side is empty or the lengths differ.
    """
    doubtful = np.asarray(doubtful, dtype=bool)
    if len(doubtful) != len(states) or doubtful.all() or not doubtful.any():
        raise SdlabError(
            f"{int(doubtful.sum())} of {len(doubtful)} places are doubtful, with {len(states)} residuals; "
            "a direction needs residuals on both sides; choose another limit"
        )
    states = np.asarray(states, dtype=float)
    return states[doubtful].mean(0) - states[~doubtful].mean(0)


@contextmanager
def steer(model: "PreTrainedModel", direction: ArrayLike, layer: int, dose: float = 1.0) -> Iterator[None]:
    """Add dose * direction to the residual stream at `layer`, at every place that the model reads.

    direction (d,); dose 1 moves by the whole difference of means, a negative dose away from doubt. layer
    as in `sdlab.measure.residuals`: 0 is the input of the first block.

    Raises SdlabError for a direction of another size or with values that are not finite, and for a layer that
    the model does not have.
    """
    checked_layers(model, [layer])
    vector = torch.as_tensor(np.asarray(direction), dtype=torch.float32)
    width = model.config.get_text_config().hidden_size
    if vector.shape != (width,):
        raise SdlabError(
            f"the direction has the shape {tuple(vector.shape)}, the model has {width} dimensions; "
            "use a direction from residuals of this model"
        )
    if not torch.isfinite(vector).all() or not math.isfinite(dose):
        raise SdlabError(
            f"the direction or the dose ({dose}) is not finite; check the residuals it comes from"
        )
    if dose == 0 or not vector.any():
        yield
        return
    added = dose * vector

    def after(_, __, output):
        hidden = hidden_of(output)
        moved = hidden + added.to(hidden)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    def before(_, args, kwargs):
        if args:
            return (args[0] + added.to(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + added.to(kwargs["hidden_states"])}

    with ExitStack() as stack:
        modules = blocks(model)
        if layer == 0:
            handle = modules[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = modules[layer - 1].register_forward_hook(after)
        stack.callback(handle.remove)
        yield


@contextmanager
def patch_layers(
    model: "PreTrainedModel", other: "PreTrainedModel", layers: Sequence[int], dose: float = 1.0
) -> Iterator[None]:
    """Give `model` the weights of these blocks of `other`: (1 - dose) * own + dose * other's.

    layers: 1 is the first block. Both models have one architecture, for example a base and a trained
    model. The own weights are restored bit for bit at the end.

    Raises SdlabError for a layer that is not there, blocks of another shape, and a dose outside 0 to 1.
    """
    if 0 in layers:
        raise SdlabError("layer 0 is the embedding, which is no block; name blocks from 1 on")
    checked_layers(model, layers), checked_layers(other, layers)
    if not 0 <= dose <= 1:
        raise SdlabError(f"dose={dose} is not allowed; it must be a share from 0 to 1")
    pairs = []
    for layer in dict.fromkeys(layers):
        mine, theirs = (_tensors(blocks(one)[layer - 1]) for one in (model, other))
        if [tensor.shape for tensor in mine] != [tensor.shape for tensor in theirs]:
            raise SdlabError(
                f"block {layer} has other shapes in the two models; patch between models of one architecture"
            )
        pairs += zip(mine, theirs, strict=True)
    if dose == 0:
        yield
        return
    kept = [mine.detach().clone() for mine, _ in pairs]
    try:
        with torch.no_grad():
            for mine, theirs in pairs:
                theirs = theirs.detach().to(mine)
                mine.copy_(theirs if dose == 1 else torch.lerp(mine, theirs, dose))
        yield
    finally:
        with torch.no_grad():
            for (mine, _), own in zip(pairs, kept, strict=True):
                mine.copy_(own)


def _tensors(block) -> list[torch.Tensor]:
    return [*block.parameters(), *block.buffers()]


@contextmanager
def _hooked(module, hook) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
