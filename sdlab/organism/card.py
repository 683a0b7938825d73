"""Measure an organism on every split and in every mode, and write its model card."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pandas

from sdlab.errors import SdlabError
from sdlab.files import sha256, write_atomic
from sdlab.measure.evaluation import evaluate, summarise
from sdlab.measure.intervals import interval_cells
from sdlab.rollout.types import SamplingParams, TrainableEngine
from sdlab.seeds import stable_int, stream
from sdlab.settings import Count, Seed, checked
from sdlab.text.prompt import CONTEXT_LABELS, CONTEXTS
from sdlab.world.knobs import Knobs
from sdlab.world.reasoner import sample
from sdlab.world.solutions import is_right, write_demonstration
from sdlab.world.splits import load_split

MEASURED = ("in-domain", "unseen-types", "deeper", "chemistry-test", "kata")
NUM_GENERATIONS = 8
MAX_COMPLETION_LENGTH = 384
METRICS = ("reward", "length", "markers", "truncated")  # in the card
MEASURES = (*METRICS, "no_answer")
SMALLER = (
    "It is here to see which findings depend on the size of the model: same texts, same steps, another "
    "shape. What the organism's card says of the world holds for it too."
)
NO_INTUITION = "The reasoner has no intuition: before any check it holds every candidate for equally likely."
INTUITION = """The reasoner has intuition, q = {q}. On hunts of the 20 known types, its belief before
any check is q + (1 - q)/n for the right one of n candidates and (1 - q)/n for each other one. On unseen types
it has none to show: no pretraining text holds a problem of an unseen type, so what the organism does there is
its own generalisation. Intuition was added because without it the effect of self-distillation has another \
shape
than in the paper. It is therefore a hypothesis about the cause, and this world can only show that it is
sufficient. The organism without intuition is the control."""
CARD = "README.md"
TEMPLATE = Path(__file__).parent / "templates" / "card.md"
# Observations on the organism of the default shape; another shape has other habits.
HABITS = Path(__file__).parent / "templates" / "card_habits.md"
TRIES = HABITS.with_name("card_tries.md")  # what was tried before the intuition was settled
SHAPE = {"hidden_size": 128, "intermediate_size": 512, "num_layers": 4, "steps": 2600}


@checked
def measure_splits(
    engine: TrainableEngine,
    num_problems: Count,
    seed: Seed = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pandas.DataFrame:
    """Measure avg@8 at temperature 1 on each split, with thinking on and off, and in each context.

    Each measurement uses at most `num_problems` problems. The table has one row per split, mode and metric,
    with the columns of `summarise` (metric, mean, low, high, ...), split and mode. Demonstrations are correct
    traces of the reasoner, so every problem has one.
    """
    knobs = Knobs.of(engine.model.config)
    rows, modes = [], [("thinking on", "none", True), ("thinking off", "none", False)]
    modes += [(CONTEXT_LABELS[context], context, True) for context in CONTEXTS[1:]]
    for number, split in enumerate(MEASURED):
        problems = load_split(split, seed)[:num_problems]
        rng = stream("card", "demonstrations", split, seed)
        for place, (mode, context, thinking) in enumerate(modes):
            written = "solution" if context == "solution_no_think" else context
            demonstrations = None
            if context != "none":
                demonstrations = [write_demonstration(p, rng, written, knobs=knobs) for p in problems]
            params = SamplingParams(
                NUM_GENERATIONS, MAX_COMPLETION_LENGTH, seed=stable_int("card", split, mode, seed)
            )
            frame = evaluate(
                engine, problems, params, context=context, demonstrations=demonstrations, thinking=thinking
            )
            frame["no_answer"] = frame["answer"].isna()
            rows.append(summarise(frame, metrics=MEASURES).assign(split=split, mode=mode))
            if progress:
                progress(number * len(modes) + place + 1, len(MEASURED) * len(modes))
    return pandas.concat(rows, ignore_index=True)


def as_text(measured: pandas.DataFrame) -> pandas.DataFrame:
    """Return `measured` as a table of text, with one row per split and mode."""
    cells = measured.assign(cell=interval_cells(measured))
    wide = cells.pivot(index=["split", "mode"], columns="metric", values="cell")
    keys = pandas.MultiIndex.from_frame(cells[["split", "mode"]].drop_duplicates())
    return wide.reindex(index=keys, columns=list(METRICS))


def scores_markdown(measured: pandas.DataFrame) -> str:
    """Return the scores as a Markdown table."""
    lines = [
        "| split | mode | score (avg@8) | length (tokens) | markers | cut off |",
        "|---|---|---|---|---|---|",
    ]
    for row in as_text(measured).reset_index().itertuples(index=False):
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def reasoner_score(knobs: Knobs, generations: int = 4) -> float:
    """Return the share of right traces that the reasoner writes on all in-domain hunts without context."""
    rng, problems = stream("card", "reasoner"), load_split("in-domain")
    return fmean(
        is_right(problem, sample(problem, rng, knobs=knobs).text)
        for problem in problems
        for _ in range(generations)
    )


def describe_intuition(knobs: Knobs) -> str:
    """Return the card's paragraph on intuition."""
    if not knobs.intuition:
        return NO_INTUITION
    return INTUITION.format(q=knobs.intuition) + "\n" + TRIES.read_text(encoding="utf-8").rstrip()


def write_card(folder: str | Path, measured: pandas.DataFrame) -> Path:
    """Write the model card and SHA256SUMS, which has the checksum of every file in the folder.

    The organism is only loaded when these checksums are right, so this is the last step of making an
    organism.
    Raises SdlabError when `folder` has no organism made by sdlab.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        made = config["sdlab"]
    except (OSError, ValueError, KeyError) as error:
        raise SdlabError(
            f"{folder} holds no organism made by `sdlab pretrain` "
            "(its config.json does not say how it was made); name the --output of `sdlab pretrain`"
        ) from error
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())
    knobs = Knobs.of(config)
    facts = made | {
        "vocab_size": config["vocab_size"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
    }
    facts |= {"parameters": f"{parameters:,}", "scores": scores_markdown(measured)}
    facts |= {"intuition": describe_intuition(knobs), "reasoner": f"{reasoner_score(knobs):.2f}"}
    changed = {name: made[name] for name, usual in SHAPE.items() if made[name] != usual}
    # before version 3 the setting did not exist, and all were trained with bfloat16 products
    facts["precision"] = "matrix products in bfloat16" if made.get("bf16", True) else "float32"
    facts["name"] = folder.resolve().name
    facts["title"] = "The small sdlab organism" if changed else "The sdlab organism"
    facts["command"] = " ".join(
        [
            "sdlab pretrain --seed",
            str(made["seed"]),
            *(f"--{name.replace('_', '-')} {value}" for name, value in changed.items()),
            *(["--knobs", *settings] if (settings := knobs.settings()) else []),
        ]
    )
    facts["habits"] = SMALLER if changed else HABITS.read_text(encoding="utf-8").rstrip()
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in facts.items():
        text = text.replace("{" + name + "}", str(value))
    card = write_atomic(folder / CARD, text)
    write_sums(folder)
    return card


def write_sums(folder: str | Path) -> Path:
    """Write SHA256SUMS for the model's files in `folder`, without checkpoints."""
    folder = Path(folder)
    names = sorted(
        p.name for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS" and p.suffix != ".pt"
    )
    return write_atomic(
        folder / "SHA256SUMS", "".join(f"{sha256(folder / name)}  {name}\n" for name in names)
    )
