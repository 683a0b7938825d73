"""Your own teacher context: the teacher sees only the last sentence of a right sibling."""

from dataclasses import replace

import sdlab
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loop import BUDGET, run_repair
from sdlab.train.repairs.views import View


def last_sentence(step):
    """Return the teacher's prompt of every row, and which rows have something that the student lacks."""
    texts = []
    for sibling in step.siblings():  # the row of a right completion of the same problem, or None
        text = None if sibling is None else step.texts[sibling].strip()
        texts.append(text and text.splitlines()[-1].split(". ")[-1])
    return step.prompts(texts)


engine = sdlab.load_engine("organism")
problems = sdlab.load_problems("train")
repair = Repair("last_sentence", views=(View(last_sentence),))
table = run_repair(engine, problems, repair, replace(BUDGET, steps=2, num_problems=4))
print(table[["step", "reward", "length", "markers"]])
