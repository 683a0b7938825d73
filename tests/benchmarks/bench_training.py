"""Steps per minute of GRPO and SDPO beside TRL's GRPOTrainer and SDPOTrainer, in one run.

    python tests/benchmarks/bench_training.py                                      # where trl is installed
    python tests/benchmarks/bench_training.py --trl-python PYTHON --trl-path SITE  # TRL of another python
    python tests/benchmarks/bench_training.py --trl-rows 16 32 64 128 256          # the fastest of these

The same model, problems, batch (32 x 8, one optimizer update), lengths, temperature, learning rate, losses,
grader, data type and number of threads on both sides. The contestants alternate, each round starts from the
model on disk, and a round's first step warms up. A step lasts from the end of one optimizer step to the end
of the next on both sides, our logging included. What differs: our importance ratios take the probabilities
recorded while sampling, and we also measure the divergence from the base model; TRL does neither here. TRL
computes each row's prompt, rows that teach nothing and (GRPO) the policy's entropy, which cannot be switched
off; we compute a prompt once per group and leave such rows out. TRL averages SDPO's loss per completion, we
per token. In bfloat16 TRL gets what is fastest for it on a CPU, bfloat16 weights (its bf16=True, autocast
over float32 weights: --dtype float32 --trl-options '{"bf16": true}'); ours are float32 weights with the
layers' products in bfloat16.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sdlab import paths
from sdlab.rollout.loading import load_engine
from sdlab.text.prompt import render_prompt
from sdlab.world.splits import load_split

ROOT = Path(__file__).parents[2]


def config_for(method: str, args, seed: int):
    """Our run function and its settings."""
    common = dict(
        steps=args.steps + 1,
        num_problems=args.problems,
        num_generations=args.generations,
        max_completion_length=args.max_tokens,
        learning_rate=args.learning_rate,
        warmup_steps=0,
        num_minibatches=1,
        bf16=args.dtype == "bfloat16",
        seed=seed,
    )
    if method == "grpo":
        from sdlab.train.grpo import GRPOConfig, run_grpo

        return run_grpo, GRPOConfig(**common)
    from sdlab.train.sdpo import SDPOConfig, run_sdpo

    return run_sdpo, SDPOConfig(
        **common, context="solution", demonstration="first", teacher_model_kind="base"
    )


def ours(method: str, args, seed: int) -> dict:
    """One round on our side, in the form of `_trl_steps.run`."""
    engine = load_engine(args.model, device="cpu")
    problems = load_split(args.split, limit=args.problems * (args.steps + 1))
    run, config = config_for(method, args, seed)
    ends = []
    table = run(engine, problems, config, on_step=lambda row: ends.append(time.perf_counter())).iloc[1:]
    if len(table) != args.steps:
        raise SystemExit(f"{method} finished {len(table)} of {args.steps} steps")
    seconds = [b - a for a, b in itertools.pairwise(ends)]
    stages = {
        name.removeprefix("seconds_"): float(table[name].mean())
        for name in table
        if name.startswith("seconds_")
    }
    stages["other"] = statistics.mean(seconds) - sum(stages.values())
    return {
        "seconds": seconds,
        "reward": list(table["reward"]),
        "length": list(table["length"]),
        "ended": list(1 - table["truncated"]),
        "used_rows": list(table["used_rows"]),
        "stages": stages,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


class TRL:
    """`_trl_steps.py` in a process of its own, idle while we run."""

    def __init__(self, python: str, path: str | None, threads: int):
        self.python, self.log = python, Path(tempfile.mkdtemp(prefix="bench_trl_")) / "trl.log"
        places = [path, str(ROOT), os.environ.get("PYTHONPATH")]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(p for p in places if p),
            "OMP_NUM_THREADS": str(threads),
        }
        command = [python, str(Path(__file__).with_name("_trl_steps.py"))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            env=env,
        )
        self.versions = self._answer("ready")

    def _answer(self, word: str) -> dict:
        for line in self.process.stdout:
            if line.startswith("failed"):
                raise SystemExit(f"TRL {line.strip()}; its messages are in {self.log}")
            if line.startswith(word):
                return json.loads(line.removeprefix(word))
        raise SystemExit(
            f"{self.python} could not run TRL (exit status {self.process.wait()}); its messages are in "
            f"{self.log}"
        )

    def run(self, **task) -> dict:
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return self._answer("result")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def trl_task(method: str, args, seed: int, rows: int, attention: str) -> dict:
    model = str((paths.data_dir() / "organism" if args.model == "organism" else Path(args.model)).resolve())
    return dict(
        method=method,
        model=model,
        split=args.split,
        steps=args.steps,
        num_problems=args.problems,
        num_generations=args.generations,
        max_completion_length=args.max_tokens,
        learning_rate=args.learning_rate,
        dtype=args.dtype,
        threads=args.threads,
        seed=seed,
        rows=rows,
        attention=attention,
        options=args.trl_options,
    )


def best_settings(trl: TRL, method: str, args) -> tuple[int, str]:
    """The rows per micro-batch and the attention that TRL is fastest with, among --trl-rows and
    --trl-attention.
    """
    choices = list(itertools.product(args.trl_rows, args.trl_attention))
    if len(choices) == 1:
        return choices[0]
    found = {
        choice: min(trl.run(**trl_task(method, args, 0, *choice) | {"steps": 2})["seconds"])
        for choice in choices
    }
    print(
        f"  trl tries {method} with "
        + ", ".join(f"{rows} rows, {attention}: {s:.2f} s" for (rows, attention), s in found.items()),
        flush=True,
    )
    return min(found, key=found.get)


def peak(dtype: torch.dtype, size: int = 2048, tries: int = 8) -> float:
    """The best matrix product this machine does with torch's threads, GFLOP/s: torch's own, or oneDNN's
    where torch prefers another.
    """
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    jobs = [lambda: torch.mm(a, b)]
    if torch.backends.mkldnn.is_available():
        x, w, bias = a.to_mkldnn(), b.to_mkldnn(), torch.zeros(size, dtype=dtype).to_mkldnn()
        jobs.append(lambda: torch.nn.functional.linear(x, w, bias))
    best = 0.0
    with torch.inference_mode():
        for job in jobs:
            for _ in range(tries):
                start = time.perf_counter()
                job()
                best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def needed_gflop(method: str, args, length: float, used_rows: float) -> dict[str, float]:
    r"""What a step has to compute, GFLOP by stage, from the mean lengths of prompt (p), completion (n) and
    teacher's prompt (q).

    With N the parameters of the layers' matrices (neither embedding nor head), H those of the head, and a = 4
    * layers * heads *
    head size (query times key and weight times value), a forward pass over t tokens that read k keys in all,
    m of them
    through the head, takes
        f(t, k, m) = 2 N t + a k + 2 H m.
    P problems of G completions, B = P G rows, u of them with a gradient; a prompt is computed once for its
    group:
        sampling  f(P p + B n, P p^2/2 + B (n p + n^2/2), B n)
        student   3 f(u/G p + u n, u/G p^2/2 + u (n p + n^2/2), u n)          forward, and twice that backward
        teacher   f(2 P q + u n, 2 P q^2/2 + u (n q + n^2/2), u n)            SDPO: two different
        demonstrations per group
    So it is about 6 (N + H) per token trained and 2 (N + H) per token sampled or scored. Padding, the
    optimizer (a few
    operations per parameter) and measuring are not counted.
    """
    engine = load_engine(args.model, device="cpu")
    config = engine.model.config
    layers = sum(p.numel() for p in engine.model.model.layers.parameters() if p.dim() == 2)
    head = config.vocab_size * config.hidden_size
    a = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim

    def forward(prompts, prompt, rows):
        tokens = prompts * prompt + rows * length
        keys = prompts * prompt**2 / 2 + rows * (length * prompt + length**2 / 2)
        return (2 * layers * tokens + a * keys + 2 * head * rows * length) / 1e9

    problems = load_split(args.split, limit=args.problems * (args.steps + 1))

    def mean_tokens(demonstration):
        texts = [render_prompt(engine.tokenizer, problem, demonstration) for problem in problems]
        return statistics.mean(map(len, engine.tokenizer(texts)["input_ids"]))

    p, q = mean_tokens(None), mean_tokens("1") - 1 + length - 1  # the demonstration's <|im_end|> is not shown
    found = {
        "sampling": forward(args.problems, p, args.problems * args.generations),
        "student": 3 * forward(used_rows / args.generations, p, used_rows),
    }
    if method == "sdpo":
        found["teacher"] = forward(2 * args.problems, q, used_rows)
    return found


def joined(rounds: list[dict], name: str) -> list[float]:
    return [value for found in rounds for value in found[name]]


def report(method: str, args, found: dict[str, list[dict]], peaks: dict[str, float]) -> None:
    """What the rounds of one method say: speed and ratio, whether both sides did the same work, where the
    time went.
    """
    mean = statistics.mean
    medians = {side: statistics.median(joined(rounds, "seconds")) for side, rounds in found.items()}
    print(f"{method}")
    for side, rounds in found.items():
        seconds = joined(rounds, "seconds")
        ratio = (
            f"; sdlab is {medians[side] / medians['sdlab']:.1f} times as fast"
            if "sdlab" in medians and side != "sdlab"
            else ""
        )
        print(
            f"  {side:5s} median {medians[side]:6.2f} s a step ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{60 / medians[side]:5.1f} steps/min{ratio}"
        )
        stages = {stage: mean(r["stages"][stage] for r in rounds) for stage in rounds[0]["stages"]}
        print(
            "        "
            + ", ".join(f"{stage} {s:.2f} s" for stage, s in stages.items())
            + f"; {max(r['memory'] for r in rounds):.1f} GB at most"
        )
        lengths, ended, rewards = (mean(joined(rounds, name)) for name in ("length", "ended", "reward"))
        print(
            f"        completions: {lengths:.1f} tokens, {ended:.1%} end at <|im_end|>, reward {rewards:.3f}"
        )
    if len(found) == 2:
        by_round = [
            statistics.median(t["seconds"]) / statistics.median(s["seconds"])
            for s, t in zip(found["sdlab"], found["trl"], strict=True)
        ]
        print("  ratio by round: " + ", ".join(f"{ratio:.1f}" for ratio in by_round))
        theirs, mine = (mean(joined(found[side], "length")) for side in ("trl", "sdlab"))
        if abs(theirs / mine - 1) > 0.1:
            print(f"  NOT THE SAME WORK: TRL's completions are {theirs / mine:.2f} times as long as ours")
    if "sdlab" in found:
        work = needed_gflop(
            method, args, mean(joined(found["sdlab"], "length")), mean(joined(found["sdlab"], "used_rows"))
        )
        total = sum(work.values())
        print(
            f"  a step needs {total:.0f} GFLOP: "
            + ", ".join(f"{stage} {gflop:.0f}" for stage, gflop in work.items())
        )
        for side, median in medians.items():
            print(
                f"  {side:5s} {total / median:6.1f} GFLOP/s, {total / median / peaks[args.dtype]:.0%} of "
                f"the {args.dtype} peak"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["grpo", "sdpo"], choices=["grpo", "sdpo"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps per round, after one that warms up")
    parser.add_argument(
        "--threads", type=int, default=None, help="torch threads of each side (default: as torch finds)"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16"], help="arithmetic of both sides"
    )
    parser.add_argument("--model", default="organism", help="organism or a folder")
    parser.add_argument("--split", default="train")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--trl-python", default=sys.executable, help="python of an environment with trl")
    parser.add_argument(
        "--trl-path", default=None, help="a folder with trl, put before that python's own packages"
    )
    parser.add_argument(
        "--trl-rows",
        type=int,
        nargs="+",
        default=[64],
        help="TRL's micro-batch; several: it races with the fastest",
    )
    parser.add_argument(
        "--trl-attention", nargs="+", default=["sdpa"], choices=["sdpa", "eager"], help="likewise"
    )
    parser.add_argument(
        "--trl-options", type=json.loads, default={}, help="more settings of TRL's config, as JSON"
    )
    parser.add_argument("--only", choices=["sdlab", "trl"], default=None)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.threads = torch.get_num_threads()
    print(
        f"model {args.model}, {args.problems} problems x {args.generations} generations, {args.dtype}, "
        f"{args.threads} threads, torch {torch.__version__}"
    )
    trl = None if args.only == "sdlab" else TRL(args.trl_python, args.trl_path, args.threads)
    if trl:
        print(
            f"TRL {trl.versions['trl']} with torch {trl.versions['torch']} and transformers "
            f"{trl.versions['transformers']}"
        )
    peaks = {name: peak(getattr(torch, name)) for name in ("float32", "bfloat16")}
    print(
        "matrix products reach "
        + ", ".join(f"{speed:.0f} GFLOP/s in {name}" for name, speed in peaks.items()),
        flush=True,
    )
    for method in args.methods:
        found = {}
        settings = best_settings(trl, method, args) if trl else None
        for round_ in range(args.rounds):
            contestants = {} if args.only == "trl" else {"sdlab": lambda: ours(method, args, round_)}
            contestants |= (
                {"trl": lambda: trl.run(**trl_task(method, args, round_, *settings))} if trl else {}
            )
            for side, run in contestants.items():
                result = run()
                found.setdefault(side, []).append(result)
                print(
                    f"  {method} {side:5s} round {round_}: "
                    + " ".join(f"{s:.2f}" for s in result["seconds"])
                    + " s",
                    flush=True,
                )
        report(method, args, found, peaks)
    if trl:
        trl.close()


if __name__ == "__main__":
    main()
