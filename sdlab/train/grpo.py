"""GRPO as the paper runs it: group-mean baseline without standardisation, clip .2/.28, token mean, no KL.

arXiv 2402.03300 with the choices of arXiv 2603.24472 (norm_adv_by_std=False) and the clip range of DAPO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas
import torch

from sdlab.rollout.types import TrainableEngine
from sdlab.settings import Range, Share
from sdlab.train.batch import Rows, weighted_minibatches
from sdlab.train.config import Aggregation, TrainConfig
from sdlab.train.losses import all_logps, group_advantages, grpo_token_loss
from sdlab.train.session import RunFolder, Session
from sdlab.world.problems import Problem

IDLE = (
    "every group is all right or all wrong, so no completion is better than its siblings; "
    "use other problems or more generations"
)


@dataclass(frozen=True)
class GRPOConfig(TrainConfig):
    """Settings of GRPO in addition to those of every method."""

    scale_rewards: bool = False  # divide advantages by the group's standard deviation
    epsilon_low: Share = 0.2
    epsilon_high: Annotated[float, Range(0)] = 0.28
    aggregation: Aggregation = "token_mean"  # or "sequence_mean"


def run_grpo(
    engine: TrainableEngine,
    problems: Sequence[Problem],
    config: GRPOConfig = GRPOConfig(),
    run: RunFolder | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> pandas.DataFrame:
    """Train `engine.model` in place on `problems` and return one row per step.

    The columns are those of `sdlab.train.log`. run: a run folder (`sdlab.runs.folder`); it is restored first
    and written after every step. on_step(row) is called after that. Ctrl-C returns the finished steps
    (`sdlab.train.session`).

    Raises SdlabError for bad settings, and when the loss or the gradient is not finite.
    """
    with Session(engine, config, run, on_step, idle=IDLE) as session:
        for _ in session.steps():
            # 1. sample and grade: G completions of each problem
            batch = session.sample(problems)
            rollouts = batch.rollouts
            rows = Rows(session.engine, batch.prompts, rollouts.completions())
            # 2. compare: the advantage of a completion is its reward minus its group's mean
            advantages = group_advantages(batch.rewards, config.num_generations, config.scale_rewards)
            teaches = [i for i in range(len(advantages)) if advantages[i] != 0]
            # 3. update, minibatch by minibatch; rows without advantage count in the mean but have no gradient
            for minibatch, weights in weighted_minibatches(batch, range(len(advantages)), config):

                def loss_of(part: list[int]) -> torch.Tensor:
                    logits = rows.logits(session.student, part)
                    ids, old, advantage, weight = batch.at_tokens(
                        part,
                        logits.device,
                        rollouts.completion_ids,
                        rollouts.per_token_logps,
                        advantages,
                        weights,
                    )
                    logps = all_logps(logits, config.temperature)
                    now = logps.gather(-1, ids[:, None]).squeeze(-1)
                    low, high = config.epsilon_low, config.epsilon_high
                    session.signals.add_policy(part, logps, now, old, advantage, low, high)
                    return (weight * grpo_token_loss(now, old, advantage, low, high)).sum()

                parts = rows.plan([i for i in minibatch if advantages[i] != 0], config.batch_tokens)
                session.update((parts, loss_of))
            # 4. log and save
            session.finish_step(batch, len(teaches), batch.idle_groups(teaches))
    return session.table
