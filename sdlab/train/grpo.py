"""GRPO as the paper runs it: group-mean baseline without standardisation, clip .2/.28, token mean, no KL.

arXiv 2402.03300 with the choices of arXiv 2603.24472 (norm_adv_by_std=False) and the clip range of DAPO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas

from sdlab.rollout.torch_engine import TorchEngine
from sdlab.settings import Range, Share
from sdlab.train.batch import Rows, accumulate, apply_update, make_optimizer, minibatches, sample_batch
from sdlab.train.config import Aggregation, TrainConfig
from sdlab.train.log import COLUMNS, Clock, Idle, samples, step_row
from sdlab.train.losses import group_advantages, grpo_token_loss, token_logps, token_weights
from sdlab.train.teacher import frozen_copy


@dataclass(frozen=True)
class GRPOConfig(TrainConfig):
    """What GRPO adds to the settings every method has."""

    scale_rewards: bool = False  # divide advantages by the group's standard deviation
    epsilon_low: Share = 0.2
    epsilon_high: Annotated[float, Range(0)] = 0.28
    aggregation: Aggregation = "token_mean"  # or "sequence_mean"


def run_grpo(
    engine,
    problems: Sequence,
    config: GRPOConfig = GRPOConfig(),
    run=None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems`; one row per step with the columns of `sdlab.train.log`.

    run: a run folder (`sdlab.study.runs`) that is written after every step and continued from; on_step(row) is called after
    that. Ctrl-C returns the finished steps. Raises SdlabError for bad settings and when loss or gradient is not finite.
    """
    student, base = engine.model, TorchEngine(frozen_copy(engine.model), engine.tokenizer)
    engine = engine.in_bf16(config.bf16)
    optimizer = make_optimizer(student, config)
    state = {"model": student, "optimizer": optimizer}
    table = run.restore(state) if run else []
    idle = Idle(
        "every group is all right or all wrong, so no completion is better than its siblings; use other problems or more generations"
    )
    try:
        for step in range(len(table), config.steps):
            clock = Clock()
            # 1. sample and grade: G completions of each problem
            batch = sample_batch(engine, problems, config, step)
            rollouts = batch.rollouts
            clock.stage("sampling")
            # 2. compare: a completion is as good as it beats its siblings
            advantages = group_advantages(batch.rewards, config.num_generations, config.scale_rewards)
            teaches = [i for i in range(len(advantages)) if advantages[i] != 0]
            # 3. update, minibatch by minibatch; rows without advantage count in the mean but have no gradient
            rows = Rows(engine, batch.prompts, rollouts.completions())
            losses, norms = [], []
            for minibatch in minibatches(range(len(advantages)), config.num_minibatches):
                mask = rollouts.completion_mask
                weights = rollouts.per_token_logps.new_zeros(mask.shape)
                weights[minibatch] = token_weights(mask[minibatch], config.aggregation)

                def loss_of(part):
                    at = mask[part]
                    logits = rows.logits(student, part)
                    logps = token_logps(
                        logits, rollouts.completion_ids[part][at].to(logits.device), config.temperature
                    )
                    old, gain, weight = (
                        x[part][at].to(logits.device)
                        for x in (rollouts.per_token_logps, advantages[:, None].expand(mask.shape), weights)
                    )
                    return (
                        weight * grpo_token_loss(logps, old, gain, config.epsilon_low, config.epsilon_high)
                    ).sum()

                parts = rows.plan([i for i in minibatch if advantages[i] != 0], config.batch_tokens)
                if parts:
                    losses.append(accumulate(student, parts, loss_of))
                    norms.append(apply_update(student, optimizer, config, step, losses[-1]))
            clock.stage("update")
            idle.step(len(losses))
            # 4. log
            row = step_row(
                config, step, batch, base, losses=losses, norms=norms, used_rows=len(teaches), clock=clock
            )
            table.append(row)
            if run:
                run.save_step(row, samples(step, batch), state)
            if on_step:
                on_step(row)
    except KeyboardInterrupt:
        pass  # what is finished is finished
    return pandas.DataFrame(table, columns=COLUMNS)
