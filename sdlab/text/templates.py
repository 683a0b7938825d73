"""Check that a chat template supports the prompts of sdlab."""

import re
import warnings
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from sdlab.errors import SdlabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Opening tags of thinking of models that do not write <think>.
OTHER_THINKING = (
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
_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<form>.*?)(?P=quote)\s*\)""")


def check_template(tokenizer: "PreTrainedTokenizerBase", thinking: bool) -> None:
    """Check that a tokenizer has a chat template, and that the template supports `thinking`.

    Warns, once per tokenizer, when thinking is on and the model has no <think>, or when it thinks between
    other tags. There is then no solution without thinking.
    Raises SdlabError without a chat template, for thinking=False with a template that always opens <think>
    (DeepSeek-R1's), and for a template whose switch has another name than enable_thinking (DeepSeek-V3.1's is
    `thinking`).
    """
    if not hasattr(tokenizer, "chat_template"):
        return  # not a tokenizer of transformers: it renders prompts itself
    template = tokenizer.chat_template
    if not template:
        raise SdlabError(
            f"the tokenizer of {named(tokenizer)} has no chat template, so no prompt can be made; use the "
            "instruct or chat version of the model, or --chat-template plain for a base model "
            "(--chat-template FILE for a template of your own)"
        )
    _check_thinking(tokenizer, str(template), bool(thinking))


def check_rendered(tokenizer: "PreTrainedTokenizerBase", prompt: str, parts: Sequence[str]) -> None:
    """Raise SdlabError when a rendered prompt does not contain one of the texts `parts` whole.

    White space may differ, because many templates trim it. Some templates drop text that looks like a model's
    thinking.
    """
    for text in parts:
        if text not in prompt and " ".join(text.split()) not in " ".join(prompt.split()):
            raise SdlabError(
                f"the chat template of {named(tokenizer)} leaves out or changes a part of the prompt, which "
                f"begins {text[:60]!r}; use a template that keeps the user's message whole "
                "(set tokenizer.chat_template)"
            )


def template_options(tokenizer: "PreTrainedTokenizerBase", thinking: bool) -> dict:
    """Return the keyword arguments for `apply_chat_template`: the switch for thinking, and a fixed date.

    Some templates (Llama 3's) write today's date into every prompt. A run resumed on another day would then
    continue with other prompts. These templates are rendered with PROMPT_DATE, the default date of Llama 3's
    template.
    """
    template = str(getattr(tokenizer, "chat_template", ""))
    fixed = with_fixed_date(template)
    return {"enable_thinking": thinking} | ({"chat_template": fixed} if fixed != template else {})


def with_fixed_date(template: str) -> str:
    """Return a chat template with PROMPT_DATE in the place of every call of strftime_now."""
    return _TODAY.sub(lambda call: repr(PROMPT_DATE.strftime(call["form"])), template)


def opens_thinking(tokenizer: "PreTrainedTokenizerBase", thinking: bool) -> bool:
    """Return whether prompts end inside an open <think>, as DeepSeek-R1's do.

    Completions then begin inside their thinking.
    """
    if not hasattr(tokenizer, "chat_template"):
        return False
    return _opens(_rendered(tokenizer, str(tokenizer.chat_template), thinking))


def knows_think(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether <think> is in the chat template or in the vocabulary of a tokenizer."""
    if not hasattr(tokenizer, "chat_template"):
        return True  # not a tokenizer of transformers: nothing is known of it
    return "<think>" in str(tokenizer.chat_template) or "<think>" in tokenizer.get_vocab()


def _opens(prompt: str) -> bool:
    return prompt.rfind("<think>") > prompt.rfind("</think>")


@lru_cache(maxsize=64)
def _check_thinking(tokenizer: "PreTrainedTokenizerBase", template: str, thinking: bool) -> None:
    on, off = (_rendered(tokenizer, template, enabled) for enabled in (True, False))
    switch, vocabulary = on != off, tokenizer.get_vocab()
    knows = knows_think(tokenizer)
    others = [] if switch else other_switches(tokenizer, template)
    if others:
        raise SdlabError(
            f"the chat template of {named(tokenizer)} switches thinking by {others[0]!r}, and sdlab sets "
            f"enable_thinking; put {{%- set {others[0]} = enable_thinking -%}} at the beginning of "
            "tokenizer.chat_template and save it beside the model"
        )
    tags = [tag for tag in OTHER_THINKING if tag in template or tag in vocabulary]
    if tags and not knows:
        warnings.warn(
            f"{named(tokenizer)} thinks after {tags[0]}, not between <think> and </think>: its thinking "
            'cannot be told from its answer, so the context "solution without think" is left out, and SDPO '
            'cannot use context="solution_no_think"',
            stacklevel=4,
        )
    elif thinking and not (switch or knows):
        warnings.warn(
            f"thinking is asked for, but {named(tokenizer)} has no <think> in its chat template or "
            'vocabulary: it answers as it always does, the context "solution without think" is left out, '
            'and SDPO cannot use context="solution_no_think"; use thinking=False for such a model',
            stacklevel=4,
        )
    if not thinking and _opens(off):
        raise SdlabError(
            f"thinking=False cannot be had from {named(tokenizer)}: its chat template opens <think> whatever "
            "enable_thinking says; use thinking=True, or a model whose template has the switch (Qwen3's has)"
        )
    if not thinking and (knows or tags) and not switch:
        warnings.warn(
            f"thinking=False changes nothing in the chat template of {named(tokenizer)}: whether it "
            "thinks is up to the model; look at its completions",
            stacklevel=4,
        )


def other_switches(tokenizer: "PreTrainedTokenizerBase", template: str) -> list[str]:
    """Return the variables of a chat template that switch thinking, other than enable_thinking.

    Their names contain "think", and they change a prompt.
    """
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        names = meta.find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError:  # the template has tags that only transformers knows
        return []
    names = sorted(name for name in names if "think" in name and "budget" not in name)
    return [
        name
        for name in names
        if _render(tokenizer, {name: True}) != _render(tokenizer, {name: False}) and name != "enable_thinking"
    ]


@lru_cache(maxsize=64)
def _rendered(tokenizer: "PreTrainedTokenizerBase", template: str, thinking: bool) -> str:
    """Return a short rendered prompt; `template` is a part of the cache's key."""
    return _render(tokenizer, template_options(tokenizer, thinking))


def _render(tokenizer: "PreTrainedTokenizerBase", options: dict) -> str:
    return render(tokenizer, [{"role": "user", "content": "?"}], options)


def render(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], options: dict) -> str:
    """Return chat messages as one string that ends where the model continues.

    options: keyword arguments for the chat template (`template_options`).
    """
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    return cast(str, text)  # with tokenize=False it is no list of token ids


def named(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the name of a tokenizer's model for a message."""
    return repr(getattr(tokenizer, "name_or_path", "") or "this model")
