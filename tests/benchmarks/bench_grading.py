"""Time to grade one completion, side by side: sdlab, math-verify alone, and equality of the box's text.

Run: python tests/benchmarks/bench_grading.py. Each line is the median of five rounds, with the ratio to
sdlab's time.
"""

import logging
import statistics
import time

from math_verify import parse, verify

from sdlab.grading import score
from sdlab.grading.score import grade

KINDS = {
    "integers": [(f"so \\boxed{{{k}}}.", str(k + k % 2)) for k in range(500)],
    "decimals": [(f"so \\boxed{{{k}.50}}.", f"{k + k % 2}.5") for k in range(500)],
    "choices": [(f"so \\boxed{{{'ABCD'[k % 4]}}}." + " " * k, "B") for k in range(500)],
    "lists": [(f"so \\boxed{{{k}, {k + 9}}}.", f"{k + 9}, {k}") for k in range(500)],
    "fractions": [(f"so \\boxed{{\\frac{{{k}}}{{7}}}}.", f"{2 * k}/14") for k in range(1, 61)],
}


def with_sdlab(pairs):
    score._verify.cache_clear()
    for text, truth in pairs:
        grade([text], [truth])


def with_math_verify(pairs):
    for text, truth in pairs:
        verify(
            parse(f"${truth}$", parsing_timeout=None), parse(text, parsing_timeout=None), timeout_seconds=None
        )


def with_equality(pairs):
    for text, truth in pairs:
        _ = text[text.rfind("\\boxed{") + 7 : text.rfind("}")] == truth


def microseconds(work, pairs, rounds=5):
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work(pairs)
        times.append((time.perf_counter() - started) / len(pairs) * 1e6)
    return statistics.median(times)


def main():
    logging.disable(logging.WARNING)
    for name, pairs in KINDS.items():
        with_sdlab(pairs)  # starts the worker, if the kind needs it
        ours = microseconds(with_sdlab, pairs)
        line = f"{name:10} sdlab {ours:8.1f} us"
        for label, work in (("math-verify", with_math_verify), ("text equality", with_equality)):
            other = microseconds(work, pairs[:60], rounds=3)
            line += f"   {label} {other:8.1f} us ({other / ours:6.2f} x)"
        print(line)


if __name__ == "__main__":
    main()
