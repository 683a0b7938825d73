"""`sdlab tour` and `sdlab lab`: run the notebooks into a report, or open them in JupyterLab."""

import subprocess
import sys
from pathlib import Path

import tyro

from sdlab.commands.options import PRESET
from sdlab.paths import ORGANISM


def tour(
    preset: str = PRESET,
    output: Path = Path("reports"),
    only: str | None = None,
    model: str = ORGANISM,
    refresh: bool = False,
) -> int:
    """Run the notebooks of the walkthrough and write a report.

    The index of the report exists after the first notebook and grows as the others finish.

    Args:
        preset: Sizes: smoke (seconds, for tests), quick (minutes, for a class) or full (recorded results).
        output: Folder for the report; open its index.html.
        only: Run only these notebooks, for example 00,03.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        refresh: For developers: also store the cleaned outputs in the notebooks themselves.
    """
    from sdlab.walkthrough.tour import tour as run

    names = tuple(name for name in (only or "").split(",") if name)
    return 0 if run(preset, output, only=names, model=model, refresh=refresh) else 1


def lab(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> int:
    """Open JupyterLab on the first notebook.

    Where sdlab was installed from a wheel, the notebooks are first copied to ./sdlab-notebooks, which keeps
    what you changed there.

    Args:
        arguments: Passed on to `jupyter lab`, for example --port 9999 or --no-browser.
    """
    from sdlab import paths
    from sdlab.walkthrough.copies import copy_notebooks
    from sdlab.walkthrough.execute import find

    folder = None
    if paths.checkout() is None:
        copy = copy_notebooks()
        folder = copy.folder
        for line in copy.lines():
            print(line, flush=True)
    first = find((), folder)[0]
    # The page stands in the address, so that it is also right with --no-browser.
    page = f"/lab/tree/{first.parent.name}/{first.name}"
    options = [f"--ServerApp.root_dir={first.parent.parent}", f"--LabApp.default_url={page}"]
    command = [sys.executable, "-m", "jupyter", "lab", *options, *arguments]
    return subprocess.run(command, check=False).returncode
