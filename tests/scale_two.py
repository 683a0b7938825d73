"""One process of two, started by accelerate: the real program, whose first step learns from recorded
completions.

python scale_two.py JOB.json ROLLOUTS.json    (prompts' completions, prompt-major)
"""

import json
import os
import sys

import sdlab.scale.train as program

_, job, rollouts = sys.argv
recorded = json.load(open(rollouts))
make = program.make_trainer


def make_trainer(*args, **kwargs):
    trainer = make(*args, **kwargs)
    generate, left = trainer._generate_transformers, [recorded]

    def first_recorded(prompt_ids):
        if not left:
            return generate(prompt_ids)
        rows, rank = left.pop(), int(os.environ["RANK"])
        return prompt_ids, rows[rank * len(prompt_ids) : (rank + 1) * len(prompt_ids)]

    trainer._generate_transformers = first_recorded
    return trainer


program.make_trainer = make_trainer
sys.exit(program.main([job]))
