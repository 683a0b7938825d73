"""Small notebooks for tests."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}
PARAMETERS = 'PRESET: str = "quick"  # smoke, quick or full\nMODEL: str = "organism"'


def code(source: str, *tags: str):
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def make(
    *cells, title: str = "# A title\n\n> A question?", parameters: str = PARAMETERS
) -> nbformat.NotebookNode:
    """A notebook: title cell, parameters cell, then `cells` (strings become code cells)."""
    rest = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    first = [new_markdown_cell(title), code(parameters, "parameters")]
    return new_notebook(
        cells=first + rest, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )


def save(folder: Path, name: str, *cells, **options) -> Path:
    path = Path(folder, name)
    nbformat.write(make(*cells, **options), path)
    return path
