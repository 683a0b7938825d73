"""A copy of sdlab with only what a lab allows, and the folders that its submissions may not read.

A submission must not reach the function that it is asked to write: not by an import, not in the memory of
its process, and not as a file. So its process gets a copy of sdlab with the modules of the worker and those
that the lab allows. The real package and libraries that the lab does not allow are hidden from it.
"""

import ast
import importlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from sdlab import __version__, paths
from sdlab.errors import SdlabError
from sdlab.labs.sandbox.exchange import Sent

WORKER = "sdlab.labs.sandbox.worker"
LIBRARIES = ("numpy", "pandas", "scipy", "torch")  # for a lab that does not say which
ALWAYS = ("ipython", "psutil", "setuptools", "pip")
WITH = {"pandas": ("pyarrow",)}  # installed or not, it changes what tables hold
PACKAGE = """
__version__ = {version!r}


def __getattr__(name):
    import importlib
    import os

    place = os.path.join(__path__[0], name)
    if os.path.isfile(place + ".py") or os.path.isdir(place):
        return importlib.import_module(__name__ + "." + name)
    from sdlab.labs.sandbox.switched_off import stand_in

    return stand_in(__name__ + "." + name)
"""


@dataclass(frozen=True)
class Rules:
    """What a lab asks for, and what its submissions may use.

    `asked`: names to define; a function's name ends with (). `allowed`: dotted names of modules, functions
    and constants of sdlab. `libraries`: names of distributions; what they require is allowed too.
    """

    asked: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    libraries: tuple[str, ...] = LIBRARIES
    modules: tuple[str, ...] = field(init=False)  # of sdlab, to copy
    values: dict[str, Any] = field(init=False)  # constants of sdlab, as JSON

    def __post_init__(self) -> None:
        modules, values = [WORKER], {}
        for name in self.allowed:
            value = _resolved(name)
            if isinstance(value, ModuleType):
                modules.append(name)
            elif callable(value):
                modules.append(value.__module__)
            else:
                values[name] = Sent().write(value)
        object.__setattr__(self, "modules", tuple(sorted(_closure(modules))))
        object.__setattr__(self, "values", values)
        blocked(self.libraries)  # raises for an unknown one

    def as_settings(self) -> dict[str, Any]:
        """Return what the process of a submission needs to know, as JSON."""
        asked = [name.removesuffix("()") for name in self.asked]
        return {"asked": asked, "values": self.values, "blocked": blocked(self.libraries)}


def copy_reduced(rules: Rules, folder: Path) -> None:
    """Write the copy of sdlab that `rules` allow to the new folder `folder`."""
    for module in rules.modules:
        source = _file(module)
        target = folder / source.relative_to(paths.PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        for package in target.parents:
            if package == folder:
                break
            (package / "__init__.py").write_text(PACKAGE.format(version=__version__))


def hidden_files(rules: Rules) -> list[Path]:
    """Return the copies of sdlab on Python's path, and the libraries that are not allowed."""
    entries = [Path(entry) for entry in _path()]
    copies = [entry / "sdlab" for entry in entries if (entry / "sdlab").is_dir()]
    libraries = [
        file
        for entry in entries
        for name in blocked(rules.libraries)
        for file in (entry / name, entry / f"{name}.py")
        if file.exists()
    ]
    return [paths.PACKAGE, *copies, *libraries]


def python_path(folder: Path) -> str:
    """Return PYTHONPATH for the process of a submission: the copy in `folder` first, no other sdlab."""
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(
        [str(folder), *(entry for entry in own if entry and not (Path(entry) / "sdlab").is_dir())]
    )


@cache
def blocked(libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first parts of the names of all installed libraries that `libraries` do not require.

    Raises SdlabError when one of them is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    allowed: set[str] = set()
    waiting = [*libraries, *ALWAYS, *(more for one in libraries for more in WITH.get(one, ()))]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in allowed:
            continue
        allowed.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            if name in libraries:
                raise SdlabError(
                    f"a lab allows the library {name!r}, which is not installed; install it or change "
                    f"`libraries` in the metadata of its solution notebook"
                ) from None
            continue
        for one in map(Requirement, requirements):
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                waiting.append(one.name)
    return tuple(
        sorted(
            name
            for name, owners in metadata.packages_distributions().items()
            if name.isidentifier()
            and name != "sdlab"
            and not allowed & {canonicalize_name(owner) for owner in owners}
        )
    )


def _path() -> list[str]:
    entries = sys.path + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(os.path.realpath(entry) for entry in entries if os.path.isdir(entry)))


def _resolved(name: str) -> Any:
    """Return the module, or the member of a module, called `name`."""
    try:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, member = name.rpartition(".")
            return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError, ValueError) as error:
        raise SdlabError(
            f"a lab allows {name!r}, which does not exist ({error}); change `allowed` in the metadata of its "
            f"solution notebook"
        ) from error


def _closure(modules: Iterable[str]) -> set[str]:
    """Return `modules` and the modules of sdlab that they import at their top level."""
    known, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module in known or _file(module).name == "__init__.py":
            continue  # packages get files of their own
        known.add(module)
        for node in ast.parse(_file(module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
            else:
                continue
            waiting += [name for name in names if name.startswith("sdlab.") and _file(name).exists()]
    return known


def _file(module: str) -> Path:
    place = paths.PACKAGE.parent.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
