"""Run a test cell in the grader, with the student's functions called in the process of the submission.

A test cell computes expected values, so it must not be where the submission can look. The names that it
takes from the student are stand-ins (`Answer`): a call sends the arguments, and plain data come back.
Gradients pass through: a backward pass asks the submission's process for the slopes.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sdlab.labs.cells import assigned, parsed
from sdlab.labs.sandbox.exchange import Received, Sent
from sdlab.labs.sandbox.worker import in_one_line

Ask = Callable[..., dict[str, Any]]  # ask(kind, **content) returns the reply of the submission's process


class AnswerError(Exception):
    """The student's function raised an error; `reply` is what its process sent."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(reply["error"])
        self.reply = reply


class Stopped(BaseException):
    """The submission's process ended or had to be stopped; a test cannot catch it."""


class Answer:
    """A function of the student, in the process of the submission.

    `cpu_seconds` returns the processor time that all processes of the submission have used so far.
    """

    def __init__(self, name: str, ask: Ask, cpu_seconds: Callable[[], float]) -> None:
        self.__name__ = name
        self.ask, self.cpu_seconds = ask, cpu_seconds

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """Return what the student's function returns.

        Raises AnswerError when it raises, and when it returns no plain data.
        """
        sent = Sent(objects=True)
        request = {"name": self.__name__, "arguments": sent.write([list(positional), keywords])}
        if not sent.differentiable:
            reply = self.ask("call", **request)
            return _read(Received(), reply)
        replies: list[dict[str, Any]] = []
        outputs = _remote().apply(self.ask, request, replies, *sent.differentiable)
        return _read(Received(instead=iter(outputs)), replies[0])


def run_test(
    code: str, names: dict[str, Any], answers: Sequence[str], ask: Ask, cpu_seconds: Callable[[], float]
) -> tuple[str, dict[str, Any] | None]:
    """Run the test cell `code`; return its error in one line ("" when it passed) and the reply that failed.

    `names`: what the test may use of the lab. `answers`: what the student writes; functions are called in
    the submission's process, other values are fetched from there.
    """
    visible = {**names, "__builtins__": builtins, "__name__": "__main__"}
    used = {node.id for part in parsed(code) for node in ast.walk(part) if isinstance(node, ast.Name)}
    try:
        for name in answers:
            if name.endswith("()"):
                visible[name[:-2]] = Answer(name[:-2], ask, cpu_seconds)
            elif name in used:
                visible[name] = _read(Received(), ask("value", name=name))
        exec(compile(code, "<test cell>", "exec"), visible)
    except AnswerError as error:
        return str(error), error.reply
    except Exception as error:
        return in_one_line(error, 0, code), None
    return "", None


def asked_of(code: str) -> list[str]:
    """Return the names that the solution cell `code` defines; a function's name ends with ()."""
    return [name if value is not None else f"{name}()" for name, value in assigned(code).items()]


def names_for_tests(statements: Sequence[str]) -> dict[str, Any]:
    """Return the names that the lab's import `statements` bind."""
    names: dict[str, Any] = {}
    for statement in statements:
        with suppress(Exception):  # the test reports a missing name
            exec(statement, names)
    return names


def _read(received: Received, reply: dict[str, Any]) -> Any:
    try:
        return received.read(reply["value"])
    except Exception as error:  # not written by exchange.Sent, so not by the worker
        raise AnswerError({**reply, "error": f"sent a value that cannot be read ({error})"[:300]}) from error


def _remote() -> Any:
    """Return the autograd function that calls a student's function; torch is loaded only here."""
    import torch

    class Remote(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, ask: Ask, request: dict[str, Any], replies: list, *tensors: Any) -> tuple:
            reply = ask("call", **request)
            replies.append(reply)
            received = Received()
            _read(received, reply)
            outputs = [tensor.detach() for tensor in received.tensors]
            fixed = [
                output
                for output, sent in zip(outputs, received.tensors, strict=True)
                if not sent.requires_grad
            ]
            nothing = torch.zeros(())  # there must be an output, also where the result holds no tensor
            ctx.mark_non_differentiable(*fixed, nothing)
            ctx.set_materialize_grads(False)
            ctx.ask, ctx.call = ask, reply["token"]
            return (*outputs, nothing)

        @staticmethod
        def backward(ctx: Any, *slopes: Any) -> tuple:
            reply = ctx.ask("slopes", call=ctx.call, slopes=Sent().write(list(slopes[:-1])))
            return None, None, None, *_read(Received(), reply)

    return Remote
