"""Errors in executed notebooks, as one line each."""

import json
import re
from dataclasses import dataclass
from typing import BinaryIO

import nbformat

from sdlab.errors import first_line

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Failure:
    """One error in an executed notebook.

    `cell`: the number of the cell among all cells in JupyterLab, from 1; None if the error belongs to
    no cell.
    """

    cell: int | None
    source: str
    error: str

    def __str__(self) -> str:
        place = f"cell {self.cell} (`{self.source}`): " if self.cell else ""
        return f"{place}{self.error}"


def failures_in(notebook: nbformat.NotebookNode) -> list[Failure]:
    """Return every error in the cell outputs, printed tracebacks and widgets of an executed notebook."""
    failures = [
        failure_of(notebook, cell, error)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if (error := _error_in(output))
    ]
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for identity, widget in state.items():
        for output in widget.get("state", {}).get("outputs", None) or []:
            if error := _error_in(output):
                cell = _cell_showing(notebook, state, identity)
                failures.append(failure_of(notebook, cell, f"inside a widget: {error}"))
    return failures


def _error_in(output: nbformat.NotebookNode) -> str | None:
    if output.get("output_type") == "error":
        if output["ename"] == "SystemExit" and output["evalue"] in ("", "0"):
            return None
        return f"{output['ename']}: {first_line(output['evalue'], 300)}"
    text = output.get("text", "") if output.get("name") == "stderr" else ""
    text = text if isinstance(text, str) else "".join(text)
    if "Traceback (most recent call last)" in text:  # a thread, a callback or a logger printed it
        return strip_colour(text.strip().splitlines()[-1])
    return None


def _cell_showing(
    notebook: nbformat.NotebookNode, state: nbformat.NotebookNode, identity: str
) -> nbformat.NotebookNode | None:
    """Return the cell whose displayed widget contains the widget `identity`, at any depth."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            waiting = [output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")]
            seen = set()
            while waiting:
                model = waiting.pop()
                if model == identity:
                    return cell
                if model in state and model not in seen:
                    seen.add(model)
                    waiting += re.findall(r"IPY_MODEL_([0-9a-f]+)", json.dumps(state[model]))
    return None


def failure_of(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode | None, error: str) -> Failure:
    """Return `error` as the failure of `cell`; None is no cell."""
    if cell is None:
        return Failure(None, "", error)
    own = [other for other in notebook.cells if "injected-parameters" not in other.metadata.get("tags", [])]
    number = next((i for i, other in enumerate(own, 1) if other is cell), None)
    lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
    return Failure(number, (lines or [""])[0][:80], error)


def tail(log: BinaryIO) -> str:
    """Return the last line that the kernel's process wrote, without its own start-up notes."""
    log.seek(0)
    lines = [
        line
        for line in log.read().decode(errors="replace").splitlines()
        if line.strip() and "IPKernelApp" not in line
    ]
    return strip_colour(lines[-1][:300]) if lines else ""


def strip_colour(text: str) -> str:
    """Return `text` without the codes that colour it on a terminal."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
