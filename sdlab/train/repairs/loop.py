"""The training loop of all repairs: the stages of `run_sdpo` and `run_grpo`, with hooks in their places."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pandas
import torch

from sdlab.rollout.types import TrainableEngine
from sdlab.train.batch import Batch, minibatches
from sdlab.train.config import TrainConfig
from sdlab.train.losses import all_logps
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loss import Terms, Tokens, token_terms, total
from sdlab.train.repairs.scoring import Scoring, signals_of
from sdlab.train.repairs.teachers import RuledTeacher
from sdlab.train.repairs.weighed import Weighed, advanced, check_group, weigh
from sdlab.train.session import RunFolder, Session
from sdlab.world.problems import Problem

# The budget of the recorded conditions.
BUDGET = TrainConfig(steps=40, warmup_steps=4, num_problems=16, num_generations=8)
IDLE = "no row has a part in the loss; use easier problems or more generations"


class RepairState:
    """The state of a repair, which a run folder stores with the checkpoint."""

    def __init__(self) -> None:
        self.values: dict = {}

    def state_dict(self) -> dict:
        """Return the state for the checkpoint."""
        return {"values": self.values}

    def load_state_dict(self, state: dict) -> None:
        """Take the state from a checkpoint."""
        self.values = state["values"]


def run_repair(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    repair: Repair = Repair(),
    config: TrainConfig = BUDGET,
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems` by `repair` and return one row per step.

    `Repair()` equals `run_sdpo`, and the GRPO repair equals `run_grpo`, bit for bit. The columns are those of
    `sdlab.train.log`. run: a run folder (`sdlab.runs.folder`); it is restored first and written after every
    step. on_step(row) is called after that. Ctrl-C returns the finished steps (`sdlab.train.session`).

    Raises SdlabError, which names the repair and the hook, when the group is too small for a view and when a
    hook gives a wrong shape, a negative weight, or numbers that are not finite; also when the loss or the
    gradient is not finite. The finished steps are kept.
    """
    check_group(repair, config.num_generations)
    teacher, state = RuledTeacher(engine.model, repair.teacher), RepairState()
    stored = {**teacher.state, "repair": state}
    with Session(engine, config, run, on_step, state=stored, idle=IDLE, base=teacher.base) as session:
        for step in session.steps():
            # 1. sample and grade: G completions of each problem
            batch = session.sample(problems)
            # 2. inform the views; student, views and base score what the hooks read
            scoring = Scoring(session, batch, repair, teacher, step)
            signals = signals_of(scoring, batch, step)
            state.values = advanced(repair, state.values, signals)
            whole = weigh(repair, signals, state.values)
            counted = whole.counted(repair)
            parts = [
                (rows, weigh(repair, signals.within(rows), state.values))
                for rows in stretches(counted, len(batch.rewards), config.num_minibatches)
            ]
            # 3. update, minibatch by minibatch; each is weighed as a batch of its own
            for minibatch, weights in parts:

                def loss_of(part):
                    tokens = tokens_of(part, repair, scoring, weights, batch)
                    terms = token_terms(repair, tokens, state.values)
                    measure(session, part, repair, tokens, terms)
                    return total(terms, tokens)

                distilled = [i for i in minibatch if weights.distils[i]]
                others = [i for i in minibatch if not weights.distils[i]]
                others = [i for i in others if weights.pushes[i] or repair.regulariser]
                informed = scoring.views[0] if scoring.views else scoring.rows
                session.update(
                    (informed.plan(distilled, config.batch_tokens), loss_of),
                    (scoring.rows.plan(others, config.batch_tokens), loss_of),
                )
            teacher.follow(step)
            # 4. log and save
            taught = counted if repair.regulariser else [i for _, weights in parts for i in weights.taught]
            session.finish_step(batch, len(taught), batch.idle_groups(taught))
    return session.table


def stretches(counted: Sequence[int], total: int, count: int) -> list[list[int]]:
    """Return all rows, 0 to total - 1, as minibatches in order: `count` of them, or fewer.

    Each has nearly equally many of the rows `counted`. The other rows have no weight in the step, but a mean
    or a quantile of a hook may count them. No minibatch when no row is counted.
    """
    parts = minibatches(counted, count)
    bounds = [0, *(rows[0] for rows in parts[1:]), total]
    return [list(range(a, b)) for a, b in pairwise(bounds)] if parts else []


def tokens_of(
    part: Sequence[int], repair: Repair, scoring: Scoring, weights: Weighed, batch: Batch
) -> Tokens:
    """Return the tokens of a micro-batch, with what its rows need: both models, or the student alone."""
    session, rollouts = scoring.session, batch.rollouts
    student = all_logps(scoring.rows.logits(session.student, part), scoring.temperature("student"))
    distils = bool(weights.distils[part[0]])  # so does every row of the micro-batch
    pushes = weights.policy is not None and bool((weights.policy[part] > 0).any())
    reads_base = repair.reads_base and (distils or repair.regulariser is not None)
    views = [scoring.logps(view, part) for view in range(len(scoring.views))] if distils else []
    tables = {
        "ids": rollouts.completion_ids,
        "old": rollouts.per_token_logps,
        "distil": weights.distil if distils else None,
        "policy": weights.policy if pushes else None,
        "advantage": weights.advantage if pushes else None,
        "mean": weights.mean if repair.regulariser else None,
    }
    tables = {name: table for name, table in tables.items() if table is not None}
    values = dict(zip(tables, batch.at_tokens(part, student.device, *tables.values()), strict=True))
    return Tokens(
        student,
        values.pop("ids"),
        values.pop("old"),
        views=(views[0][None] if len(views) == 1 else torch.stack(views)) if views else None,
        base=scoring.logps("base", part) if reads_base else None,
        **values,
    )


def measure(session: Session, part: Sequence[int], repair: Repair, tokens: Tokens, terms: Terms) -> None:
    """Add the micro-batch's measures to the step's signals (`sdlab.train.signals`)."""
    if terms.divergence is not None and tokens.views is not None:
        session.signals.add_distillation(
            part,
            tokens.student,
            tokens.views[0],
            tokens.ids,
            tokens.old,
            terms.divergence,
            repair.divergence.ratio_clip,
        )
    if terms.policy is not None and tokens.advantage is not None:
        clips = repair.surrogate.kind == "ppo"
        low, high = (repair.surrogate.low, repair.surrogate.high) if clips else (torch.inf, torch.inf)
        session.signals.add_policy(
            part, tokens.student, tokens.now.detach(), tokens.old, tokens.advantage, low, high
        )
