"""Your own method: SDPO that learns only from tokens where the teacher is no surer than the student."""

from dataclasses import replace

import sdlab
from sdlab.train.repair import BUDGET, Repair, run_repair


def entropy(logps):
    """Return the entropy in nats of log-probabilities (..., V), shape (...)."""
    return -(logps.exp() * logps).sum(-1)


def gate(student_logps, teacher_logps, rewards, mask):
    """Return one weight per token, (B, T), from log-probabilities (B, T, V)."""
    return (entropy(teacher_logps) >= entropy(student_logps)).float() * mask


engine = sdlab.load_engine("organism")
problems = sdlab.load_problems("train")
table = run_repair(engine, problems, Repair(token_weights=gate), replace(BUDGET, steps=3, num_problems=4))
print(table[["step", "reward", "length", "markers"]])
