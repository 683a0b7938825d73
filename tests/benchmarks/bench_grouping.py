"""Tokens per second on prompts of unequal length: sdlab, sdlab without grouping, transformers' `generate`.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_grouping.py --problems arithmetic.jsonl

All three sample with the same settings in one process, once on short prompts, once with one long prompt among
them. Times are of the processor, so other programs on the machine count less. Without grouping, prompts keep
their order and rows share a unit as long as the cache has room.
"""

import argparse
import time
from collections.abc import Callable
from unittest.mock import patch

from bench_rollout import ours, transformers_generate

from sdlab.benchmarks.problems import load_problems
from sdlab.rollout import torch_engine
from sdlab.rollout.loading import load_engine
from sdlab.rollout.loop import Unit
from sdlab.text.prompt import render_prompt


def in_given_order(
    prompt_ids: list[list[int]], generations: int, max_rows: int, traffic: object = None
) -> list[Unit]:
    """Return units of at most max_rows rows (or one prompt), in the order of the prompts."""
    size = max(1, max_rows // generations)
    return [
        Unit(
            prompt_ids[start : start + size],
            [generations] * len(prompt_ids[start : start + size]),
            list(range(start * generations, min(start + size, len(prompt_ids)) * generations)),
        )
        for start in range(0, len(prompt_ids), size)
    ]


def ungrouped(run: Callable[[int], tuple[int, float]]) -> Callable[[int], tuple[int, float]]:
    """Return a run that does not group prompts by length."""

    def inner(seed: int) -> tuple[int, float]:
        with patch.object(torch_engine, "plan_units", in_given_order):
            return run(seed)

    return inner


def main() -> None:
    """Print one line per kind of prompts and contestant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--problems", required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=4, help="the long prompt repeats its problem so often")
    args = parser.parse_args()
    engine = load_engine(args.model, device="cpu")
    short = [
        render_prompt(engine.tokenizer, problem, thinking=False)
        for problem in load_problems(args.problems, args.prompts)
    ]
    long = short[-1].replace(
        text := load_problems(args.problems, args.prompts)[-1].prompt, text * args.repeat
    )
    for name, prompts in (("short", short), ("one long", [*short[:-1], long])):
        sizes = sorted(map(len, engine.encode(prompts, args.max_tokens)))
        print(f"{name}: {len(prompts)} prompts of {sizes[0]} to {sizes[-1]} tokens, x {args.generations}")
        sampled = ours(engine, prompts, args)
        runs = {
            "sdlab": sampled,
            "ungrouped": ungrouped(sampled),
            "generate": transformers_generate(engine, prompts, args),
        }
        for contestant, run in runs.items():
            began = time.process_time()
            tokens, _ = run(0)
            seconds = time.process_time() - began
            print(
                f"  {contestant:9} {tokens:6,} tokens in {seconds:5.1f} s: {tokens / seconds:6.1f} tokens/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
