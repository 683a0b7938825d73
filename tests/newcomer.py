"""Run a notebook as if some packages were not installed."""

from collections.abc import Callable

import nbformat

# What `pip install -e .` does not bring and the tests do; the packages that read real files are not among
# them (test_notebooks_packages.py).
EXTRAS = ("accelerate", "peft", "trl")


def without(*packages: str) -> Callable[[nbformat.NotebookNode], nbformat.NotebookNode]:
    """A change of a notebook: from the cell with `setup()` on, the packages cannot be imported."""

    def change(notebook):
        (setup,) = [cell for cell in notebook.cells if "\nsetup()\n" in f"\n{cell.source}\n"]
        # None: as if it were not installed
        setup.source = f"import sys\nsys.modules.update(dict.fromkeys({packages!r}))\n{setup.source}"
        return notebook

    return change
