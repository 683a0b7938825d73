"""`sdlab tour`, `sdlab explore` and `sdlab lab`: the report, the explorer, and JupyterLab."""

import subprocess
import sys
import webbrowser
from pathlib import Path

import tyro

from sdlab.commands.options import PRESET, names_in
from sdlab.errors import SdlabError
from sdlab.paths import ORGANISM

REPORTS = Path("reports")


def tour(
    preset: str = PRESET,
    output: Path = REPORTS,
    only: str | None = None,
    model: str = ORGANISM,
    problems: str = "",
    chat_template: str = "",
    refresh: bool = False,
) -> int:
    """Run the notebooks of the walkthrough and write a report.

    The index of the report exists after the first notebook and grows as the others finish.

    Args:
        preset: Sizes: smoke (seconds, for tests), quick (minutes, for a class) or full (recorded results).
        output: Folder for the report; open its index.html.
        only: Run only these notebooks, for example 00,03.
        model: The organism, a folder with a model in Hugging Face format, or a hub name.
        problems: Your own problems: a file (json, jsonl, parquet) or a data set of the hub. Only the
            notebooks that can use them run.
        chat_template: "plain" for a base model, or a file with a jinja template; by default the model's own.
            Only notebooks that can use it run.
        refresh: For developers: also store the cleaned outputs in the notebooks themselves.
    """
    from sdlab.walkthrough.tour import tour as run

    names = names_in("--only", only or "")
    prepare = _add_explorer if model == ORGANISM and not problems else None
    worked = run(
        preset,
        output,
        only=names,
        model=model,
        problems=problems,
        chat_template=chat_template,
        refresh=refresh,
        prepare=prepare,
    )
    return 0 if worked else 1


def explore(output: Path = REPORTS / "explorer.html", open: bool = False) -> int:
    """Write the explorer: one HTML page in which the organism and its trained versions run in the browser.

    The page needs no kernel and no network. It shows the models of `data/checkpoints`; without that folder it
    shows the organism alone.

    Args:
        output: The file to write. In the folder of a report, the report links it.
        open: Open the page in the browser.
    """
    from sdlab.explore.page import write_page

    path = write_page(output)
    print(f"explorer: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _add_explorer(folder: Path) -> None:
    """Write the explorer into the folder of a report; a failure costs the report only its link."""
    from sdlab.explore.page import PAGE, write_page

    try:
        write_page(folder / PAGE)
    except SdlabError as error:
        print(f"sdlab: no explorer in this report: {error}", file=sys.stderr)


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
