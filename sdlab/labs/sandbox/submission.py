"""The separate process of a submission to the leaderboard: it reads and trains it, and leaves the weights.

`python -m sdlab.labs.sandbox.submission`, started by sdlab.labs.sandbox.training.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.labs.cells import marking, parsed, read_notebook
from sdlab.labs.sandbox.inside import enter

if TYPE_CHECKING:
    from sdlab.train.repair import Repair


def main() -> None:
    """Train submission.py or submission.ipynb of this folder; leave the weights of run K in K.safetensors."""
    settings, _, closed_off = enter()
    limits, task = f"{settings['memory_gb']:g} GiB of memory (memory limit)", settings["task"]
    os.write(settings["replies"], json.dumps(closed_off).encode())
    os.close(settings["replies"])
    try:
        from safetensors.torch import save_file

        from sdlab.rollout.loading import load_engine
        from sdlab.train.repair import run_repair
        from sdlab.train.sdpo import SDPOConfig
        from sdlab.world.splits import load_split

        repair = load_repair(next(Path().glob("submission.*")))
        for k, (seed, split_seed) in enumerate(task["seeds"]):
            config, engine = SDPOConfig(**task["config"] | {"seed": seed}), load_engine(task["model"])
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
    except BaseException as error:  # whatever a submission does, SystemExit too
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
        os.write(
            2, f"\n{reason}\n".encode(errors="replace")
        )  # the submission may have closed or replaced sys.stderr
    finally:
        os._exit(1)


def load_repair(path: Path) -> Repair:
    """Return the `repair` that a Python file or a lab-4 notebook defines. It runs the submission's code.

    Solution cells of a notebook run whole. Of other cells only definitions run: imports, functions, classes
    and constants. So no experiment is repeated. Raises SdlabError when there is no notebook, or no Repair.
    """
    from sdlab.train.repair import Repair

    names = {"__name__": "submission"}
    for number, source in enumerate(
        [path.read_text(encoding="utf-8-sig")] if path.suffix == ".py" else _definitions(path)
    ):
        exec(compile(source, f"{path.name}[{number}]", "exec"), names)
    if not isinstance(names.get("repair"), Repair):
        raise SdlabError(
            f"defines no `repair` that is a sdlab.train.repair.Repair (found {type(names.get('repair')).__name__})"
        )
    return names["repair"]


def _definitions(path: Path) -> list[str]:
    sources = []
    for cell in read_notebook(path).cells:
        mark = marking(cell)
        if cell.cell_type == "code" and mark and mark.solution:
            sources.append(cell.source)
        elif cell.cell_type == "code" and not (mark and mark.test):
            sources.append("\n".join(ast.unparse(part) for part in parsed(cell.source) if _defines(part)))
    return sources


def _defines(part: ast.stmt) -> bool:
    if isinstance(part, (ast.Assign, ast.AnnAssign)) and part.value is not None:
        try:
            ast.literal_eval(part.value)
            return True
        except ValueError:
            return False
    return isinstance(part, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


if __name__ == "__main__":
    main()
