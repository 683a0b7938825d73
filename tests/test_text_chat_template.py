"""Chat templates for models that have none."""

from dataclasses import replace

import pytest
import rollout_models as tiny
from tokenizers.processors import TemplateProcessing

from sdlab.benchmarks.prompts import PromptStyle
from sdlab.errors import SdlabError
from sdlab.text.chat_template import set_chat_template, template_record
from sdlab.text.prompt import render_prompt
from sdlab.train.sdpo import SDPOConfig, run_sdpo
from sdlab.world.problems import Problem

PROBLEM = Problem("p/0", "p", "p", "", "w3 w4 ?", "4")


def tokenizer(begins=False):
    """A tokenizer without a chat template; `begins`: it puts a beginning-of-sequence token before texts."""
    made = tiny.word_tokenizer()
    if begins:
        made.add_special_tokens({"bos_token": "<s>"})
        bos = [("<s>", made.bos_token_id)]
        made.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=bos)
        assert made("w3").input_ids == [made.bos_token_id, 3]
    return made


@pytest.mark.parametrize("begins", [False, True])
def test_the_plain_template_has_the_beginning_where_the_tokenizer_adds_it(begins):
    made = tokenizer(begins)
    set_chat_template(made, "plain")
    prompt = render_prompt(made, PROBLEM, "w5", thinking=False)
    assert prompt.startswith("<s>Problem: w3 w4 ?" if begins else "Problem: w3 w4 ?")
    assert "Correct solution: w5" in prompt and prompt.endswith("\n\nSolution:")
    # the same ids as the tokenizer's own for the text without the special token
    bare = made(prompt.removeprefix("<s>")).input_ids
    assert made(prompt, add_special_tokens=False).input_ids == bare


def test_solved_problems_do_not_repeat_the_word_of_the_plain_template():
    made = tokenizer()
    set_chat_template(made, "plain")
    shots = PromptStyle(instruction="", examples=(("w5 ?", "w6"),))
    prompt = render_prompt(made, replace(PROBLEM, prompt=shots.prompt("w3 w4 ?", "4")), thinking=False)
    assert prompt.startswith("Problem: w5 ?\nSolution: w6") and prompt.endswith("w3 w4 ?\n\nSolution:")


def test_a_file_is_used_and_must_write_the_beginning(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    made = tokenizer()
    set_chat_template(made, str(path))
    assert render_prompt(made, PROBLEM, thinking=False) == "[w3 w4 ?]"
    with pytest.raises(SdlabError, match="mine.jinja does not begin with the token '<s>'.*{{ bos_token }}"):
        set_chat_template(tokenizer(begins=True), str(path))
    path.write_text("{{ bos_token }}" + path.read_text())
    set_chat_template(tokenizer(begins=True), str(path))
    assert template_record("plain") == "plain" and template_record(None) is None
    assert template_record(str(path)).startswith("mine.jinja (sha256 ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no-such.*cannot be read.*'plain'"),
        ("\n{% for m in messages %}{{ m.content }}", "line 2 is not a jinja template"),
        ("{# nothing #}", "renders nothing"),
    ],
)
def test_templates_that_cannot_be_used_are_refused(tmp_path, text, words):
    path = tmp_path / ("mine.jinja" if text else "no-such.jinja")
    if text:
        path.write_text(text)
    with pytest.raises(SdlabError, match=words) as caught:
        set_chat_template(tokenizer(), str(path))
    assert "\n" not in str(caught.value)


def test_sdpo_refuses_a_context_without_thinking_for_a_model_without_think_tags():
    from sdlab.rollout.torch_engine import TorchEngine

    made = tokenizer()
    set_chat_template(made, "plain")
    engine = TorchEngine(tiny.llama(), made)
    with pytest.raises(SdlabError, match="no <think>.*would see the full solution; use context='solution'"):
        run_sdpo(engine, [PROBLEM], SDPOConfig(steps=1, context="solution_no_think"))
