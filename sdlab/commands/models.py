"""`sdlab models`: known models, from the organism to 8 billion parameters, and what each needs."""

from dataclasses import dataclass

import pandas
import tyro

from sdlab.commands.tables import Column, TableOptions, note, print_table
from sdlab.paths import SHIPPED

COPIES = 8  # of the weights in memory while one machine trains: see sdlab.runs.needs


@dataclass(frozen=True)
class Known:
    """A model that sdlab knows."""

    name: str
    parameters: int
    think: str
    """Whether it writes <think>, and how that is switched."""
    needs: str


SWITCH = "yes, --no-thinking"
SMOLLM2_PARAMETERS = 134_515_008
THINKING = {
    "Qwen/Qwen3-0.6B": SWITCH,
    "Qwen/Qwen3-1.7B": SWITCH,
    "Qwen/Qwen3-4B": SWITCH,
    "Qwen/Qwen3-8B": SWITCH,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "always",
    "allenai/Olmo-3-7B-Instruct": "no",
}


def known_models() -> list[Known]:
    """Return the shipped organisms, the packaged model, and models of the hub, by size."""
    import json
    import math

    from safetensors import safe_open

    from sdlab.paths import shipped
    from sdlab.scale.hardware import SHAPES

    models = []
    for name in SHIPPED:
        folder = shipped(name)
        if folder is None or not (folder / "model.safetensors").is_file():
            continue
        with safe_open(folder / "model.safetensors", "pt") as weights:
            count = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())
        vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
        models.append(Known(name, count, SWITCH, f"nothing: it is shipped ({vocab} tokens)"))
    models.append(Known("smollm2-135m", SMOLLM2_PARAMETERS, "no", 'pip install "sdlab[realmodel]"'))
    for name, shape in sorted(SHAPES.items(), key=lambda pair: pair[1].parameters):
        needs = "the hub" if shape.parameters < 2e9 else "the hub, a GPU"
        models.append(Known(name, shape.parameters, THINKING[name], needs))
    return models


def models_command(table: tyro.conf.OmitArgPrefixes[TableOptions] = TableOptions()) -> int:
    """List known models and what each needs; any causal language model of the hub or of a folder works too.

    Args:
        table: The form of the table.
    """
    models = known_models()
    numbers = pandas.DataFrame(
        [
            {
                "model": one.name,
                "parameters": one.parameters,
                "think": one.think,
                "sample_gib_bfloat16": round(2 * one.parameters / 2**30, 3),
                "sample_gib_float32": round(4 * one.parameters / 2**30, 3),
                "train_gib_float32": round(4 * COPIES * one.parameters / 2**30, 3),
                "needs": one.needs,
            }
            for one in models
        ]
    )
    gib = {name: [size(value) for value in numbers[name]] for name in numbers if "_gib_" in str(name)}
    print_table(
        Column("model", [one.name for one in models], whole=True),
        [
            Column("para-\nmeters", [count(one.parameters) for one in models]),
            Column("<think>", [one.think for one in models], [one.think.partition(",")[0] for one in models]),
            Column("GiB to\nsample", gib["sample_gib_float32"]),
            Column("(bfloat16)", gib["sample_gib_bfloat16"], optional=2),
            Column("GiB to\ntrain", gib["train_gib_float32"]),
            Column("needs", [one.needs for one in models], optional=1),
        ],
        numbers,
        table,
        title="Known models",
    )
    note(
        table,
        [
            "GiB: the weights in float32; to train, 8 copies of them (gradient, optimizer, frozen model, "
            "state before the step). Caches and activations come in addition.",
            "Models with more than 2 billion parameters need a GPU: --engine vllm to sample, `sdlab recipe` "
            "to train.",
            '<think>: "yes" is switched off with --no-thinking; a model without it has no context "solution '
            'without think". A base model needs --chat-template plain.',
        ],
    )
    return 0


def count(parameters: int) -> str:
    """Return a number of parameters in words: 0.9 M, 135 M, 8.2 B."""
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} B"
    return f"{parameters / 1e6:.1f} M" if parameters < 1e7 else f"{parameters / 1e6:.0f} M"


def size(gib: float) -> str:
    """Return GiB with the digits that a table needs."""
    return f"{gib:.2f}" if gib < 1 else f"{gib:.1f}" if gib < 10 else f"{gib:.0f}"
