"""Numbers with their noun: "1 method", "2 methods"."""


def plural(count: int, one: str, several: str = "") -> str:
    """Return a whole number with its noun in the right form, the thousands separated: "1,024 problems".

    several: the form for any number but 1; "" adds an s to `one`.
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"
