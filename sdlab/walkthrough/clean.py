"""Prepare an executed notebook for a commit: keep the outputs, remove what differs from run to run."""

import copy
import re

import nbformat

from sdlab.provenance import MOMENTARY
from sdlab.walkthrough.failures import WIDGET_VIEW
from sdlab.walkthrough.record import MIME

RUN_ONLY_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
KEPT_CELL_METADATA = ("tags", "jupyter", "nbgrader")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TRANSIENT_ID = re.compile(r"(?<=altair-viz-)[0-9a-f]{32}")
ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]{6,}")


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy of `notebook` without execution counts, run metadata, widget state and random ids."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.cells = [
        cell for cell in notebook.cells if not RUN_ONLY_TAGS & set(cell.metadata.get("tags", []))
    ]
    ids: dict[str, str] = {}
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type == "code":
            cell.execution_count = None
            kept = [output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})]
            cell.outputs = [_clean(output, ids) for output in _merged(kept)]
    return notebook


def write_text(notebook: nbformat.NotebookNode) -> str:
    """Return the text of the notebook file, as JupyterLab would write it."""
    return nbformat.writes(notebook) + "\n"


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return `outputs` with neighbouring pieces of a stream joined: a kernel cuts them by its load."""
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _clean(output: nbformat.NotebookNode, ids: dict[str, str]) -> nbformat.NotebookNode:
    if "execution_count" in output:
        output.execution_count = None
    data = output.get("data", {})
    if MIME in data:
        known = {key: value for key, value in data[MIME]["provenance"].items() if key not in MOMENTARY}
        output.data[MIME] = nbformat.from_dict({**data[MIME], "provenance": known})
    for key, value in output.get("data", {}).items():
        if isinstance(value, str) and key.startswith("text/"):
            value = TRANSIENT_ID.sub(lambda match: ids.setdefault(match[0], f"{len(ids):032x}"), value)
            output.data[key] = ADDRESS.sub("0x…", value)
    return output
