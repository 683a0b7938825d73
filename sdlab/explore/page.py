"""Assemble the explorer: one HTML page with the models, their tokenizer and the tables of the world."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import sdlab
from sdlab import paths
from sdlab.charts.style import METHOD_COLOURS
from sdlab.errors import SdlabError, first_line
from sdlab.explore import weights
from sdlab.files import sha256, write_atomic
from sdlab.rollout.loading import check_organism
from sdlab.show.tokens import FAMILIES
from sdlab.text.prompt import CONTEXT_LABELS, render_prompt
from sdlab.walkthrough import report
from sdlab.world import chemistry, hunts
from sdlab.world.splits import SPLITS, load_split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAGE = report.EXPLORER
LARGEST = 15_000_000  # bytes of the page
LIMIT = 256  # tokens of a completion, as in every evaluation
CONTEXTS = ("none", "solution", "solution_no_think")
LISTED = ("in-domain", "unseen-types", "deeper", "chemistry-test", "kata")
PER_SPLIT = 64  # problems of each split in the page; all kata, because a new one cannot be typed
SCRIPTS = ("model.js", "tokenizer.js", "worker.js")  # of the worker; it shares the first two with the page
PAGE_SCRIPTS = ("world.js", "view.js", "page.js", "token.js", "many.js", "link.js", "tour.js", "start.js")
PROBLEM, DEMONSTRATION = "\ue000", "\ue001"  # stand-ins, where a prompt's shape is cut


def write_page(
    output: str | Path, base_folder: str | Path | None = None, folder: str | Path | None = None
) -> Path:
    """Write the explorer to the file `output` and return its path.

    base_folder: default the organism. folder: of checkpoints; default `data/checkpoints`. Without checkpoints
    the page has the base alone.
    Raises SdlabError for an organism or a checkpoint that is damaged or cannot be shown, and for a page of
    more than LARGEST bytes.
    """
    page = build_page(base_folder, folder)
    size = len(page.encode())
    if size > LARGEST:
        raise SdlabError(
            f"the explorer would have {size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} MB are allowed; "
            "keep fewer checkpoints"
        )
    return write_atomic(output, page)


def build_page(base_folder: str | Path | None = None, folder: str | Path | None = None) -> str:
    """Return the explorer as HTML; arguments and errors are those of `write_page`, except the size."""
    if base_folder is None:
        base_folder = paths.data_dir() / paths.ORGANISM
        check_organism(base_folder)
    entries = weights.models(folder)
    packed = {"base": weights.pack_base(base_folder)}
    packed |= {weights.key(entry): weights.pack_checkpoint(entry, base_folder, folder) for entry in entries}
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            style=_asset("page.css"),
            shared=[_asset(name) for name in SCRIPTS[:2]],
            worker=_asset(SCRIPTS[2]),
            scripts=[_asset(name) for name in PAGE_SCRIPTS],
            data=_json(page_data(base_folder, entries)),
            packed={name: Markup(text) for name, text in packed.items()},  # base 85 without < and &
            contexts={name: CONTEXT_LABELS[name] for name in CONTEXTS},
            splits={name: SPLITS[name] for name in LISTED},
            families={name: (words, colour, line) for name, (words, colour, line) in FAMILIES.items()},
            version=sdlab.__version__,
        )
    )


def page_data(base_folder: str | Path, entries: list[weights.Checkpoint]) -> dict[str, Any]:
    """Return everything that the page's scripts read, except the weights.

    Raises SdlabError for an organism whose architecture or tokenizer the page cannot run.
    """
    from transformers import AutoTokenizer

    config, tokenizer_file = (_read(base_folder, name) for name in ("config.json", "tokenizer.json"))
    check_config(config)
    check_tokenizer(tokenizer_file)
    tokenizer = AutoTokenizer.from_pretrained(base_folder, trust_remote_code=False)
    ends = {tokenizer.eos_token_id, config.get("eos_token_id")} - {None}
    return {
        "config": config,
        "tokenizer": tokenizer_file,
        "ends": sorted(ends),
        "organism": sha256(Path(base_folder, "model.safetensors")),
        "shapes": prompt_shapes(tokenizer),
        "limit": LIMIT,
        "models": model_list(entries),
        "families": {name: words for name, (words, *_) in FAMILIES.items()},
        "contexts": {name: CONTEXT_LABELS[name] for name in CONTEXTS},
        "world": world_tables(),
        "problems": {name: listed_problems(name) for name in LISTED},
    }


@dataclass(frozen=True)
class _Message:
    """Something with a prompt, as `render_prompt` takes it."""

    prompt: str


def prompt_shapes(tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[str]]:
    """Return the fixed pieces of the prompts without and with a demonstration.

    A prompt is its pieces with the problem, and then the demonstration, between them.
    """
    problem = _Message(PROBLEM)
    plain = render_prompt(tokenizer, problem)
    informed = render_prompt(tokenizer, problem, DEMONSTRATION)
    before, rest = informed.split(PROBLEM)
    return {"plain": plain.split(PROBLEM), "informed": [before, *rest.split(DEMONSTRATION)]}


def model_list(entries: list[weights.Checkpoint]) -> list[dict[str, Any]]:
    """Return the models of the page: the base, then those of the checkpoints with their steps."""
    models = {"base": {"name": "base", "label": "base", "colour": METHOD_COLOURS["base"], "steps": [0]}}
    for entry in entries:
        colour = METHOD_COLOURS.get(entry.method, "#0072B2")
        model = {"name": entry.name, "label": entry.label, "colour": colour, "steps": []}
        models.setdefault(entry.name, model)["steps"].append(entry.step)
    return list(models.values())


def world_tables() -> dict[str, Any]:
    """Return the grammar of the world as tables.

    clues: words -> the numbers that fit. checks: words with {} for the number, and its value for 1 to `top`.
    """
    numbers = range(1, hunts.TOP + 1)
    families = [list(hunts.clue_variants(clue)) for clue in hunts.CLUES]
    return {
        "top": hunts.TOP,
        "names": hunts.NAMES,
        "clues": {words: fitting for family in families for words, fitting in family},
        "clueExamples": [family[len(family) // 2][0] for family in families],
        "checks": [
            {"words": words, "values": [function(x) for x in numbers]}
            for words, _, function in hunts.CHECKS.values()
        ],
        "reactions": {reaction: rule[0] for reaction, rule in chemistry.RULES.items()},
    }


def listed_problems(split: str) -> list[tuple[str, str]]:
    """Return the text and the answer of the problems of a split that the page lists."""
    problems = load_split(split, limit=None if split == "kata" else PER_SPLIT)
    return [(problem.prompt, problem.answer) for problem in problems]


def check_config(config: dict[str, Any]) -> None:
    """Raise SdlabError unless the page's script can run a model with this config.json."""
    rope = (config.get("rope_parameters") or {}).get("rope_type", "default")
    expected = {"model_type": "qwen3", "hidden_act": "silu", "attention_bias": False}
    wrong = {name: config.get(name) for name, value in expected.items() if config.get(name) != value}
    if rope != "default":
        wrong["rope_type"] = rope
    if set(config.get("layer_types") or ["full_attention"]) != {"full_attention"}:
        wrong["layer_types"] = "sliding"
    if wrong:
        raise SdlabError(f"the explorer cannot run a model with {wrong}; it runs plain Qwen3 models")


