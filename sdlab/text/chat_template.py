"""Give a tokenizer a chat template: the template for base models, or one from a file."""

from typing import TYPE_CHECKING, cast

from sdlab import paths
from sdlab.errors import SdlabError, first_line
from sdlab.files import sha256
from sdlab.text.templates import named, render, template_options

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = "plain"
# The template for base models: a problem, then the word after which the model continues. Solved problems
# before it (few-shot) already begin with "Problem:".
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% if not message['content'].startswith('Problem:') %}Problem: "
    "{% endif %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}Solution: {{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Solution:{% endif %}"
)
BEGINNING = "{{ bos_token }}"
STOPS = ("\nProblem:",)  # after its solution a base model writes the next problem


def set_chat_template(tokenizer: "PreTrainedTokenizerBase", template: str) -> None:
    """Set the chat template of a tokenizer.

    template: "plain" for base models ("Problem: ...", then "Solution:"), or a file with a jinja template. The
    plain template begins with the beginning-of-sequence token if the tokenizer adds it to texts by itself, as
    those of Llama and Gemma do. A file must write it itself.

    Raises SdlabError for a file that is missing, that jinja cannot read or that renders nothing, and for one
    without the beginning-of-sequence token where the tokenizer adds it.
    """
    begins = adds_beginning(tokenizer)
    if template == PLAIN:
        tokenizer.chat_template = (BEGINNING if begins else "") + PLAIN_TEMPLATE
        return
    path = paths.given(template)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SdlabError(
            f"the chat template {template!r} cannot be read ({first_line(error, 80)}); "
            f"name a file with a jinja template, or {PLAIN!r} for a base model"
        ) from error
    tokenizer.chat_template = text
    prompt = _trial(tokenizer, template)
    if not prompt.strip():
        raise SdlabError(f"the chat template {template} renders nothing; it must write messages' content")
    bos = tokenizer.bos_token_id
    if begins and tokenizer(prompt, add_special_tokens=False)["input_ids"][:1] != [bos]:
        raise SdlabError(
            f"the chat template {template} does not begin with the token {tokenizer.bos_token!r}, which the "
            f"model of {named(tokenizer)} needs; put {BEGINNING} at its beginning"
        )


def stop_strings(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """Return the texts that end a completion besides the end-of-sequence token.

    The plain template has one, the beginning of the next problem. Other templates have none.
    """
    template = getattr(tokenizer, "chat_template", None)
    return STOPS if isinstance(template, str) and template.endswith(PLAIN_TEMPLATE) else ()


def template_record(template: str | None) -> str | None:
    """Return what identifies a chat template: "plain", or a file's name and the beginning of its checksum.

    Raises SdlabError for a file that is missing.
    """
    if template is None or template == PLAIN:
        return template
    path = paths.given(template)
    if not path.is_file():
        raise SdlabError(
            f"there is no chat template {template!r}; "
            f"name a file with a jinja template, or {PLAIN!r} for a base model"
        )
    return f"{path.name} (sha256 {sha256(path)[:12]})"


def adds_beginning(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether the tokenizer puts a beginning-of-sequence token before a text by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and cast(list[int], tokenizer("a")["input_ids"])[:1] == [bos]


def _trial(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """Return a short rendered prompt; raise SdlabError when jinja cannot render the template."""
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        return render(tokenizer, [{"role": "user", "content": "?"}], template_options(tokenizer, True))
    except (TemplateError, TypeError, KeyError) as error:
        line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise SdlabError(
            f"the chat template {template}{line} is not a jinja template for messages "
            f"({first_line(error, 80)}); mend it, or use {PLAIN!r} for a base model"
        ) from error
