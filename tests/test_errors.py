"""What an error says in a line."""

import pytest

from sdlab.errors import first_line


@pytest.mark.parametrize("error,line", [
    (ValueError("\n  no such column \nmore"), "no such column"),
    (KeyError("a"), "'a'"),
    (ValueError(), "ValueError"),
    (ValueError(" \n "), "ValueError"),
    ("\x1b[31mred\x1b[0m\nblue", "red"),
    ("", ""),
    ("x" * 500, "x" * 200),
])  # fmt: skip
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


def test_the_length_is_the_callers():
    assert first_line("x" * 500, 300) == "x" * 300
