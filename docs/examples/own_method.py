"""Your own method: SDPO that learns only from tokens where the teacher is no surer than the student."""

from dataclasses import replace

import sdlab
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loop import BUDGET, run_repair


def gate(signals, state):
    """Return the weights of SDPO's loss, (B, T), and those of a policy loss, of which there is none."""
    chosen = signals.taught & (signals.teacher_entropy[0] >= signals.student_entropy)
    return signals.token_mean(chosen), None


engine = sdlab.load_engine("organism")
problems = sdlab.load_problems("train")
table = run_repair(engine, problems, Repair("gated", weights=gate), replace(BUDGET, steps=3, num_problems=4))
print(table[["step", "reward", "length", "markers"]])
