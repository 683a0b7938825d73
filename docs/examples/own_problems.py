"""Your own problems: a file with a question and an answer per line, evaluated like any benchmark."""

import json
from pathlib import Path

import sdlab

Path("sums.jsonl").write_text(
    "\n".join(json.dumps({"prompt": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in range(1, 9))
)
engine = sdlab.load_engine("organism")
problems = sdlab.load_problems("sums.jsonl")
table = sdlab.evaluate(engine, problems, num_generations=2, max_completion_length=64)
print(sdlab.summarise(table))
