"""A base model's completion ends where it writes the next problem."""

import threading
from functools import partial

import pytest
import rollout_models as tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sdlab.rollout import loop
from sdlab.rollout.rows import collect
from sdlab.rollout.stops import stop_check
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.text import chat_template
from sdlab.text.chat_template import set_chat_template, stop_strings

TEXT = "4 and 5 is \\boxed{9}\n\nProblem: and more\nProblem: again"


@pytest.fixture
def tokenizer():
    """A token for each byte, and some of several bytes, so that a stop string may end inside a token."""
    pieces = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("P", "r"), ("Pr", "o"), ("Ċ", "Pro"), (":", "Ġ"), (":Ġ", "a")]
    vocab = {piece: i for i, piece in enumerate([*pieces, *map("".join, merges)])}
    inner = Tokenizer(models.BPE(vocab, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")
    set_chat_template(made, "plain")
    return made


def test_only_the_plain_template_has_stop_strings(tokenizer):
    assert stop_strings(tokenizer) == ("\nProblem:",)
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert stop_strings(tokenizer) == () and stop_check(tokenizer) is None


def test_a_row_is_cut_after_the_first_stop_string(tokenizer):
    ids = [
        tokenizer.encode(text) for text in (TEXT, "3\n\nSo it is 3", "2<eos>\nProblem: b", ":\nProblem: abc")
    ]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    rollouts = collect(
        tokenizer, [1], 0, ["p"] * 4, [[5]] * 4, SamplingParams(1, width), tokens, -torch.ones(4, width)
    )
    assert rollouts.texts == ["4 and 5 is \\boxed{9}\n", "3\n\nSo it is 3", "2", ":"]
    ends = [tokenizer.decode(row[-1:]) for row in rollouts.completions()]
    assert ends[0] == ends[3] == ": a"  # the whole token in which the stop string ends
    assert rollouts.truncated.tolist() == [False, True, False, False]
    assert len(rollouts.completions()[1]) == width  # padding is no end of sequence
    masked = rollouts.per_token_logps == 0
    assert torch.equal(masked, ~rollouts.completion_mask)


class Scripted:
    """A decoder whose every row writes a given list of tokens, then the letter x."""

    drop_share = 0.01

    def __init__(self, texts, x):
        self.texts, self.x, self.place, self.steps = texts, x, 0, 0

    def logits(self):
        at = [row[self.place] if self.place < len(row) else self.x for row in self.texts]
        return torch.nn.functional.one_hot(torch.tensor(at), 400).float() * 1e4

    def prefill(self, prompts, repeats, room):
        return self.logits()

    def step(self, tokens):
        self.place, self.steps = self.place + 1, self.steps + 1
        return self.logits()

    def keep(self, rows):
        self.texts = [self.texts[i] for i in rows.tolist()]


def test_sampling_ends_a_row_at_its_stop_string(tokenizer):
    texts = [tokenizer.encode(TEXT), tokenizer.encode("1\nProblem:")]
    decoder, limit = Scripted(texts, tokenizer.encode("x")[0]), 200
    counts = []
    tokens, _ = loop.sample_unit(
        decoder, loop.Unit([[5], [5]], [1, 1], [0, 1]), torch.full((limit, 2), 0.5),
        SamplingParams(1, limit, temperature=0), torch.tensor([1]), threading.Event(), counts.append,
        stop_check(tokenizer),
    )  # fmt: skip
    first_stop = len(tokenizer.encode("4 and 5 is \\boxed{9}\n\nProblem: a"))
    assert decoder.steps == first_stop - 1 and sum(counts) == 2
    assert tokens[:first_stop, 0].tolist() == texts[0][:first_stop]


def test_an_engine_writes_the_same_tokens_up_to_the_stop_string(tokenizer, monkeypatch):
    model = tiny.llama()
    engine, params = TorchEngine(model, tokenizer), SamplingParams(4, 24, seed=3)
    monkeypatch.setattr(chat_template, "STOPS", ())
    free = engine.generate(["12", "345"], params)
    prefix = partial(tokenizer.decode, skip_special_tokens=True)
    stop = next(c for text in free.texts for c in text[2:] if c.isascii() and c.isalnum())
    monkeypatch.setattr(chat_template, "STOPS", (stop,))
    cut = engine.generate(["12", "345"], params)
    for row, (whole, part) in enumerate(zip(free.completions(), cut.completions(), strict=True)):
        holds = [n for n in range(1, len(whole) + 1) if stop in prefix(whole[:n])]
        assert part == whole[: holds[0] if holds else None]
        assert cut.texts[row] == free.texts[row].partition(stop)[0]
        assert bool(cut.truncated[row]) == (not holds and bool(free.truncated[row]))
    assert min(cut.lengths) < min(free.lengths)
