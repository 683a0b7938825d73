"""Stand-ins for what a submission may not use while it is graded.

In the process of a submission there is a copy of sdlab with the few modules that the lab allows
(sdlab.labs.sandbox.reduced). Every other name of sdlab can be imported, and raises SwitchedOff when it is
used. Libraries that the lab does not allow cannot be imported.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types
from collections.abc import Sequence
from typing import Any, NoReturn


class SwitchedOff(Exception):
    """A submission used what is switched off while it is graded."""


class Asked:
    """What the lab asks the student to write: `now` while it is called, otherwise one of `names`."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.now = ""
        self.blocked: frozenset[str] = frozenset()

    def message(self, name: str) -> str:
        """Return the line for the student who used `name`."""
        written = self.now or ", ".join(self.names) or "a function"
        return f"this lab asks you to write {written}; {name} is switched off while it is graded"

    def explained(self, error: BaseException | None) -> BaseException | None:
        """Return `error`, or SwitchedOff when it is the import of a library that is switched off."""
        name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        return SwitchedOff(self.message(name)) if name and name.partition(".")[0] in self.blocked else error


ASKED = Asked()


class StandIn:
    """A name that is switched off: `from sdlab.train.losses import aggregate` works, a call raises."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}")

    def __repr__(self) -> str:
        return f"<{self._name}, switched off>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise SwitchedOff(ASKED.message(self.__dict__["_name"]))

    __call__ = __getitem__ = __iter__ = __len__ = __bool__ = __float__ = __int__ = __enter__ = _refuse


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find a stand-in for each module of sdlab that is not in the reduced copy; `values`: its constants."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if name != "sdlab" and not name.startswith("sdlab."):
            return None
        return importlib.machinery.PathFinder.find_spec(name, path) or importlib.machinery.ModuleSpec(
            name, self, is_package=True
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = _Module(spec.name)
        for name, value in self.values.items():
            if name.rpartition(".")[0] == spec.name:
                setattr(module, name.rpartition(".")[2], value)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Libraries(importlib.abc.MetaPathFinder):
    """Find modules as Python does, except those of the libraries `blocked`."""

    def __init__(self, blocked: Sequence[str]) -> None:
        self.blocked = frozenset(blocked)

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if name.partition(".")[0] in self.blocked:
            return None  # as for a library that is not installed; others have optional imports
        return importlib.machinery.PathFinder.find_spec(name, path, target)

    find_distributions = staticmethod(importlib.metadata.MetadataPathFinder.find_distributions)


def switch_off(names: Sequence[str], values: dict[str, Any], blocked: Sequence[str]) -> None:
    """From now on only allowed modules can be imported.

    `names`: what the lab asks for. `values`: constants of sdlab that are allowed, by their dotted names.
    `blocked`: the first parts of the names of libraries that are not allowed.
    """
    ASKED.names, ASKED.blocked = tuple(names), frozenset(blocked)
    sys.meta_path[:] = [
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        _StandIns(values),
        _Libraries(blocked),
    ]


def stand_in(name: str) -> StandIn:
    """Return what a package of the reduced copy offers for a name that it lacks."""
    if name.rpartition(".")[2].startswith("__"):
        raise AttributeError(name)
    return StandIn(name)
