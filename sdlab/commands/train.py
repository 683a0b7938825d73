"""`sdlab train METHOD`: train a model; every setting of the method's dataclass is an option."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sdlab.commands.options import RUNS, default
from sdlab.commands.progress import long_progress, to_stderr
from sdlab.paths import ORGANISM
from sdlab.runs.training import Plan, train
from sdlab.study.watch import FolderWatch
from sdlab.train.config import TrainConfig
from sdlab.train.grpo import GRPOConfig
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.sft import SFTConfig


@dataclass(frozen=True)
class Options:
    """Output folder and start of a run."""

    output: Path | None = None
    """Run folder; default runs/METHOD."""
    model: str = ORGANISM
    """The organism, a folder with a model in Hugging Face format, or a hub name."""
    resume: bool = default(train, "resume")
    """Continue an unfinished run in that folder."""
    overwrite: bool = default(train, "overwrite")
    """Replace a run in that folder."""
    tracker: Literal["tensorboard"] | None = None
    """Also log to it (needs the tensorboard package)."""
    save_every: int = default(train, "save_every")
    """Steps between checkpoints; a crash loses at most so many."""
    save_optimizer: bool | None = default(train, "save_optimizer")
    """Keep the optimizer in checkpoints, so that the run can resume; None: up to 100 million parameters."""
    alarm: bool = True
    """Write a line when the markers per 1,000 tokens fall or rise far, often before the score falls."""


def sft(
    config: tyro.conf.OmitArgPrefixes[SFTConfig] = SFTConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Fine-tune on the model's own correct traces, written without or with the solution (--traces)."""
    return _train("sft", config, plan, options)


def grpo(
    config: tyro.conf.OmitArgPrefixes[GRPOConfig] = GRPOConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Reinforce completions by their reward, compared with the other completions of the same problem."""
    return _train("grpo", config, plan, options)


def sdpo(
    config: tyro.conf.OmitArgPrefixes[SDPOConfig] = SDPOConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Self-distil: the model that sees a correct sibling scores the completions written without it."""
    return _train("sdpo", config, plan, options)


def repair(
    config: tyro.conf.OmitArgPrefixes[RepairConfig] = RepairConfig(),
    plan: tyro.conf.OmitArgPrefixes[Plan] = Plan(),
    options: tyro.conf.OmitArgPrefixes[Options] = Options(),
) -> int:
    """Self-distil with a published repair, for example --repair srpo; `sdlab repairs` lists them."""
    return _train("repair", config, plan, options)


def _train(method: str, config: TrainConfig, plan: Plan, options: Options) -> int:
    """Train, show the progress, and return the exit status."""
    folder = options.output or RUNS / method
    watch = FolderWatch(folder) if options.alarm else None
    with long_progress(keep=True) as board:

        def follow(row: dict) -> None:
            note = f"score {row['reward']:.2f}  length {row['length']:.0f}  markers {row['markers']:.1f}"
            board("step", row["step"] + 1, config.steps, note)
            if watch is not None and (message := watch(row)):
                board.tell(message)

        run = train(
            method,
            config,
            folder,
            plan,
            model=options.model,
            resume=options.resume,
            overwrite=options.overwrite,
            tracker=options.tracker,
            save_every=options.save_every,
            save_optimizer=options.save_optimizer,
            on_step=follow,
            note=to_stderr,
        )
    if not run.finished:
        print(f"stopped after {len(run.steps)} of {config.steps} steps; the same command resumes")
        return 130
    print(f"wrote {folder}")
    return 0


METHODS = {"sft": sft, "grpo": grpo, "sdpo": sdpo, "repair": repair}
