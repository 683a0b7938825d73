"""Compare the vLLM engine with the default engine: tokens per second of sampling and scoring, in one process.

    python tests/benchmarks/vllm_against_torch.py                       # the organism
    python tests/benchmarks/vllm_against_torch.py --model Qwen/Qwen3-8B --max-tokens 4096

Run it in an environment with vLLM (README.md). The engines alternate, so that other load on the machine slows
both. Only the ratio of medians counts. Loading is not counted. The script also prints how much the engines'
log-probabilities of the same completions differ.
"""

import argparse
import os
import statistics
import time

import torch

from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.text.prompt import render_prompt
from sdlab.world.splits import load_split


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="organism", help="organism, folder or hub name")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    args = parser.parse_args()
    engines = {}
    for name, settings in (("vllm", {"tensor_parallel_size": args.tensor_parallel_size}), ("torch", {})):
        engines[name], seconds = timed(
            lambda name=name, settings=settings: load_engine(args.model, engine=name, **settings)
        )
        print(f"{name} loaded in {seconds:.1f} s")
    tokenizer = engines["torch"].tokenizer
    prompts = [render_prompt(tokenizer, problem) for problem in load_split("in-domain", limit=args.prompts)]
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{len(os.sched_getaffinity(0))} cores"
    )
    print(
        f"{args.model}, {args.prompts} prompts x {args.generations} generations, {device}, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    speeds = {(what, name): [] for what in ("sampling", "scoring") for name in engines}
    for round_ in range(args.rounds + 1):  # the first round warms up
        params, scores = SamplingParams(args.generations, args.max_tokens, seed=round_), {}
        for name, engine in engines.items():
            rollouts, seconds = timed(lambda engine=engine: engine.generate(prompts, params))
            tokens = int(rollouts.lengths.sum())
            if round_:
                speeds["sampling", name].append(tokens / seconds)
                print(
                    f"  sampling {name:6s} {tokens:7,d} tokens in {seconds:6.2f} s: "
                    f"{tokens / seconds:8,.0f} tokens/s",
                    flush=True,
                )
        rows, completions = (
            [prompt for prompt in prompts for _ in range(args.generations)],
            rollouts.completions(),
        )
        for name, engine in engines.items():
            scores[name], seconds = timed(lambda engine=engine: engine.score(rows, completions))
            if round_:
                speeds["scoring", name].append(tokens / seconds)
                print(
                    f"  scoring  {name:6s} {tokens:7,d} tokens in {seconds:6.2f} s: "
                    f"{tokens / seconds:8,.0f} tokens/s",
                    flush=True,
                )
        gap = (scores["vllm"].per_token_logps - scores["torch"].per_token_logps).abs()[
            scores["torch"].completion_mask
        ]
        if round_:
            print(f"  log-probabilities apart by at most {gap.max():.1e}, on average {gap.mean():.1e}")
    for what in ("sampling", "scoring"):
        ours, theirs = (statistics.median(speeds[what, name]) for name in ("torch", "vllm"))
        print(
            f"{what}: torch median {ours:,.0f}, vllm median {theirs:,.0f} completion tokens/s; "
            f"vllm is {theirs / ours:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
