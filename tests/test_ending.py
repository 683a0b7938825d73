"""How a process ends."""

import subprocess
import sys

CYCLE = """
class Loud:
    def __del__(self):
        print("visited")

one = Loud()
one.me = one
del one
"""


def end_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_that_ends_quickly_is_not_searched_for_garbage():
    assert end_of(CYCLE) == "visited"
    assert end_of("import atexit\nfrom sdlab.ending import end_quickly\nend_quickly()" + CYCLE) == ""


def test_what_others_do_at_exit_is_done():
    before = "import atexit\natexit.register(print, 'first')\nfrom sdlab.ending import end_quickly\n"
    assert end_of(before + "end_quickly()\natexit.register(print, 'last')") == "last\nfirst"
