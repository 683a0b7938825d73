"""`sdlab pretrain`: pretrain an organism."""

from pathlib import Path

import tyro

from sdlab.commands.options import RUNS, default
from sdlab.commands.progress import long_progress
from sdlab.organism import pretrain as organism
from sdlab.organism.pretrain import PretrainConfig

CARD_PROBLEMS = 100  # per split, for the scores on the model card


def pretrain(
    output: Path = RUNS / "organism",
    config: tyro.conf.OmitArgPrefixes[PretrainConfig] = PretrainConfig(),
    device: str | None = default(organism.pretrain, "device"),
    resume: bool = default(organism.pretrain, "resume"),
) -> int:
    """Pretrain an organism from random weights (about 40 minutes on two cores).

    Use it with --model FOLDER. The shipped organism in data/organism does not change.

    Args:
        output: Folder for the model and for the checkpoint from which the same command resumes.
        config: Shape, schedule and reasoner. The small organism has hidden size 64 and intermediate size 256.
        device: cpu or cuda; by default cuda where there is one.
        resume: Continue from the last checkpoint if there is one.
    """
    from sdlab.organism.card import measure_splits, write_card
    from sdlab.rollout.loading import load_engine

    with long_progress(keep=True) as board:

        def follow(done: int, total: int, loss: float) -> None:
            board("step", done, total, f"loss {loss:.3f}")

        organism.pretrain(output, config, device=device, resume=resume, progress=follow)
        measured = measure_splits(
            load_engine(str(output)),
            CARD_PROBLEMS,
            progress=lambda done, total: board("scores", done, total, "for the model card"),
        )
    print(f"wrote {write_card(output, measured)}")
    return 0
