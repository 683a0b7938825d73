"""The process in which sympy runs: read one JSON pair [answer, truth] per line, write 1 or 0 per line.

`sdlab.grading.process` starts this file as a script, and kills the process when it takes too long.
Big-integer work such as 5^(5^(5^5)) never returns to Python, so a handler in Python could not stop it. The
limit is therefore a CPU timer: when it expires, the kernel ends the process. The timer also ends a worker
whose parent has exited.
"""

import json
import sys
from pathlib import Path

LIMIT_BYTES = 2 << 30  # of address space; numbers that fill it raise MemoryError, which counts as wrong


def _limit(cpu_seconds: float) -> None:
    import signal

    if hasattr(signal, "setitimer"):  # Windows has no timer; there the parent's wall clock is the only limit
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _protect() -> None:
    import signal

    # A notebook's interrupt is meant for the parent, which stops this process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    except (ImportError, ValueError, OSError):
        return  # this system has no such limit; the time limit still applies


def main(cpu_seconds: float) -> None:
    """Answer requests from standard input until it ends; each may take `cpu_seconds` of CPU time."""
    replies, sys.stdout = sys.stdout, sys.stderr  # the output of a library must not be read as a reply
    _protect()
    # Appended last, so that no folder of sdlab hides a library of the same name.
    sys.path.append(str(Path(__file__).parents[2]))
    from sdlab.grading._algebra import sets, value
    from sdlab.grading.structure import Judge, same

    judge = Judge(value, sets)
    same(r"\frac{1}{2}x", "0.5x", judge)  # builds the parser's tables before the time limit applies
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        _limit(cpu_seconds)
        try:
            answer, truth = json.loads(line)
            reply = same(answer, truth, judge)
        except (RecursionError, MemoryError):  # nested too deeply, or a number too large for the memory
            reply = False
        _limit(0)
        print(int(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
