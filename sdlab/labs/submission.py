"""A submission to lab 4's leaderboard, in the process it has to itself: read, trained, and its weights left in the folder."""

import ast
import json
import os
import sys
from pathlib import Path

from sdlab import paths
from sdlab.errors import SdlabError
from sdlab.labs.cells import marking, parsed, read_notebook
from sdlab.labs.isolation import block_sockets, die_with_parent, enter_namespaces, limit, wall_files
from sdlab.labs.repair import Repair, run_repair
from sdlab.train.sdpo import SDPOConfig
from sdlab.world.splits import load_split


def child(timeout: float, memory_gb: float) -> None:
    """What a submission's process runs, in a folder with submission.py or .ipynb and task.json: it leaves K.safetensors per run.

    Behind the walls of sdlab.labs.isolation, as far as the kernel has them: no network, no writing elsewhere, limits.
    """
    walls = enter_namespaces()
    inside = os.fork()
    if inside:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) % 256)
    die_with_parent()
    limit(int(memory_gb * 1024), int(timeout) + 1)
    readable = {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix), str(Path(__file__).resolve().parents[1]), str(paths.data_dir().resolve())}
    wall_files(Path.cwd(), sorted(readable | {os.path.realpath(entry) for entry in sys.path if os.path.isdir(entry)}), [])
    if "network" not in walls:
        block_sockets()
    try:
        from safetensors.torch import save_file

        from sdlab.rollout.loading import load_engine

        task = json.loads(Path("task.json").read_text())
        repair = load_repair(next(Path().glob("submission.*")))
        for k, (seed, split_seed) in enumerate(task["seeds"]):
            config, engine = SDPOConfig(**task["config"] | {"seed": seed}), load_engine(task["model"])
            run_repair(engine, load_split("train", split_seed, limit=min(4096, config.steps * config.num_problems)), repair, config)
            save_file({name: p.detach().cpu().contiguous() for name, p in engine.model.named_parameters()}, f"{k}.safetensors")
    except MemoryError:
        _give_up(f"needs more than {memory_gb:g} GiB of memory (memory limit)")
    except BaseException as error:  # whatever a submission does, SystemExit too
        text = str(error).strip().splitlines()
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            _give_up(f"needs more than {memory_gb:g} GiB of memory (memory limit)")
        _give_up(str(text[0]) if isinstance(error, SdlabError) and text else f"{type(error).__name__}: {text[0] if text else 'no message'}")
    os._exit(0)


def _give_up(reason: str) -> None:
    print(f"\n{reason}", file=sys.stderr, flush=True)
    os._exit(1)


def load_repair(path: Path) -> Repair:
    """The `repair` that a Python file or a lab-4 notebook defines. It runs the submission's code.

    Of a notebook only solution cells run whole; of other cells what defines something: imports, functions, classes and constants.
    So no experiment is repeated. Raises SdlabError when there is no notebook, or no Repair.
    """
    names = {"__name__": "submission"}
    for number, source in enumerate([path.read_text()] if path.suffix == ".py" else _definitions(path)):
        exec(compile(source, f"{path.name}[{number}]", "exec"), names)
    if not isinstance(names.get("repair"), Repair):
        raise SdlabError(f"defines no `repair` that is a sdlab.labs.repair.Repair (found {type(names.get('repair')).__name__})")
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
