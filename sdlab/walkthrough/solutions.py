"""The solutions of the exercises: one notebook for each page, in the folder `solutions` beside it."""

import re
from collections.abc import Iterable
from pathlib import Path

from sdlab.walkthrough.execute import read
from sdlab.walkthrough.record import read_record

FOLDER, ENDING = "solutions", "_solutions"
# A link from a notebook to another one, to its solutions, or from the solutions back.
LINK = re.compile(r'<a href="(?:\.\./|solutions/)?([\w.-]+\.ipynb)">(.*?)</a>', re.DOTALL)


def path_of(notebook: Path) -> Path | None:
    """Return the file with the solutions of `notebook`, or None when it has none."""
    path = notebook.parent / FOLDER / f"{notebook.stem}{ENDING}.ipynb"
    return path if path.is_file() else None


def page_of(path: Path) -> str:
    """Return the name of the report's page for a notebook, or for a notebook of solutions."""
    return f"{path.stem}.html"


def about(path: Path) -> str:
    """Return one line on the stored outputs of the notebook at `path`: where their numbers come from.

    Raises SdlabError when the notebook cannot be read or has no record.
    """
    made = read_record(read(path))["provenance"]
    return f"stored outputs · preset {made['preset']} · model {made['model']}"


def linked(body: str, notebooks: Iterable[Path]) -> str:
    """Return `body` with the links between notebooks and solutions leading to the report's pages.

    `notebooks`: those that have a page. Links to other notebooks become plain text.
    """
    known = [file for path in notebooks for file in (path, path_of(path)) if file is not None]
    pages = {file.name: page_of(file) for file in known}

    def leading(link: re.Match[str]) -> str:
        return f'<a href="{pages[link[1]]}">{link[2]}</a>' if link[1] in pages else link[2]

    return LINK.sub(leading, body)
