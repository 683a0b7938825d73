"""Run notebooks with papermill, and find every error in their outputs.

papermill alone does not report four things: a parameter the notebook never declared, a cell that hangs, an
error inside a widget's output, and an exception that a background thread or a widget callback printed. All
four are failures here.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    path: str | Path,
    parameters: dict[str, Any],
    *,
    timeout: float,
    on_cell: Progress | None = None,
    change: Callable[[nbformat.NotebookNode], nbformat.NotebookNode] | None = None,
) -> Execution:
    """Run the notebook at `path` in a fresh kernel and a scratch folder; `path` itself stays unchanged.

    `timeout` is in seconds for each cell. `change` returns the notebook that runs. Errors
    inside the notebook are returned, not raised. Raises SdlabError when `parameters` names one that
    the notebook does not declare, or gives it another type.
    """
    notebook = read(path)
    check_parameters(notebook, parameters, Path(path).name)
    notebook = notebook if change is None else change(notebook)
    started = time.perf_counter()
    watch = _Watch(notebook, on_cell)
    stopped: Failure | None = None
    environment = {**os.environ, "SDLAB_HEADLESS": "1"}  # sdlab.show then calls its callbacks itself
    # glibc keeps a heap per thread; with more than two, sampling takes a fifth more memory.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    # It also keeps the memory of freed tensors, unless fixed thresholds make it return large blocks at once.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", "2097152")
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", "4194304")
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
            pass  # the error is in the notebook, and `failures_in` below returns it with all others
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


def parameters_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return the first cell tagged `parameters`, or None."""
    tagged = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return next(tagged, None)


def check_parameters(notebook: nbformat.NotebookNode, parameters: dict[str, Any], name: str) -> None:
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
        types = {"str": str, "int": int, "float": (int, float), "bool": bool}
        if not isinstance(value, types.get(declared[key], object)):
            raise SdlabError(
                f"parameter {key} of {name} is {value!r}; it is declared {declared[key]}; give such a value"
            )


class _Watch:
    """The state of a running notebook: the live document and the running cell."""

    def __init__(self, notebook: nbformat.NotebookNode, on_cell: Progress | None) -> None:
        self.notebook, self.on_cell = notebook, on_cell
        self.running: nbformat.NotebookNode | None = None

    def attach(self, manager: Any) -> None:
        """Note every cell that papermill's notebook `manager` starts."""
        self.notebook = manager.nb
        code = [cell for cell in manager.nb.cells if cell.cell_type == "code"]
        cell_start = manager.cell_start

        def started(cell: nbformat.NotebookNode, *args: Any, **kwargs: Any) -> Any:
            self.running = cell
            if self.on_cell and cell.cell_type == "code":
                self.on_cell(next(i for i, other in enumerate(code, 1) if other is cell), len(code))
            return cell_start(cell, *args, **kwargs)

        manager.cell_start = started

    def failure(self, error: str) -> Failure:
        """Return `error` as a failure of the running cell."""
        return failure_of(self.notebook, self.running, error)


class _Engine(NBClientEngine):
    """papermill's own engine, with a hook per cell and options for the kernel's process."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        watch: _Watch,
        kernel_options: dict[str, Any],
        start_timeout: int,
        execution_timeout: float,
        **_: Any,
    ) -> Any:
        watch.attach(nb_man)
        client = PapermillNotebookClient(
            nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=execution_timeout
        )
        return client.execute(**kernel_options)


papermill_engines.register("sdlab", _Engine)
