"""A repair of self-distillation: SDPO with some parts changed, within the same budget of steps.

Lab 4 and the leaderboard use it. Three parts can be changed: what the teacher sees (`context`), the weight of
each token (`token_weights`, for example a gate), and GRPO's share of the loss (`mix`: one number, or one per
row, which is routing).

Source: SRPO (arXiv 2604.02288) changes the last two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import pandas
import torch

from sdlab.errors import SdlabError
from sdlab.rollout.types import TrainableEngine
from sdlab.settings import OneOf, Range, check_settings
from sdlab.train.batch import Rows, weighted_minibatches
from sdlab.train.grpo import GRPOConfig
from sdlab.train.losses import (
    all_logps,
    group_advantages,
    grpo_token_loss,
    importance_weight,
    sdpo_token_loss,
)
from sdlab.train.sdpo import SDPOConfig
from sdlab.train.session import RunFolder, Session
from sdlab.train.teacher import TEACHER_CONTEXTS, Teacher, teacher_view
from sdlab.world.problems import Problem

# The budget of the recorded conditions.
BUDGET = SDPOConfig(steps=40, warmup_steps=4, num_problems=16, num_generations=8)
IDLE = "no row has a part in the loss; use easier problems or more generations"


@dataclass(frozen=True)
class Repair:
    """The changes of a repair; the default changes nothing and is SDPO. `Repair(mix=1)` is GRPO.

    context: what the teacher sees (`sdlab.train.teacher.TEACHER_CONTEXTS`).

    mix: GRPO's share of every row's loss, from 0 to 1: a number, or a function (rewards (B,),
    num_generations) -> (B,). The rest of the share is SDPO's, for rows whose teacher sees a right sibling. A
    row with neither is left out.

    token_weights: a function (student_logps (B, T, V), teacher_logps (B, T, V), rewards (B,), mask (B, T)) ->
    weights (B, T) that multiply SDPO's loss per token. The mask is true at the distilled tokens; other places
    hold zeros. The log-probabilities are those before the step's update, without gradient.

    Raises SdlabError on an unknown context, a mix outside 0 to 1, and token_weights that cannot be called.
    """

    context: Annotated[str, OneOf("teacher context", TEACHER_CONTEXTS)] = "solution"
    mix: Annotated[float, Range(0, 1)] | Callable[[torch.Tensor, int], torch.Tensor] = 0.0
    token_weights: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = (
        None
    )

    def __post_init__(self) -> None:
        check_settings(self)


def run_repair(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    repair: Repair = Repair(),
    config: SDPOConfig = BUDGET,
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems` for config.steps steps and return one row per step.

    The columns are those of `sdlab.train.log`. The loss of a minibatch is [sum of share * GRPO + sum of (1 -
    share) * weight * SDPO] / tokens, over the tokens of all rows that have a part in it. The default repair
    equals `run_sdpo` and mix=1 equals `run_grpo`, bit for bit. The repair's context replaces config.context.
    Ctrl-C returns the finished steps.

    Raises SdlabError when a function of the repair returns a wrong shape or numbers that are not finite, and
    when the loss or the gradient is not finite.
    """
    config, grpo = replace(config, context=repair.context), GRPOConfig()
    teacher = Teacher(engine.model, config.teacher_model_kind, config.teacher_update_rate)
    with Session(engine, config, run, on_step, state=teacher.state, idle=IDLE) as session:
        for step in session.steps():
            # 1. sample and grade: G completions of each problem
            batch = session.sample(problems)
            rollouts, everyone = batch.rollouts, range(len(batch.rewards))
            completions = rollouts.completions()
            # 2. inform the teacher, compare the siblings, and divide the rows between the two losses
            view = teacher_view(
                engine.tokenizer,
                batch.problems,
                rollouts.texts,
                batch.rewards,
                config.num_generations,
                config,
                step,
            )
            advantages = group_advantages(batch.rewards, config.num_generations)
            share = _shares(repair, batch.rewards, config.num_generations)
            distilled = [i for i in everyone if view.distilled[i] and share[i] < 1]
            rewarded = [i for i in everyone if advantages[i] != 0 and share[i] > 0]
            counted = [i for i in everyone if i in distilled or share[i] > 0]  # also those without advantage
            rows = Rows(session.engine, batch.prompts, completions)
            seen = [view.prompts[i] if i in distilled else batch.prompts[i] for i in everyone]
            informed = Rows(session.engine, seen, completions)
            factor = torch.ones(rollouts.completion_mask.shape)
            if repair.token_weights is not None and distilled:
                factor = _factors(
                    repair.token_weights,
                    session.student,
                    teacher.model,
                    rows,
                    informed,
                    distilled,
                    batch,
                    config,
                )
            # 3. update, minibatch by minibatch
            for minibatch, weights in weighted_minibatches(batch, counted, config):
                sdpo_weights, grpo_weights = weights * (1 - share)[:, None] * factor, weights * share[:, None]

                def sdpo_loss(part):
                    student_logps = all_logps(rows.logits(session.student, part), config.temperature)
                    with torch.no_grad():
                        teacher_logps = all_logps(informed.logits(teacher.model, part), config.temperature)
                    ids, old, weight = batch.at_tokens(
                        part,
                        student_logps.device,
                        rollouts.completion_ids,
                        rollouts.per_token_logps,
                        sdpo_weights,
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

                def grpo_loss(part):
                    logits = rows.logits(session.student, part)
                    ids, old, advantage, weight = batch.at_tokens(
                        part,
                        logits.device,
                        rollouts.completion_ids,
                        rollouts.per_token_logps,
                        advantages,
                        grpo_weights,
                    )
                    logps = all_logps(logits, config.temperature)
                    now = logps.gather(-1, ids[:, None]).squeeze(-1)
                    low, high = grpo.epsilon_low, grpo.epsilon_high
                    session.signals.add_policy(part, logps, now, old, advantage, low, high)
                    return (weight * grpo_token_loss(now, old, advantage, low, high)).sum()

                session.update(
                    (informed.plan([i for i in minibatch if i in distilled], config.batch_tokens), sdpo_loss),
                    (rows.plan([i for i in minibatch if i in rewarded], config.batch_tokens), grpo_loss),
                )
            teacher.follow()
            # 4. log and save
            taught = {*distilled, *rewarded}
            session.finish_step(batch, len(taught), batch.idle_groups(taught))
    return session.table


def _shares(repair: Repair, rewards: torch.Tensor, num_generations: int) -> torch.Tensor:
    """Return GRPO's share of every row's loss: (B,)."""
    if not callable(repair.mix):
        return torch.full(rewards.shape, float(repair.mix))
    share = torch.as_tensor(repair.mix(rewards.clone(), num_generations)).float()
    if share.shape != rewards.shape or not ((share >= 0) & (share <= 1)).all():
        raise SdlabError(
            f"mix gave shares of shape {tuple(share.shape)}, {share.min():.3g} to {share.max():.3g}; "
            f"it must give {len(rewards)} numbers from 0 to 1"
        )
    return share


@torch.no_grad()
def _factors(
    token_weights, student, teacher, rows: Rows, informed: Rows, distilled: list[int], batch, config
) -> torch.Tensor:
    """Return the repair's weight of every token: (B, T), zero where nothing is distilled."""
    used = torch.zeros_like(batch.rollouts.completion_mask, dtype=torch.bool)
    used[distilled] = batch.rollouts.completion_mask[distilled].bool()
    tables = []
    for model, view in ((student, rows), (teacher, informed)):
        logps = None
        for part in view.plan(distilled, config.batch_tokens):
            part_logps = all_logps(view.logits(model, part), config.temperature).cpu()
            logps = part_logps.new_zeros(*used.shape, part_logps.shape[-1]) if logps is None else logps
            for row, tokens in zip(
                part, part_logps.split([len(view.completions[i]) for i in part]), strict=True
            ):
                logps[row, : len(tokens)] = tokens
        tables.append(logps)
    student_logps, teacher_logps = tables
    factor = torch.as_tensor(token_weights(student_logps, teacher_logps, batch.rewards.clone(), used.clone()))
    if factor.shape != used.shape:
        raise SdlabError(
            f"token_weights gave shape {tuple(factor.shape)}; "
            f"it must give one weight per token, {tuple(used.shape)}"
        )
    factor = factor.detach().float().masked_fill(~used, 0)
    if not (factor.isfinite() & (factor >= 0)).all():
        raise SdlabError(
            "token_weights gave a weight that is negative or not finite at a distilled token; "
            "give finite weights of at least 0"
        )
    return factor
