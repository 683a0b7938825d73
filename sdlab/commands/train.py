"""`sdlab train METHOD`: every setting of the method's dataclass is an option."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sdlab.runs.training import Plan, train
from sdlab.train.grpo import GRPOConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig


@dataclass(frozen=True)
class Options:
    """Where the run lies and how it is started."""

    output: Path | None = None
    """Run folder; default runs/METHOD."""
    model: str = "organism"
    """The organism, a folder with a model in Hugging Face format, or a hub name."""
    resume: bool = True
    """Go on with an unfinished run that lies there."""
    overwrite: bool = False
    """Write anew what lies there."""
    tracker: Literal["tensorboard"] | None = None
    """Also log there (needs the tensorboard package)."""


def sft(
    config: tyro.conf.OmitArgPrefixes[SFTConfig] = SFTConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Fine-tune on the model's own right traces, written without or with the solution in view (--traces)."""
    return _train("sft", config, plan, options)


def grpo(
    config: tyro.conf.OmitArgPrefixes[GRPOConfig] = GRPOConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Reinforcement from right or wrong alone, each completion compared with its siblings."""
    return _train("grpo", config, plan, options)


def sdpo(
    config: tyro.conf.OmitArgPrefixes[SDPOConfig] = SDPOConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Self-distillation: the model with a right sibling in its context scores what it wrote without."""
    return _train("sdpo", config, plan, options)


def main(arguments: list[str]) -> int:
    """Run `sdlab train` with the arguments after `train`."""
    return tyro.extras.subcommand_cli_from_dict(
        {"sft": sft, "grpo": grpo, "sdpo": sdpo}, prog="sdlab train", args=arguments
    )


def _train(method: str, config, plan: Plan, options: Options) -> int:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    folder = options.output or Path("runs") / method
    columns = (
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as board:
        task = board.add_task("step", total=config.steps, note="")

        def follow(row: dict) -> None:
            note = f"score {row['reward']:.2f}  length {row['length']:.0f}  markers {row['markers']:.1f}"
            board.update(task, completed=row["step"] + 1, note=note)

        run = train(
            method,
            config,
            folder,
            plan,
            model=options.model,
            resume=options.resume,
            overwrite=options.overwrite,
            tracker=options.tracker,
            on_step=follow,
        )
    if not run.finished:
        print(f"stopped after {len(run.steps)} of {config.steps} steps; the same command goes on")
        return 130
    print(f"wrote {folder}")
    return 0
