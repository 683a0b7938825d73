"""A submission to lab 4's leaderboard, in the process it has to itself: read, trained, and its weights left in the folder.

Nothing heavy is imported before the walls are up: a process with a second thread, as torch starts them, is refused namespaces.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sdlab.errors import SdlabError
from sdlab.labs.cells import marking, parsed, read_notebook
from sdlab.labs.isolation import block_sockets, die_with_parent, enter_namespaces, limit, wall_files

if TYPE_CHECKING:
    from sdlab.train.repair import Repair


def child(settings: dict) -> None:
    """What a submission's process runs (sdlab.labs.trial starts it), in a folder with submission.py or .ipynb: it leaves K.safetensors per run.

    Behind the walls of sdlab.labs.isolation, as far as the kernel has them: no network, no writing elsewhere, limits.
    """
    limits, task = f"{settings['memory_gb']:g} GiB of memory (memory limit)", settings["task"]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    walls = enter_namespaces()
    inside = os.fork()
    if inside:
        os.close(settings["walls"])
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) % 256)
    die_with_parent()
    limit(int(settings["memory_gb"] * 1024), int(settings["timeout"]) + 1)
    walls |= wall_files(Path.cwd(), settings["readable"], settings["listable"])
    if "network" not in walls:
        block_sockets()
    os.write(settings["walls"], json.dumps(sorted(walls)).encode())
    os.close(settings["walls"])
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
    """The `repair` that a Python file or a lab-4 notebook defines. It runs the submission's code.

    Of a notebook only solution cells run whole; of other cells what defines something: imports, functions, classes and constants.
    So no experiment is repeated. Raises SdlabError when there is no notebook, or no Repair.
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
