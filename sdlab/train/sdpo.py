"""SDPO: the model with the solution in its context scores the completions it wrote without it.

Every token is scored. Source: arXiv 2601.20802 with the settings of arXiv 2603.24472: generalised
Jensen-Shannon divergence with alpha 0.5 over the student's 100 most likely tokens and a tail bucket,
importance ratio clipped at 2, a fixed teacher.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas
import torch

from sdlab.rollout.types import TrainableEngine
from sdlab.settings import Count, OneOf, Positive, Share, unused
from sdlab.train.batch import Rows, weighted_minibatches
from sdlab.train.config import Aggregation, TrainConfig
from sdlab.train.losses import all_logps, importance_weight, sdpo_token_loss
from sdlab.train.session import RunFolder, Session
from sdlab.train.teacher import (
    DEMONSTRATIONS,
    TEACHER_CONTEXTS,
    TEACHER_KINDS,
    Teacher,
    check_context,
    teacher_view,
)
from sdlab.world.problems import Problem

IDLE = (
    "no completion has a right sibling (or feedback) for the teacher to see; use easier problems or more "
    "generations"
)


@dataclass(frozen=True)
class SDPOConfig(TrainConfig):
    """Settings of SDPO in addition to those of every method."""

    context: Annotated[str, OneOf("teacher context", TEACHER_CONTEXTS)] = "solution"
    """What the teacher sees: solution, solution_no_think, feedback, solution_feedback."""
    demonstration: Annotated[str, OneOf("demonstration rule", DEMONSTRATIONS)] = "first"
    """Which right sibling: first, random."""
    teacher_model_kind: Annotated[str, OneOf("teacher", TEACHER_KINDS)] = "base"  # base (fixed), ema, live
    teacher_update_rate: Share = 0.05  # of the EMA teacher, per step
    distillation_alpha: Share = 0.5  # 0: KL(teacher||student), 1: KL(student||teacher)
    distillation_topk: Count | None = 100  # of the student's tokens; None: the whole vocabulary
    distillation_add_tail: bool = True
    distillation_is_clip: Positive | None = 2.0
    aggregation: Aggregation = "token_mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        solution = self.context.startswith("solution")
        unused(
            self, "teacher_update_rate", self.teacher_model_kind == "ema", 'teacher_model_kind="ema"', (0,)
        )
        unused(self, "demonstration", solution, "a context with a solution")
        unused(self, "distillation_add_tail", self.distillation_topk is not None, "a distillation_topk")


def run_sdpo(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    config: SDPOConfig = SDPOConfig(),
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems` and return one row per step.

    The columns are those of `sdlab.train.log`. run: a run folder (`sdlab.runs.folder`); it is restored first
    and written after every step. on_step(row) is called after that. Ctrl-C returns the finished steps
    (`sdlab.train.session`).

    Raises SdlabError for bad settings, a context that the model does not have, and when the loss or the
    gradient is not finite.
    """
    check_context(engine.tokenizer, config.context)
    teacher = Teacher(engine.model, config.teacher_model_kind, config.teacher_update_rate)
    base = teacher.model if config.teacher_model_kind == "base" else None  # one frozen copy, not two
    with Session(engine, config, run, on_step, state=teacher.state, idle=IDLE, base=base) as session:
        for step in session.steps():
            # 1. sample and grade: G completions of each problem
            batch = session.sample(problems)
            rollouts = batch.rollouts
            completions = rollouts.completions()
            # 2. inform: the teacher's prompt holds a right sibling; rows without one are left out
            view = teacher_view(
                engine.tokenizer,
                batch.problems,
                rollouts.texts,
                batch.rewards,
                config.num_generations,
                config,
                step,
            )
            distilled = [i for i in range(len(view.distilled)) if view.distilled[i]]
            rows = Rows(session.engine, batch.prompts, completions)
            informed = Rows(session.engine, view.prompts, completions)
            # 3. update, minibatch by minibatch: both next-token distributions at every token of the student's
            for minibatch, weights in weighted_minibatches(batch, distilled, config):

                def loss_of(part: list[int]) -> torch.Tensor:
                    student_logps = all_logps(rows.logits(session.student, part), config.temperature)
                    with torch.no_grad():
                        teacher_logps = all_logps(informed.logits(teacher.model, part), config.temperature)
                    ids, old, weight = batch.at_tokens(
                        part, student_logps.device, rollouts.completion_ids, rollouts.per_token_logps, weights
                    )
                    now = student_logps.detach().gather(-1, ids[:, None]).squeeze(-1)
                    divergence = sdpo_token_loss(
                        student_logps,
                        teacher_logps,
                        config.distillation_alpha,
                        config.distillation_topk,
                        config.distillation_add_tail,
                    )
                    loss = divergence * importance_weight(now, old, config.distillation_is_clip)
                    session.signals.add_distillation(
                        part, student_logps, teacher_logps, ids, old, divergence, config.distillation_is_clip
                    )
                    return (weight * loss).sum()

                session.update((informed.plan(minibatch, config.batch_tokens), loss_of))
            teacher.follow()
            # 4. log and save
            session.finish_step(batch, len(distilled), batch.idle_groups(distilled))
    return session.table
