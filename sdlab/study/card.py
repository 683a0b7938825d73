"""What an organism can and cannot do: scores on every split and in every mode, and the model card that says so."""

from pathlib import Path

import pandas

from sdlab.context import CONTEXT_LABELS, CONTEXTS
from sdlab.files import sha256, write_atomic
from sdlab.measure.evaluation import evaluate, summarise
from sdlab.measure.intervals import Interval
from sdlab.rollout.types import SamplingParams
from sdlab.seeds import stable_int, stream
from sdlab.world.corpus import write_demonstration
from sdlab.world.splits import load_split

MEASURED = ("in-domain", "unseen-types", "deeper", "chemistry-test", "kata")
NUM_GENERATIONS = 8
MAX_COMPLETION_LENGTH = 384
METRICS = ("reward", "length", "markers", "truncated")
CARD = "README.md"


def measure_splits(engine, num_problems: int, seed: int = 0, progress=None) -> pandas.DataFrame:
    """avg@8 at temperature 1 on each split, thinking on and off, and in each context: one row per mode, with intervals.

    Columns: split, mode, and mean, low, high of each of METRICS as (metric, ...) columns. Demonstrations are the
    reasoner's correct traces, so every problem has one.
    """
    rows, modes = [], [("thinking on", "none", True), ("thinking off", "none", False)]
    modes += [(CONTEXT_LABELS[context], context, True) for context in CONTEXTS[1:]]
    for number, split in enumerate(MEASURED):
        problems = load_split(split, seed, min(num_problems, 131 if split == "kata" else 240))
        rng = stream("card", "demonstrations", split, seed)
        for place, (mode, context, thinking) in enumerate(modes):
            written = "solution" if context == "solution_no_think" else context
            shown = None if context == "none" else [write_demonstration(p, rng, written) for p in problems]
            params = SamplingParams(NUM_GENERATIONS, MAX_COMPLETION_LENGTH, seed=stable_int("card", split, mode, seed))
            frame = evaluate(engine, problems, params, context=context, demonstrations=shown, thinking=thinking)
            rows.append(summarise(frame, metrics=METRICS).assign(split=split, mode=mode))
            if progress:
                progress(number * len(modes) + place + 1, len(MEASURED) * len(modes))
    return pandas.concat(rows, ignore_index=True)


def as_text(measured: pandas.DataFrame) -> pandas.DataFrame:
    """`measured` as a table of text, a row per split and mode."""
    cells = measured.assign(cell=[str(Interval(*values)) for values in measured[["mean", "low", "high"]].to_numpy()])
    keys = list(dict.fromkeys(zip(cells["split"], cells["mode"])))
    return cells.pivot(index=["split", "mode"], columns="metric", values="cell").loc[keys, list(METRICS)]


def scores_markdown(measured: pandas.DataFrame) -> str:
    """The scores as a Markdown table."""
    lines = ["| split | mode | score (avg@8) | length (tokens) | markers | cut off |", "|---|---|---|---|---|---|"]
    for (split, mode), row in as_text(measured).iterrows():
        lines.append("| " + " | ".join([split, mode, *row]) + " |")
    return "\n".join(lines)


def write_card(folder: str | Path, text: str, measured: pandas.DataFrame) -> Path:
    """Write the model card (with `{scores}` in `text` filled in) and SHA256SUMS, the sums of every file beside it.

    The organism is only loaded when these sums fit, so this is the last step of making one.
    """
    folder = Path(folder)
    card = write_atomic(folder / CARD, text.replace("{scores}", scores_markdown(measured)))
    write_sums(folder)
    return card


def write_sums(folder: str | Path) -> Path:
    """Write SHA256SUMS for the model's files in `folder` (checkpoints left out)."""
    folder = Path(folder)
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS" and p.suffix != ".pt")
    return write_atomic(folder / "SHA256SUMS", "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def splits_command(model: str = "organism", preset: str = "quick", seed: int = 0) -> None:
    """`sdlab measure splits`: print what a model scores on every split and in every mode."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from sdlab.rollout.torch_engine import load_engine
    from sdlab.study.presets import preset as sizes

    size, console = sizes(preset), Console()
    engine = load_engine(model)
    with Progress(console=console, transient=True) as board:
        task = board.add_task("splits and modes", total=None)
        measured = measure_splits(engine, size.num_problems, seed, lambda done, total: board.update(task, completed=done, total=total))
    table = Table(title=f"{model}: avg@{NUM_GENERATIONS} at temperature 1, 95% intervals by problem")
    for column in ("split", "mode", "score", "length", "markers", "cut off"):
        table.add_column(column)
    for (split, mode), row in as_text(measured).iterrows():
        table.add_row(split, mode, *row)
    console.print(table)
