"""One exception for everything a user can mend, and what other errors say in a line."""

import re


class SdlabError(ValueError):
    """Bad input or a damaged file, told in one line: what was wrong, its value, what is allowed, what to do.

    The command line prints the line and exits with status 2; it never shows a traceback for it.
    """


def unknown(what: str, value: object, allowed) -> SdlabError:
    """The error for a name that is not one of `allowed` (any iterable of strings)."""
    names = ", ".join(sorted(map(str, allowed)))
    return SdlabError(f"unknown {what} {value!r}; choose one of: {names}")


def first_line(error: BaseException | str, length: int = 200) -> str:
    """The first line of an error's message (or of a text) that is not empty, without colours, cut to `length` characters.

    An error without a message is told by its type.
    """
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))
    silent = type(error).__name__ if isinstance(error, BaseException) else ""
    return next((line.strip() for line in text.splitlines() if line.strip()), silent)[:length]
