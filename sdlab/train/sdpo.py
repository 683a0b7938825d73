"""SDPO: the model with the solution in its context scores the completions it wrote without it, token by token.

arXiv 2601.20802 with the settings of arXiv 2603.24472: generalised Jensen-Shannon divergence alpha .5 over the student's 100
likeliest tokens and a tail bucket, importance ratio clipped at 2, a fixed teacher.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas
import torch

from sdlab.rollout.torch_engine import TorchEngine
from sdlab.settings import Count, OneOf, Positive, Share, unused
from sdlab.train.batch import Rows, accumulate, apply_update, make_optimizer, minibatches, sample_batch
from sdlab.train.config import Aggregation, TrainConfig
from sdlab.train.log import COLUMNS, Clock, Idle, samples, step_row
from sdlab.train.losses import all_logps, importance_weight, sdpo_token_loss, token_weights
from sdlab.train.teacher import (
    DEMONSTRATIONS,
    TEACHER_CONTEXTS,
    TEACHER_KINDS,
    Teacher,
    frozen_copy,
    teacher_view,
)


@dataclass(frozen=True)
class SDPOConfig(TrainConfig):
    """What SDPO adds to the settings every method has."""

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

    def __post_init__(self):
        super().__post_init__()
        solution = self.context.startswith("solution")
        unused(
            self, "teacher_update_rate", self.teacher_model_kind == "ema", 'teacher_model_kind="ema"', (0,)
        )
        unused(self, "demonstration", solution, "a context with a solution")
        unused(self, "distillation_add_tail", self.distillation_topk is not None, "a distillation_topk")


def run_sdpo(
    engine,
    problems: Sequence,
    config: SDPOConfig = SDPOConfig(),
    run=None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems`; one row per step with the columns of `sdlab.train.log`.

    run: a run folder (`sdlab.study.runs`) that is written after every step and continued from; on_step(row) is called after
    that. Ctrl-C returns the finished steps. Raises SdlabError for bad settings and when loss or gradient is not finite.
    """
    student, base = engine.model, TorchEngine(frozen_copy(engine.model), engine.tokenizer)
    engine = engine.in_bf16(config.bf16)
    teacher = Teacher(student, config.teacher_model_kind, config.teacher_update_rate)
    optimizer = make_optimizer(student, config)
    state = {"model": student, "optimizer": optimizer} | (
        {"teacher": teacher.model} if teacher.kind == "ema" else {}
    )
    table = run.restore(state) if run else []
    idle = Idle(
        "no completion has a right sibling (or feedback) for the teacher to see; use easier problems or more generations"
    )
    try:
        for step in range(len(table), config.steps):
            clock = Clock()
            # 1. sample and grade: G completions of each problem
            batch = sample_batch(engine, problems, config, step)
            rollouts = batch.rollouts
            clock.stage("sampling")
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
            # 3. update, minibatch by minibatch: the teacher's and the student's next-token distributions at every token
            completions = rollouts.completions()
            rows = Rows(engine, batch.prompts, completions)
            informed = Rows(engine, view.prompts, completions)
            losses, norms = [], []
            for minibatch in minibatches(distilled, config.num_minibatches):
                mask = rollouts.completion_mask
                weights = rollouts.per_token_logps.new_zeros(mask.shape)
                weights[minibatch] = token_weights(mask[minibatch], config.aggregation)

                def loss_of(part):
                    at = mask[part]
                    student_logps = all_logps(rows.logits(student, part), config.temperature)
                    with torch.no_grad():
                        teacher_logps = all_logps(informed.logits(teacher.model, part), config.temperature)
                    ids, old, weight = (
                        x[part][at].to(student_logps.device)
                        for x in (rollouts.completion_ids, rollouts.per_token_logps, weights)
                    )
                    now = student_logps.detach().gather(-1, ids[:, None]).squeeze(-1)
                    ratio = importance_weight(now, old, config.distillation_is_clip)
                    loss = sdpo_token_loss(
                        student_logps,
                        teacher_logps,
                        config.distillation_alpha,
                        config.distillation_topk,
                        config.distillation_add_tail,
                        ratio,
                    )
                    return (weight * loss).sum()

                losses.append(accumulate(student, informed.plan(minibatch, config.batch_tokens), loss_of))
                norms.append(apply_update(student, optimizer, config, step, losses[-1]))
            teacher.follow()
            clock.stage("update")
            idle.step(len(losses))
            # 4. log
            row = step_row(
                config, step, batch, base, losses=losses, norms=norms, used_rows=len(distilled), clock=clock
            )
            table.append(row)
            if run:
                run.save_step(row, samples(step, batch), state)
            if on_step:
                on_step(row)
    except KeyboardInterrupt:
        pass  # what is finished is finished
    return pandas.DataFrame(table, columns=COLUMNS)
