"""One exception for everything a user can mend."""


class SdlabError(ValueError):
    """Bad input or a damaged file, told in one line: what was wrong, its value, what is allowed, what to do.

    The command line prints the line and exits with status 2; it never shows a traceback for it.
    """


def unknown(what: str, value: object, allowed) -> SdlabError:
    """The error for a name that is not one of `allowed` (any iterable of strings)."""
    names = ", ".join(sorted(map(str, allowed)))
    return SdlabError(f"unknown {what} {value!r}; choose one of: {names}")
