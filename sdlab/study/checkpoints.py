"""Make the shipped checkpoints: recorded conditions trained again, stored after some of their steps.

The explorer and the notebooks on mechanisms use them. They are of one seed, so they illustrate; the numbers
come from the recorded runs.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.rollout.loading import load_engine
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.runs.checkpoints import (
    INDEX,
    Checkpoint,
    checkpoints_of_base,
    list_checkpoints,
    load_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from sdlab.runs.plan import plan_problems
from sdlab.runs.training import run_method
from sdlab.study.conditions import condition
from sdlab.study.reproduction import cell_of

GROUP = "checkpoints"  # its name for `sdlab reproduce`
SEED = 0
LAST = -1  # the last step of a condition
STEPS: Mapping[str, tuple[int, ...]] = {
    "sdpo": (5, 10, 20, LAST),
    "grpo": (20, LAST),
    "sdpo_no_think": (LAST,),
    "sft_guided": (LAST,),
}


def stored_steps(name: str) -> tuple[int, ...]:
    """Return the numbers of training steps after which a condition's model is stored, ascending."""
    last = condition(name).config.steps
    return tuple(last if step == LAST else step for step in STEPS[name])


def make_checkpoints(
    output: str | Path | None = None, on_done: Callable[[Checkpoint], None] | None = None
) -> list[Checkpoint]:
    """Train the conditions of STEPS and store their models in `output` (default `data/checkpoints`).

    A condition whose checkpoints are all there, undamaged and of the same base, is not trained again. Ctrl-C
    returns what is written; the same call continues.
    on_done(checkpoint) is called for each one that is written.

    Raises SdlabError, before anything is trained, when the folder holds checkpoints of another base organism.
    """
    folder = paths.record_dir() / "checkpoints" if output is None else Path(output)
    written: list[Checkpoint] = []
    for name in STEPS:
        steps, cell = stored_steps(name), cell_of(name, SEED)
        base = paths.data_dir() / cell.model
        checkpoints_of_base(folder, base)  # refused before anything is trained
        if set(steps) <= _intact(name, folder, base):
            continue
        engine = load_engine(cell.model)

        def store(row: dict) -> None:
            if row["step"] + 1 in steps:
                one = write_checkpoint(
                    base,
                    engine.model,
                    folder,
                    name,
                    row["step"] + 1,
                    label=condition(name).label,
                    method=name,
                )
                written.append(one)
                if on_done:
                    on_done(one)

        problems = plan_problems(cell.plan, cell.config.seed)
        table = run_method(cell.method, engine, problems, cell.config, cell.plan, on_step=store)
        if table.attrs.get("stopped"):  # by Ctrl-C; the same call continues with this condition
            break
    return written


def trained_engine(name: str, model: str = paths.ORGANISM, steps: int = 3) -> tuple[TorchEngine, str]:
    """Return a model trained by the condition `name`, and one sentence that says where it comes from.

    For the organism it is the stored checkpoint after the last step, when there is one of these weights.
    Otherwise the condition is trained here for `steps` steps, with its own settings and seed SEED.

    Raises SdlabError for an unknown condition.
    """
    setup = condition(name)
    if model == paths.ORGANISM:
        with suppress(SdlabError):  # none is stored, or it is damaged or of other weights: train one
            engine = load_checkpoint(name)
            return engine, f"{setup.label}: the stored checkpoint after {stored_steps(name)[-1]} steps."
    engine = load_engine(model)
    config = replace(setup.config, steps=steps, warmup_steps=min(steps, setup.config.warmup_steps), seed=SEED)
    run_method(setup.method, engine, plan_problems(setup.plan, SEED), config, setup.plan)
    return engine, f"{setup.label}: trained here for {steps} steps; no checkpoint of {model!r} is stored."


def _intact(name: str, folder: Path, base: Path) -> set[int]:
    """Return the steps of a condition whose checkpoints are in the folder, undamaged and of this base."""
    steps: set[int] = set()
    if not (folder / INDEX).exists():
        return steps
    for one in list_checkpoints(folder):
        if one.name == name:
            with suppress(SdlabError):  # damaged, missing, or of another base
                read_checkpoint(one, base, folder)
                steps.add(one.step)
    return steps
