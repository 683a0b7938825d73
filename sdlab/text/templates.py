"""Check that a chat template can render what sdlab asks of it."""

import warnings
from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from sdlab.errors import SdlabError

OTHER_THINKING = (  # what opens the thinking of models that do not write <think>
    "<|channel>thought",  # Gemma
    "<|channel|>analysis",  # gpt-oss
    "<|channel>",
    "<|channel|>",
    "[THINK]",  # Magistral
    "<|START_THINKING|>",  # Command A
    "<seed:think>",
    "<|begin_of_thought|>",
)
PROMPT_DATE = date(2024, 7, 26)  # in prompts of templates that write the date


def check_template(tokenizer, thinking: bool) -> None:
    """Check what a prompt needs of a tokenizer: a chat template, and one that can do what `thinking` asks for.

    Raises SdlabError without a chat template, for thinking=False with a template that opens <think> all the same
    (DeepSeek-R1's), and for a template whose switch has another name than enable_thinking (DeepSeek-V3.1's is `thinking`).
    Warns, once per tokenizer, where thinking is asked for and the model has no <think>, or thinks between other tags: then
    "solution without think" is the full solution.
    """
    if not hasattr(tokenizer, "chat_template"):
        return  # not a tokenizer of transformers: it renders prompts in its own way
    template = tokenizer.chat_template
    if not template:
        raise SdlabError(
            f"the tokenizer of {named(tokenizer)} has no chat template, so no prompt can be made; use the instruct or chat version of the "
            "model, or set tokenizer.chat_template and save it beside the model"
        )
    _check_thinking(tokenizer, str(template), bool(thinking))


def check_rendered(tokenizer, prompt: str, parts: Sequence[str]) -> None:
    """Raise SdlabError when one of the texts that should stand in a rendered prompt is not there whole.

    White space may differ: many templates trim it. Some drop what they take for a model's thinking.
    """
    for text in parts:
        if text not in prompt and " ".join(text.split()) not in " ".join(prompt.split()):
            raise SdlabError(
                f"the chat template of {named(tokenizer)} leaves out or changes a part of the prompt, which begins "
                f"{text[:60]!r}; use a template that keeps the user's message whole (set tokenizer.chat_template)"
            )


def template_options(tokenizer, thinking: bool) -> dict:
    """Return the keyword arguments for `apply_chat_template`: the switch for thinking, and a date that never changes.

    Some templates (Llama 3's) write the date of the day into every prompt, so that a run that is resumed on another day would
    not go on as it began. Theirs is PROMPT_DATE, the one that Llama 3's falls back to.
    """
    dated = "strftime_now" in str(getattr(tokenizer, "chat_template", ""))
    return {"enable_thinking": thinking} | ({"strftime_now": prompt_date} if dated else {})


def prompt_date(form: str) -> str:
    """Return PROMPT_DATE in the form that a chat template asks for."""
    return PROMPT_DATE.strftime(form)


def opens_thinking(tokenizer, thinking: bool) -> bool:
    """Return whether prompts end inside an open <think> (DeepSeek-R1's do), so that completions begin inside their thinking."""
    if not hasattr(tokenizer, "chat_template"):
        return False
    return _opens(_rendered(tokenizer, str(tokenizer.chat_template), thinking))


def _opens(prompt: str) -> bool:
    return prompt.rfind("<think>") > prompt.rfind("</think>")


@lru_cache(maxsize=64)
def _check_thinking(tokenizer, template: str, thinking: bool) -> None:
    on, off = (_rendered(tokenizer, template, wanted) for wanted in (True, False))
    switch, vocabulary = on != off, tokenizer.get_vocab()
    knows = "<think>" in template or "<think>" in vocabulary
    others = [] if switch else other_switches(tokenizer, template)
    if others:
        raise SdlabError(
            f"the chat template of {named(tokenizer)} switches thinking by {others[0]!r}, and sdlab sets enable_thinking; put "
            f"{{%- set {others[0]} = enable_thinking -%}} at the beginning of tokenizer.chat_template and save it beside the model"
        )
    tags = [tag for tag in OTHER_THINKING if tag in template or tag in vocabulary]
    if tags and not knows:
        warnings.warn(
            f"{named(tokenizer)} thinks after {tags[0]}, not between <think> and </think>: its thinking cannot be told from its answer, and "
            'the context "solution without think" will be the full solution',
            stacklevel=4,
        )
    elif thinking and not (switch or knows):
        warnings.warn(
            f"thinking is asked for, but {named(tokenizer)} has no <think> in its chat template or vocabulary: it answers as it always "
            'does, and the context "solution without think" will be the full solution; use thinking=False for such a model',
            stacklevel=4,
        )
    if not thinking and _opens(off):
        raise SdlabError(
            f"thinking=False cannot be had from {named(tokenizer)}: its chat template opens <think> whatever enable_thinking says; "
            "use thinking=True, or a model whose template has the switch (Qwen3's has)"
        )
    if not thinking and (knows or tags) and not switch:
        warnings.warn(
            f"thinking=False changes nothing in the chat template of {named(tokenizer)}: whether it thinks is up to the model; look at its completions",
            stacklevel=4,
        )


def other_switches(tokenizer, template: str) -> list[str]:
    """Return the variables of a chat template, other than enable_thinking, that change a prompt and are named after thinking."""
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        names = meta.find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError:  # it has tags that only transformers knows
        return []
    names = sorted(name for name in names if "think" in name and "budget" not in name)
    return [
        name
        for name in names
        if _render(tokenizer, {name: True}) != _render(tokenizer, {name: False}) and name != "enable_thinking"
    ]


@lru_cache(maxsize=64)
def _rendered(tokenizer, template: str, thinking: bool) -> str:
    """A short prompt; `template` is the tokenizer's, so that another one is rendered anew."""
    return _render(tokenizer, template_options(tokenizer, thinking))


def _render(tokenizer, options: dict) -> str:
    messages = [{"role": "user", "content": "?"}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)


def named(tokenizer) -> str:
    """What to call a tokenizer's model in a message."""
    return repr(getattr(tokenizer, "name_or_path", "") or "this model")
