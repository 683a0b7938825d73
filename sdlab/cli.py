"""The command line: one table of commands, and the dispatch of the first word to the module of its command.

Only the standard library is imported before a command runs or prints its help.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import is_dataclass
from functools import partial, wraps
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

from sdlab.ending import end_quickly
from sdlab.errors import SdlabError, first_line, unknown

KINDS = {"INT": "a whole number", "FLOAT": "a number", "{None}": "None"}  # tyro's names of types
DESCRIPTION = "See why self-distillation sometimes makes a reasoning model worse, on a laptop."


class Command(NamedTuple):
    """Where a command is implemented, and its line in `sdlab --help`."""

    group: str
    """Heading above the command in `sdlab --help`."""
    place: str
    """`module:member` in `sdlab.commands`. The member is a function, or a dict of subcommands by name."""
    about: str
    """One line for `sdlab --help`."""
    passes_on: bool = False
    """Hand all arguments to the function as they are, except a request for help."""


WALK, MEASURE, TRAIN = "Walk through the study", "Measure models", "Train models"
REAL, COURSE = "Real models", "Course"
COMMANDS = {
    "tour": Command(WALK, "walk:tour", "Run the notebooks of the walkthrough and write a report."),
    "explore": Command(WALK, "walk:explore", "Write the explorer: the models run in one HTML page."),
    "lab": Command(WALK, "walk:lab", "Open JupyterLab on the first notebook.", passes_on=True),
    "measure": Command(
        MEASURE, "measure:MEASUREMENTS", "Measure a model in the four contexts or on every split."
    ),
    "markers": Command(
        MEASURE, "markers:markers_command", "Count epistemic markers in files of completions."
    ),
    "evaluate": Command(MEASURE, "evaluate:evaluate", "Evaluate a model on benchmarks or splits."),
    "import": Command(MEASURE, "evaluate:import_", "Analyse completions that you already have."),
    "compare": Command(MEASURE, "evaluate:compare", "Compare results in one table, paired by problem."),
    "train": Command(TRAIN, "train:METHODS", "Train a model with SFT, GRPO, SDPO or a repair of it."),
    "repairs": Command(TRAIN, "repairs:repairs", "List the repairs of self-distillation and their claims."),
    "sweep": Command(TRAIN, "sweep:sweep", "Train on every combination of settings."),
    "reproduce": Command(TRAIN, "reproduce:reproduce", "Run the training of the recorded results again."),
    "pretrain": Command(TRAIN, "pretrain:pretrain", "Pretrain an organism, the small model of the study."),
    "recipe": Command(
        REAL, "recipe:recipe", "Prepare the paper's experiments on real models, with estimates."
    ),
    "models": Command(REAL, "models:models_command", "List known models and what each needs."),
    "benchmarks": Command(
        REAL, "benchmarks:benchmarks_command", "List the real benchmarks, or show one of them."
    ),
    "labs": Command(COURSE, "labs:LABS", "Build the student versions of the labs and grade submissions."),
    "leaderboard": Command(
        COURSE, "leaderboard:leaderboard_command", "Rank the repairs that students submit."
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: success. 1: a notebook, a run or a submission failed. 2: bad input. 130: interrupted.
    141: the reader of the output has closed the pipe (`| head`).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    end_quickly()
    try:
        try:
            return run_command(arguments)
        finally:
            # Flush here, where a closed pipe is caught, and not when Python exits.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whatever is still buffered goes to the null device.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run_command(arguments: list[str]) -> int:
    """Run one command; print an SdlabError or an interrupt as one line and return its status.

    Raises SystemExit after printing help (status 0) or an error of usage (status 2).
    """
    # A kernelspec in the user's home must not win over the environment that sdlab is installed in.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        return _dispatch(arguments)
    except SdlabError as error:
        print(f"sdlab: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # no file is to blame; a closed pipe is one of these
            raise
        place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        print(f"sdlab: {place}: {error.strerror}; check the path and its rights", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sdlab: stopped", file=sys.stderr)
        return 130


def help_text() -> str:
    """Return the text of `sdlab --help`: the commands by group."""
    lines = ["usage: sdlab COMMAND ...", "", DESCRIPTION]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        lines += [
            f"  {name:<12} {command.about}" for name, command in COMMANDS.items() if command.group == group
        ]
    return "\n".join([*lines, "", "`sdlab COMMAND --help` describes a command and its options."])


def _dispatch(arguments: list[str]) -> int:
    """Import the module of the command that the first word names, and run it with the other words."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text(), file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else 2)
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"sdlab: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    command = COMMANDS[name]
    module, member = command.place.split(":")
    target = getattr(import_module(f"sdlab.commands.{module}"), member)
    if command.passes_on and not {"-h", "--help"} & set(rest):
        return target(tuple(rest))
    import tyro

    from sdlab.commands.options import registry

    errors = Captured()
    try:
        with redirect_stderr(errors):
            if isinstance(target, Mapping):
                parsed = tyro.extras.subcommand_cli_from_dict(
                    {word: deferred(function) for word, function in target.items()},
                    prog=f"sdlab {name}",
                    description=command.about,
                    args=rest,
                    registry=registry(),
                )
            else:
                parsed = tyro.cli(deferred(target), prog=f"sdlab {name}", args=rest, registry=registry())
    except SystemExit as stopped:
        # An error in a settings class: its own line, without tyro's box and its names of inner parts.
        if error := cause_of(stopped):
            raise error from None
        raise
    finally:
        sys.stderr.write(errors.getvalue() if cause_of(sys.exc_info()[1]) is None else "")
    _refuse_empty_lists(rest, parsed.keywords)
    return parsed()


