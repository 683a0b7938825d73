"""The process that sympy runs in: reads one JSON pair [answer, truth] a line, writes 1 or 0 a line.

`sdlab.grading.process` starts it as a script and kills it when it takes too long. Big-integer work such as
5^(5^(5^5)) never returns to Python, so no handler of ours could stop it: the limit is a CPU timer whose
default action is the kernel ending the process. It also ends a worker whose parent has gone.
"""

import json
import sys
from pathlib import Path

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
    sys.path.append(
        str(Path(__file__).parents[2])
    )  # last: nothing of ours stands before a library of the same name
    from sdlab.grading._algebra import sets, value
    from sdlab.grading.structure import Judge, same

    judge = Judge(value, sets)
    same(r"\frac{1}{2}x", "0.5x", judge)  # builds the parser's tables before the clock counts
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        _limit(cpu_seconds)
        try:
            reply = same(*json.loads(line), judge)
        except (RecursionError, MemoryError):  # nested too deeply, or a number too large to write down
            reply = False
        _limit(0)
        print(int(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
