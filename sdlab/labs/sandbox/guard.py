"""Restore what a submission replaced in Python and its libraries, before a test cell is run.

A test with `assert torch.allclose(...)` is worthless if the submission changed `torch.allclose` to return
True. Replaced functions and classes are restored, in modules and in classes, and function bodies too. This
cannot be
complete: code in the same process as its examiner can always reach it (frames, threads, ctypes).
"""

import builtins
import importlib
import sys
import types
from collections.abc import Mapping
from typing import Any

ALWAYS = (
    "builtins",
    "math",
    "cmath",
    "operator",
    "itertools",
    "functools",
    "collections",
    "numbers",
    "fractions",
    "statistics",
    "random",
    "unittest",
    "numpy",
    "torch",
    "sdlab",
)
_REPLACED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    property,
    type,
    classmethod,
    staticmethod,
)


class Guard:
    """A snapshot of loaded modules, taken before any of a submission's code runs.

    `roots`: the first parts of the names of the modules.
    """

    def __init__(self, roots: set[str]) -> None:
        roots = (roots | set(ALWAYS)) - {"transformers"}  # it replaces its own modules at their first use
        self.roots = roots
        self.modules = {
            name: module
            for name, module in list(sys.modules.items())
            if isinstance(module, types.ModuleType) and name.partition(".")[0] in roots
        }
        self.builtins = dict(vars(builtins))
        self.names: list[tuple[str, dict[str, Any], dict[str, Any]]] = []  # module, its names now and before
        self.classes: dict[type, dict[str, Any]] = {}
        self.bodies: dict[types.FunctionType, tuple] = {}
        for module_name, module in self.modules.items():
            kept = {
                name: value
                for name, value in vars(module).items()
                if _callable(value) or type(value) is types.ModuleType
            }
            self.names.append((module_name, vars(module), kept))
            for value in kept.values():
                if (
                    isinstance(value, type)
                    and value.__flags__ & (1 << 9)
                    and value.__module__.partition(".")[0] in roots
                    and value not in self.classes
                ):
                    self.classes[value] = {
                        name: own for name, own in vars(value).items() if isinstance(own, _REPLACED)
                    }
                elif isinstance(value, types.FunctionType):
                    self.bodies[value] = (value.__code__, value.__defaults__, value.__kwdefaults__)
        for kept in self.classes.values():
            self.bodies.update(
                {
                    own: (own.__code__, own.__defaults__, own.__kwdefaults__)
                    for own in kept.values()
                    if isinstance(own, types.FunctionType)
                }
            )

    def put_back(self) -> list[str]:
        """Undo every replacement since the snapshot; return their names ("torch.allclose")."""
        replaced, now = [], builtins.__dict__
        for name, value in self.builtins.items():  # first, and without calling any builtin
            if now.get(name) is not value and name != "_":
                replaced.append("builtins." + name)
                now[name] = value
        sys.settrace(None)
        sys.setprofile(None)
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                replaced.append(name)
                sys.modules[name] = module
        for module, now, kept in self.names:
            for name, value in kept.items():
                if (other := now.get(name)) is not value and module != "builtins":
                    replaced += [f"{module}.{name}"] * self._foreign(other)
                    now[name] = value
        for owner, kept in self.classes.items():
            now, title = _own(owner), f"{owner.__module__}.{owner.__name__}."
            for name, value in kept.items():
                if (other := now.get(name)) is not value:
                    replaced += [title + name] * self._foreign(other)
                    type.__setattr__(owner, name, value)
            for name in [name for name in now if name not in kept and type(now[name]) is types.FunctionType]:
                # a new method that hides an inherited one
                if self._foreign(now[name]) and any(name in _own(base) for base in owner.__mro__[1:]):
                    replaced.append(title + name)
                    type.__delattr__(owner, name)
        for function, (code, defaults, keywords) in self.bodies.items():
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keywords
            ):
                replaced.append(f"{function.__module__}.{function.__qualname__}")
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keywords
        return list(dict.fromkeys(replaced))

    def _foreign(self, value: Any) -> bool:
        """Return whether `value` is not a library's own; torch wraps some of its functions at import."""
        for inner in ("fget", "func", "__func__"):  # of a property, a cached property, a classmethod
            value = getattr(value, inner, value)
        module = getattr(value, "__module__", None) or getattr(type(value), "__module__", None)
        return not (isinstance(module, str) and module.partition(".")[0] in self.roots)


def _callable(value: Any) -> bool:
    return any("__call__" in _own(base) or issubclass(base, _REPLACED) for base in type(value).__mro__[:-1])


def _own(owner: type) -> Mapping[str, Any]:
    """Return the class's own attributes, even if its metaclass redefines `__dict__`."""
    return type.__dict__["__dict__"].__get__(owner)


def load(statements: list[str]) -> set[str]:
    """Import the modules of `statements`, for the snapshot; return the first parts of their names."""
    roots = set()
    for statement in statements:
        words = statement.split()
        for name in (
            [words[1]]
            if words[0] == "from"
            else [part.split()[0] for part in statement[len("import ") :].split(",")]
        ):
            roots.add(name.partition(".")[0])
            try:
                importlib.import_module(name)
                if words[0] == "from":
                    exec(statement, {})  # a name in it may be a module
            except Exception:  # the cell that needs it will say so
                pass
    return roots
