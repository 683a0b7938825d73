"""What a checkpoint of a run holds, and whether it belongs to the run that resumes."""

from pathlib import Path
from typing import Any

from sdlab.errors import SdlabError

OPTIMIZER = "optimizer"  # its name in the state of a loop


def checkpoint_content(
    done: int, start: str, state: dict[str, Any], keep_optimizer: bool = True
) -> dict[str, Any]:
    """Return the content of a checkpoint after `done` steps.

    start: the fingerprint of the models when the run began. state: the loop's objects by name. Without the
    optimizer a checkpoint takes a third of the space.
    """
    kept = {name: thing for name, thing in state.items() if keep_optimizer or name != OPTIMIZER}
    return {
        "steps": done,
        "start": start,
        "state": {name: thing.state_dict() for name, thing in kept.items()},
    }


def check_state(folder: Path, saved: dict[str, Any], state: dict[str, Any], start: str) -> None:
    """Raise SdlabError when a run in `folder` cannot resume from the checkpoint `saved`.

    Before the first step the optimizer is empty, so a checkpoint without it is enough there.
    """
    missing = set(state) - set(saved["state"])
    if missing == {OPTIMIZER} and saved["steps"] > 0:
        raise SdlabError(
            f"the run in {folder} cannot resume after step {saved['steps']}: its checkpoints do not hold the "
            "optimizer; start it again with --overwrite --save-optimizer"
        )
    if set(saved["state"]) | missing & {OPTIMIZER} != set(state):
        raise SdlabError(
            f"{folder / 'checkpoint.pt'} holds {sorted(saved['state'])}, not {sorted(state)}; "
            "it was written by another version of sdlab; start again with --overwrite"
        )
    if saved.get("start", start) != start:
        raise SdlabError(
            f"the model is not as it was when the run in {folder} began "
            "(trained since, or another dtype); load it again"
        )