def check_tokenizer(file: dict[str, Any]) -> None:
    """Raise SdlabError unless the page's script can read this tokenizer.json."""
    before = file.get("pre_tokenizer") or {}
    steps = [(step["type"], step) for step in before.get("pretokenizers", [])]
    kinds = [kind for kind, _ in steps]
    if (
        file.get("normalizer") is not None
        or file.get("model", {}).get("type") != "BPE"
        or kinds != ["Split", "ByteLevel"]
        or "Regex" not in dict(steps)["Split"].get("pattern", {})
        or dict(steps)["Split"].get("behavior") != "Isolated"
        or dict(steps)["ByteLevel"].get("use_regex")
        or dict(steps)["ByteLevel"].get("add_prefix_space")
    ):
        raise SdlabError(
            "the explorer cannot read this tokenizer.json; it reads byte-level BPE that splits by one "
            "regular expression, without a normalizer"
        )


def _read(folder: str | Path, name: str) -> dict[str, Any]:
    try:
        return json.loads(Path(folder, name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SdlabError(
            f"{Path(folder, name)} is missing or damaged ({first_line(error)}); "
            "name the folder of an organism"
        ) from error


def _json(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c"))


def _asset(name: str) -> Markup:
    """Return the text of an asset, which goes into the page as it is."""
    return Markup((Path(__file__).parent / "assets" / name).read_text(encoding="utf-8"))


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("sdlab.explore", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
