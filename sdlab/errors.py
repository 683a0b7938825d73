"""The exception for every fault that a user can correct, and the first line of other errors."""

import re
from collections.abc import Iterable


class SdlabError(ValueError):
    """Bad input or a damaged file.

    The message is one line: what is wrong, with its value; what is allowed; what to do. The command line
    prints this line and exits with status 2. It shows no traceback.
    """


class MissingPackage(SdlabError):
    """An optional package that is not installed.

    The message names the package and the command that installs it. A caller that can go on without the
    package prints the message and leaves that part out.
    """


def unknown(what: str, value: object, allowed: Iterable) -> SdlabError:
    """Return the error for a name that is not one of `allowed`."""
    names = ", ".join(sorted(map(str, allowed)))
    return SdlabError(f"unknown {what} {value!r}; choose one of: {names}")


def first_line(error: BaseException | str, length: int = 200) -> str:
    """Return the first line of an error's message (or of a text) that is not empty.

    The line has no colour codes and at most `length` characters. For an error without a message it is the
    name of the error's type.
    """
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))
    silent = type(error).__name__ if isinstance(error, BaseException) else ""
    return next((line.strip() for line in text.splitlines() if line.strip()), silent)[:length]