def _refuse_empty_lists(words: list[str], values: Mapping[str, Any]) -> None:
    """Raise SdlabError for an option that takes a list and got no word, as in `--seeds $SEEDS` without SEEDS.

    Commands read an empty list as "all", which may be hours of training. An option without a word after it is
    a switch, whose value is a bool, or such a list; tyro has refused all others.
    """
    for word, after in pairwise([*words, "--"]):
        if not word.startswith("--") or "=" in word or not after.startswith("--"):
            continue
        name = word[2:].rpartition(".")[2].replace("-", "_")
        if any(not isinstance(value, bool) for value in _named(name, values)):
            raise SdlabError(f"{word} has no value; write at least one after it, or leave {word} out")


def _named(name: str, values: Mapping[str, Any]) -> list[Any]:
    """Return the values of the option `name` among the arguments of a command and in its settings classes."""
    found = [values[name]] if name in values else []
    inner = [vars(value) for value in values.values() if is_dataclass(value)]
    return found + [one for some in inner for one in _named(name, some)]


class Captured(io.StringIO):
    """Text for stderr, written later; it is a terminal when stderr is, so that colours stay."""

    def isatty(self) -> bool:
        """Return whether stderr is a terminal."""
        return bool(sys.__stderr__ and sys.__stderr__.isatty())


def deferred(function: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return a function with the same parameters that returns the call, to be made when parsing is over."""

    @wraps(function)
    def parse(*arguments: object, **named: object) -> Callable[[], int]:
        return partial(function, *arguments, **named)

    return parse


def cause_of(error: BaseException | None) -> SdlabError | None:
    """Return the SdlabError that led to `error`, or None.

    A ValueError of a settings class that is not an SdlabError becomes one: tyro's own text names the class by
    an inner name ("__tyro-dummy-inner__") that no user can know. So does a word that is not of an option's
    type, which tyro tells in twelve lines with names of Python's classes.
    """
    plain = None
    while error is not None and not isinstance(error, SdlabError):
        if type(error).__name__ == "InstantiationError":
            message, argument = first_line(getattr(error, "message", error)), getattr(error, "arg", None)
            # without an argument the values are right, and the class refused them
            plain = SdlabError(message) if isinstance(argument, str) else _unreadable(argument, message)
        error = error.__context__
    return error or plain


def _unreadable(argument: Any, message: str) -> SdlabError:
    """Return the error for a word of the command line that is not of the type of its option."""
    known = argument.lowered
    name = known.metavar if argument.is_positional() else known.name_or_flags[-1]
    words = re.findall(r"'([^']*)'", message)
    if not words:
        return SdlabError(f"{name}: {message}; see the command's --help")
    allowed = " or ".join(KINDS.get(kind, kind) for kind in reversed(str(known.metavar).split("|")))
    return SdlabError(f"{name} {words[-1]} is not allowed; it must be {allowed}")


if __name__ == "__main__":
    sys.exit(main())
