"""Build the organism's tokenizer: one token per word of the world, bytes for everything else.

A whole number or word is one token, with or without the space before it, so a fact of the world is a fact
about tokens. Other text falls back to bytes and is decoded exactly.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from sdlab.seeds import stream
from sdlab.text.prompt import build_messages
from sdlab.world import chemistry, hunts, kata

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, START, END)
THINK = ("<think>", "</think>")  # ordinary added tokens: decoding without special tokens keeps them
PIECE = r" ?\\boxed\{| ?\p{L}+| ?\d+|\n+| ?[^\s\p{L}\d]|\s"  # one word of the vocabulary at most
_PYTHON_PIECE = PIECE.replace(r"\p{L}+", "[A-Za-z]+").replace(r"\p{L}", "A-Za-z")
LARGEST = 130  # the numbers 0 to LARGEST are words
MULTIPLE = 16  # the vocabulary is padded to a multiple of this

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)


def _byte_letters() -> dict[int, str]:
    """Return GPT-2's printable letter for every byte, as ByteLevel pre-tokenisation writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    extra = (b for b in range(256) if b not in letters)
    return letters | {b: chr(256 + i) for i, b in enumerate(extra)}


@cache
def world_words() -> tuple[str, ...]:
    """Return every word that the world can write, with the space before it, in sorted order."""
    from sdlab.organism.corpus import draw_document

    rng, words = stream("vocabulary"), set()
    texts = ["user\nassistant\nsystem\n\n"]
    for clue, check in hunts.TYPES:
        for hunt in hunts.single_hunts(clue, check):
            texts += [hunts.make_slot(name, check, hunt)[1] for name in hunts.NAMES]
    texts += [p.prompt + "\n" + p.feedback for p in kata.all_kata()]
    texts += [chemistry.make_problem(chemistry.draw_chemistry(rng), "", "").prompt for _ in range(3000)]
    for _ in range(3000):
        document = draw_document(rng)
        texts += [
            build_messages(document.problem, document.demonstration, document.feedback)[0]["content"],
            document.completion,
        ]
    for text in texts:
        words.update(re.findall(_PYTHON_PIECE, text))
    for n in range(LARGEST + 1):
        words.update((str(n), f" {n}"))
    return tuple(sorted(w for w in words if len(w.encode()) > 1))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """Build the tokenizer; it is the same every time."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = _byte_letters()
    words = ["".join(letters[b] for b in word.encode()) for word in world_words()]
    vocabulary = [*SPECIAL, *THINK, *(letters[b] for b in range(256)), *words]
    vocabulary += [f"<|unused{i}|>" for i in range(-len(vocabulary) % MULTIPLE)]
    ids = {token: i for i, token in enumerate(vocabulary)}
    if len(ids) != len(vocabulary):
        raise AssertionError("two tokens of the vocabulary are the same")
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END_OF_TEXT, chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False, model_max_length=1024, padding_side="left",
    )  # fmt: skip
