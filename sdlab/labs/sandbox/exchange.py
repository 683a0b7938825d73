"""Write values as JSON and read them back, so that the grader never loads an object of a submission.

Numbers, text, lists, tuples, sets, dictionaries, NumPy arrays and tensors arrive unchanged. Reading runs no
code of the sender. The only exception is a pickle, which the grader may send and never reads.
"""

from __future__ import annotations

import base64
import math
import pickle
import sys
from collections.abc import Iterator
from typing import Any

ARRAYS = "biufcSU"  # kinds of NumPy arrays that are plain data
_LISTS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Sent:
    """Write values and keep the tensors among them, in order.

    `tensors`: those written so far. `differentiable`: those of them that need a gradient, each once.
    `objects`: whether other objects are pickled; the grader does that, a submission cannot.
    """

    def __init__(self, objects: bool = False) -> None:
        self.objects = objects
        self.tensors: list[Any] = []
        self.differentiable: list[Any] = []

    def write(self, value: Any) -> Any:
        """Return `value` as JSON. Raises TypeError for an object that is not plain data."""
        if value is None or isinstance(value, bool):
            return value
        numpy, torch, pandas = (sys.modules.get(name) for name in ("numpy", "torch", "pandas"))
        if numpy and isinstance(value, (numpy.generic, numpy.ndarray)):
            return self._array(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return {"int": format(int(value), "x")}  # of any size
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, complex):
            return {"complex": [self.write(value.real), self.write(value.imag)]}
        if torch and isinstance(value, torch.Tensor):
            return self._tensor(value)
        for name, kind in _LISTS.items():
            if isinstance(value, kind):
                return {name: [self.write(one) for one in value]}
        if isinstance(value, dict):
            return {"dict": [[self.write(key), self.write(one)] for key, one in value.items()]}
        if self.objects:
            return {"pickle": _text(pickle.dumps(value))}
        if pandas and isinstance(value, (pandas.Series, pandas.DataFrame)):
            return self._array(value.to_numpy())
        raise TypeError(
            f"the function returned a {type(value).__name__}; return numbers, text, lists, tuples, "
            f"dictionaries, arrays or tensors"
        )

    def _array(self, value: Any) -> Any:
        if value.dtype.kind not in ARRAYS:
            return self.write(value.tolist())
        import numpy

        kind = "array" if isinstance(value, numpy.ndarray) else "scalar"
        content = numpy.ascontiguousarray(value)
        return {kind: [value.dtype.str, list(value.shape), _text(content.tobytes())]}

    def _tensor(self, value: Any) -> Any:
        import torch

        self.tensors.append(value)
        place = None
        if value.requires_grad:
            known = [one is value for one in self.differentiable]
            place = known.index(True) if any(known) else len(known)
            if not any(known):
                self.differentiable.append(value)
        plain = value.detach().cpu().contiguous().reshape(-1)
        content = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape), _text(content), place]}


class Received:
    """Read values, with the tensors among them in order.

    `tensors`: those read so far. `differentiable`: by their place, those that need a gradient, as leaves.
    `objects`: whether pickles are loaded; a submission does that with what the grader sent.
    `instead`: tensors to put in the place of those that were sent.
    """

    def __init__(self, objects: bool = False, instead: Iterator[Any] | None = None) -> None:
        self.objects, self.instead = objects, instead
        self.tensors: list[Any] = []
        self.differentiable: dict[int, Any] = {}

    def read(self, data: Any) -> Any:
        """Return the value of `data`. Raises ValueError when it is not JSON of `Sent.write`."""
        if data is None or isinstance(data, (bool, str, float)):
            return data
        if not isinstance(data, dict) or len(data) != 1:
            raise ValueError(f"not a value: {str(data)[:80]}")
        ((kind, content),) = data.items()
        if kind == "int":
            return int(content, 16)
        if kind == "float":
            return float(content)
        if kind == "complex":
            return complex(*map(self.read, content))
        if kind in _LISTS:
            return _LISTS[kind](self.read(one) for one in content)
        if kind == "dict":
            return {self.read(key): self.read(one) for key, one in content}
        if kind in ("array", "scalar"):
            return _array(kind, *content)
        if kind == "tensor":
            return self._tensor(*content)
        if kind == "pickle" and self.objects:
            return pickle.loads(base64.b64decode(content))
        raise ValueError(f"not a value: {kind}")

    def _tensor(self, kind: str, shape: list[int], content: str, place: int | None) -> Any:
        import torch

        if self.instead is not None:
            return next(self.instead)
        if place is not None and place in self.differentiable:
            self.tensors.append(self.differentiable[place])
            return self.differentiable[place]
        dtype = getattr(torch, kind)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"not a type of tensors: {kind}")
        raw = bytearray(base64.b64decode(content))
        flat = torch.frombuffer(raw, dtype=torch.uint8).view(dtype) if raw else torch.empty(0, dtype=dtype)
        tensor = flat.reshape(shape)
        if place is not None:
            self.differentiable[place] = tensor.requires_grad_()
        self.tensors.append(tensor)
        return tensor


def _array(kind: str, dtype: str, shape: list[int], content: str) -> Any:
    import numpy

    if numpy.dtype(dtype).kind not in ARRAYS:
        raise ValueError(f"not a type of arrays: {dtype}")
    array = numpy.frombuffer(bytearray(base64.b64decode(content)), numpy.dtype(dtype)).reshape(shape)
    return array if kind == "array" else array[()]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
