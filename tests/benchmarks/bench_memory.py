"""Peak memory and time of sdlab's commands, each in a process of its own.

    python tests/benchmarks/bench_memory.py                                    # the organism, at preset smoke
    python tests/benchmarks/bench_memory.py --model smollm2-135m --problems my.jsonl --only evaluate,grpo

The peak is that of the largest process of the command (resident, in MB), with Python and torch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINING = "--steps 1 --num-problems 4 --num-generations 4 --eval-every 0 --final-problems 8"


def commands(model: str, problems: str, folder: str) -> dict[str, str]:
    """Return the command lines by name; with problems, those that take `--problems` use them."""
    own = f"--problems {problems}" if problems else ""
    tested = own or "--benchmarks in-domain"
    train = f"--model {model} {TRAINING} {own} --output {folder}"
    return {
        "contexts": f"measure contexts --model {model} --preset smoke {own}",
        "evaluate": f"evaluate {model} {tested} --limit 8 --num-generations 4 --max-completion-length 256 "
        f"--output {folder}/evaluations",
        "sft": f"train sft --num-traces 16 {train}/sft",
        "grpo": f"train grpo {train}/grpo",
        "sdpo": f"train sdpo {train}/sdpo",
        "repair": f"train repair --repair srpo {train}/repair",
        "tour 03": f"tour --preset smoke --only 03 --model {model} {own} --output {folder}/reports",
    }


def peak_of(command: list[str]) -> tuple[int, float, float]:
    """Run a command and return its exit status, its largest resident size in MB, and its seconds."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    message = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)  # of the command and of the children it has waited for
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        print(message.strip().splitlines()[-1] if message.strip() else "no message", file=sys.stderr)
    return child.returncode, usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="organism")
    parser.add_argument("--problems", default="")
    parser.add_argument("--only", default="", help="names separated by commas")
    options = parser.parse_args()
    problems = str(Path(options.problems).resolve()) if options.problems else ""
    names = [name for name in options.only.split(",") if name]
    print(f"{options.model}\n{'command':12} {'peak MB':>8} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, line in commands(options.model, problems, folder).items():
            if names and name not in names:
                continue
            status, peak, seconds = peak_of([sys.executable, "-m", "sdlab", *line.split()])
            print(f"{name:12} {peak:8,.0f} {seconds:8.1f}{'' if not status else '  failed'}", flush=True)


if __name__ == "__main__":
    main()
