"""Train a submission to the leaderboard in its own process, and write its weights.

`python -m sdlab.labs.sandbox.submission`, started by sdlab.labs.sandbox.training.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlab.errors import SdlabError
from sdlab.labs.cells import definitions, marking, read_notebook
from sdlab.labs.sandbox.inside import enter

if TYPE_CHECKING:
    from sdlab.train.repairs.hooks import Repair


def main() -> None:
    """Train submission.py or submission.ipynb of this folder; write the weights of run K to K.safetensors."""
    settings, _, closed_off = enter()
    limits, task = f"{settings['memory_gb']:g} GiB of memory (memory limit)", settings["task"]
    os.write(settings["replies"], json.dumps(closed_off).encode())
    os.close(settings["replies"])
    try:
        from safetensors.torch import save_file

        from sdlab.rollout.loading import load_engine
        from sdlab.train.config import TrainConfig
        from sdlab.train.repairs.loop import run_repair
        from sdlab.world.splits import load_split

        repair = load_repair(next(Path().glob("submission.*")))
        for k, (seed, split_seed) in enumerate(task["seeds"]):
            config = TrainConfig(**task["config"] | {"seed": seed})
            engine: Any = load_engine(task["model"])
            run_repair(
                engine,
                load_split("train", split_seed, limit=min(4096, config.steps * config.num_problems)),
                repair,
                config,
            )
            save_file(
                {name: p.detach().cpu().contiguous() for name, p in engine.model.named_parameters()},
                f"{k}.safetensors",
            )
    except MemoryError:
        _give_up(f"needs more than {limits}")
    except BaseException as error:  # any error of a submission, SystemExit too
        text = str(error).strip().splitlines()
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            _give_up(f"needs more than {limits}")
        _give_up(
            str(text[0])
            if isinstance(error, SdlabError) and text
            else f"{type(error).__name__}: {text[0] if text else 'no message'}"
        )
    os._exit(0)


def _give_up(reason: str) -> None:
    try:
        # The submission may have closed or replaced sys.stderr.
        os.write(2, f"\n{reason}\n".encode(errors="replace"))
    finally:
        os._exit(1)


def load_repair(path: Path) -> Repair:
    """Return the `repair` that a Python file or a lab-4 notebook defines; this runs the submission's code.

    Solution cells of a notebook run completely. Other cells run only their definitions (imports, functions,
    classes and constants), so that no experiment is repeated. Raises SdlabError for a damaged notebook, and
    when there is no Repair.
    """
    from sdlab.train.repairs.hooks import Repair

    names: dict[str, Any] = {"__name__": "submission"}
    for number, source in enumerate(
        [path.read_text(encoding="utf-8-sig")] if path.suffix == ".py" else _definitions(path)
    ):
        exec(compile(source, f"{path.name}[{number}]", "exec"), names)
    repair = names.get("repair")
    if not isinstance(repair, Repair):
        raise SdlabError(
            "defines no `repair` that is a sdlab.train.repairs.hooks.Repair "
            f"(there is a {type(repair).__name__})"
        )
    return repair


def _definitions(path: Path) -> list[str]:
    sources = []
    for cell in read_notebook(path).cells:
        mark = marking(cell)
        if cell.cell_type == "code" and mark and mark.solution:
            sources.append(cell.source)
        elif cell.cell_type == "code" and not (mark and mark.test):
            sources.append("\n".join(ast.unparse(part) for part in definitions(cell.source)))
    return sources


if __name__ == "__main__":
    main()
