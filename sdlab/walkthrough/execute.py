"""Run notebooks with papermill, and find every error in what they leave behind.

papermill alone lets four things pass: a parameter the notebook never declared, a cell that hangs, an error
inside a widget's output, and an exception that a background thread or a widget callback printed. All four
count as failures here.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, execute_notebook
from papermill.translators import PythonTranslator

from sdlab import paths
from sdlab.errors import SdlabError, first_line, unknown
from sdlab.walkthrough.failures import Failure, failure_of, failures_in, tail

FOLDER = paths.notebooks_dir()
Progress = Callable[[int, int], None]  # (code cells started, code cells in all)


@dataclass(frozen=True)
class Execution:
    """An executed notebook, its failures (none: it worked) and its wall time in seconds."""

    notebook: nbformat.NotebookNode
    failures: tuple[Failure, ...]
    seconds: float


def find(only: tuple[str, ...] = (), folder: Path | None = None) -> list[Path]:
    """Return the notebooks of the walkthrough in order, or those whose names start with one of `only` ("03").

    Raises SdlabError when there are none, or when an entry of `only` fits none.
    """
    folder = folder or FOLDER
    files = sorted(folder.glob("[0-9]*.ipynb"))
    if not files:
        raise SdlabError(f"no notebooks in {folder}; {paths.restore_hint(folder)}")
    for start in only:
        if not any(path.name.startswith(start) for path in files):
            raise unknown("notebook", start, (path.stem for path in files))
    return [path for path in files if not only or path.name.startswith(tuple(only))]


def read(path: str | Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`.

    Raises SdlabError when it cannot be read or is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise SdlabError(
            f"could not read the notebook {path}: {error.strerror}; check the name and its rights"
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError, nbformat.ValidationError) as error:
        raise SdlabError(
            f"could not read the notebook {path}: it is damaged or no notebook; {paths.restore_hint(path)}"
        ) from error


def execute(
    path: str | Path, parameters: dict, *, timeout: float, on_cell: Progress | None = None
) -> Execution:
    """Run the notebook at `path` in a fresh kernel and a scratch folder; `path` itself stays unchanged.

    `timeout` is in seconds for each cell. Errors inside the notebook are returned, not raised. Raises
    SdlabError when `parameters` names one that the notebook does not declare, or gives it another type.
    """
    notebook = read(path)
    check_parameters(notebook, parameters, Path(path).name)
    started = time.perf_counter()
    watch = _Watch(notebook, on_cell)
    stopped: Failure | None = None
    environment = {
        **os.environ,
        "SDLAB_HEADLESS": "1",
    }  # nobody clicks here: sdlab.show calls its callbacks itself
    environment.setdefault(
        "MALLOC_ARENA_MAX", "2"
    )  # glibc keeps a heap per thread; sampling would hold a fifth more memory
    environment.setdefault(
        "MALLOC_MMAP_THRESHOLD_", "2097152"
    )  # and keeps what large tensors leave behind unless told a fixed size
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", "4194304")  # from which to hand it back at once
    with (
        tempfile.TemporaryDirectory(prefix="sdlab-") as scratch,
        open(Path(scratch, "kernel.log"), "w+b") as log,
    ):
        try:
            execute_notebook(
                notebook,
                None,
                parameters,
                engine_name="sdlab",
                kernel_name="python3",
                language="python",
                progress_bar=False,
                start_timeout=120,
                execution_timeout=timeout,
                watch=watch,
                kernel_options={"cwd": scratch, "stderr": log, "stdout": log, "env": environment},
            )
        except PapermillExecutionError:
            pass  # the notebook holds the error; it is found below, with all the others
        except CellTimeoutError:
            stopped = watch.failure(f"TimeoutError: took longer than {timeout:g} s")
        except DeadKernelError:
            stopped = watch.failure(
                f"DeadKernelError: the kernel died, perhaps out of memory. {tail(log)}".strip()
            )
        except (OSError, RuntimeError) as error:  # no kernel, no disk, no reply
            stopped = watch.failure(f"{type(error).__name__}: {first_line(error, 300)} {tail(log)}".strip())
    done = watch.notebook
    done.cells = [cell for cell in done.cells if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])]
    failures = failures_in(done)
    if stopped:  # the interrupt that ended the cell is not a second failure
        failures = [failure for failure in failures if failure.cell != stopped.cell] + [stopped]
    return Execution(done, tuple(failures), time.perf_counter() - started)


def parameters_cell(notebook) -> nbformat.NotebookNode | None:
    """Return the first cell tagged `parameters`."""
    tagged = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return next(tagged, None)


def check_parameters(notebook, parameters: dict, name: str) -> None:
    """Raise SdlabError unless the tagged cell declares every one of `parameters` with a fitting type."""
    cell = parameters_cell(notebook)
    if cell is None:
        raise SdlabError(
            f"{name} has no cell tagged `parameters`; add one that declares {', '.join(parameters)}"
        )
    declared = {parameter.name: parameter.inferred_type_name for parameter in PythonTranslator.inspect(cell)}
    for key, value in parameters.items():
        if key not in declared:
            raise unknown(f"parameter of {name}", key, declared)
        wanted = {"str": str, "int": int, "float": (int, float), "bool": bool}.get(declared[key], object)
        if not isinstance(value, wanted):
            raise SdlabError(f"parameter {key} of {name} is declared {declared[key]}; {value!r} is not")


class _Watch:
    """The state of a running notebook: the live document and the running cell."""

    def __init__(self, notebook, on_cell: Progress | None):
        self.notebook, self.on_cell, self.running = notebook, on_cell, None

    def attach(self, manager) -> None:
        self.notebook = manager.nb
        code = [cell for cell in manager.nb.cells if cell.cell_type == "code"]
        cell_start = manager.cell_start

        def started(cell, *args, **kwargs):
            self.running = cell
            if self.on_cell and cell.cell_type == "code":
                self.on_cell(next(i for i, other in enumerate(code, 1) if other is cell), len(code))
            return cell_start(cell, *args, **kwargs)

        manager.cell_start = started

    def failure(self, error: str) -> Failure:
        return failure_of(self.notebook, self.running, error)


class _Engine(NBClientEngine):
    """papermill's own engine, with a hook per cell and options for the kernel's process."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man, kernel_name, *, watch, kernel_options, start_timeout, execution_timeout, **_
    ):
        watch.attach(nb_man)
        client = PapermillNotebookClient(
            nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=execution_timeout
        )
        return client.execute(**kernel_options)


papermill_engines.register("sdlab", _Engine)
