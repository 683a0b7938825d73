"""Choose the folders that a submission may read."""

import os
import sys
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/sys")


def needed_folders(hidden: list[Path]) -> tuple[list[str], list[str]]:
    """Return the folders that a submission needs, and those that it may only list.

    A folder is only listable if it contains `hidden` files. A submission needs the system, Python, its
    packages, sdlab and its data, but not the rest of a checkout. Folders that it needs can contain hidden
    files too.
    """
    from sdlab import paths

    places = [os.path.realpath(path) for path in hidden]
    needed, listable = (
        {*SYSTEM, sys.prefix, sys.base_prefix, str(paths.PACKAGE), str(paths.data_dir())},
        set(),
    )
    for entry in filter(os.path.isdir, sys.path + os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        entry = os.path.realpath(entry)
        packages = paths.checkout() is None and entry == str(paths.PACKAGE.parent)  # sdlab among them
        inside = any(_below(place, entry) for place in places)
        (listable if inside and not packages else needed).add(entry)
    return sorted(needed), sorted(listable)


def readable_folders(hidden: list[Path]) -> tuple[list[str], list[str]]:
    """Return the folders and files that a submission may read, and the folders that it may only list."""
    needed, listed = needed_folders(hidden)
    readable, listable = set(), set(listed)
    for folder in needed:
        more = readable_around(folder, [Path(path).resolve() for path in hidden])
        readable |= more[0]
        listable |= more[1]
    return sorted(readable), sorted(listable)


def readable_around(folder: str | Path, hidden: list[Path]) -> tuple[set[str], set[str]]:
    """Return the paths in a folder that may be read, and those that may only be listed.

    No `hidden` file can be read then. `hidden`: files and folders by their real paths. Landlock grants whole
    trees, so the entries beside the path to a hidden file are granted one by one.
    """
    return _readable_around(os.path.realpath(folder), [str(path) for path in hidden])


def _readable_around(place: str, hidden: list[str]) -> tuple[set[str], set[str]]:
    inside = [path for path in hidden if _below(path, place)]
    if not inside:
        return {place}, set()
    readable, listable = set(), set()
    if place not in inside and os.path.isdir(place):
        listable.add(place)
        for entry in os.scandir(place):
            if not entry.is_symlink():  # its target is granted, or not, at its own place
                more = _readable_around(entry.path, inside)
                readable |= more[0]
                listable |= more[1]
    return readable, listable


def hidden_places(folder: str, hidden: list[Path]) -> list[str]:
    """Return the paths below `folder`, perhaps a link, that lead to the folders in `hidden`."""
    place = os.path.realpath(folder)
    inside = [path for path in map(os.path.realpath, hidden) if _below(path, place) and os.path.isdir(path)]
    return [os.path.normpath(os.path.join(folder, os.path.relpath(path, place))) for path in inside]


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
