"""The process that sympy runs in: reads one JSON pair [answer, truth] a line, writes 1 or 0 a line.

`sdlab.score` starts it as a script and kills it when it takes too long. Big-integer work such as 5^(5^(5^5)) never
returns to Python, so no handler of ours could stop it: the limit is a CPU timer whose default action is the kernel
ending the process. It also ends a worker whose parent has gone.
"""

import json
import sys
from functools import lru_cache

LIMIT_BYTES = 2 << 30  # address space; numbers that fill it fail with MemoryError, which counts as wrong


def _limit(cpu_seconds: float) -> None:
    import signal

    if hasattr(signal, "setitimer"):  # Windows has no timer; there the parent's wall clock is the only limit
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _protect() -> None:
    import signal

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a notebook's interrupt is for the parent, which stops us itself
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    except (ImportError, ValueError, OSError):
        return  # no such limit on this system; time is limited all the same


def main(cpu_seconds: float) -> None:
    replies, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not be read as a reply
    _protect()
    from math_verify import LatexExtractionConfig, parse, verify

    # Only the LaTeX reader: math-verify's reader of plain expressions hands model text to Python's eval.
    # Its own time limits are off: they need the main thread, cannot stop big-integer work, and fail with float seconds.
    config = [LatexExtractionConfig()]

    def read(text: str) -> list:
        text = " ".join(text.replace(r"\$", "").replace("$", "").split())
        return parse(f"${text}$", config, parsing_timeout=None)

    truths = lru_cache(1024)(read)

    def same(answer: str, truth: str) -> bool:
        return verify(
            truths(truth), read(answer), timeout_seconds=None
        )  # the truth goes first: verify is not symmetric

    same(r"\frac{1}{2}", "0.5")  # builds the parser's tables before the clock counts
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        _limit(cpu_seconds)
        reply = same(*json.loads(line))
        _limit(0)
        print(int(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
