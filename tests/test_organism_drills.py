"""Subtraction drills: every line right, every difference that a known answer can ask for is among them."""

import re

from sdlab.organism.corpus import DRILLS, draw_document
from sdlab.organism.drills import COUNT, draw_drill
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.seeds import stream
from sdlab.text.prompt import render_prompt


def test_every_difference_is_right_and_asked_for_in_order():
    rng, seen = stream("test", "drills"), set()
    for _ in range(2000):
        problem, completion = draw_drill(rng)
        lines = re.findall(r" (\d+) - (\d+) = (\d+)\.", completion)
        assert len(lines) == COUNT and all(int(a) - int(b) == int(c) and int(c) > 0 for a, b, c in lines)
        assert [f"{a} - {b}" for a, b, _ in lines] == re.findall(r"\d+ - \d+", problem.prompt)
        assert completion.endswith(f"\\boxed{{{lines[-1][2]}}}.") and problem.answer == lines[-1][2]
        seen |= {(int(a), int(b)) for a, b, _ in lines}
    assert {(a + b, a) for a in range(1, 31) for b in range(1, 31)} <= seen  # what two hunts need


def test_drills_are_their_share_of_pretraining_and_words_of_the_tokenizer():
    rng, tokenizer = stream("test", "drill share"), build_tokenizer()
    documents = [draw_document(rng) for _ in range(2000)]
    drills = [d for d in documents if d.problem.domain == "drill"]
    assert 0.5 * DRILLS < len(drills) / len(documents) < 1.5 * DRILLS
    for d in drills[:5]:
        assert d.given == 0 and not d.thinking
        text = render_prompt(tokenizer, d.problem, thinking=False) + d.completion
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
