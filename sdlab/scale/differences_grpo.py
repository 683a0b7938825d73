"""The rows of the differences table that concern GRPO only."""

from sdlab.scale.differences_shared import Difference
from sdlab.scale.job import Job, config_as
from sdlab.scale.trl_config import SAMPLER_RATIO_CLIP
from sdlab.train.grpo import GRPOConfig


def grpo_rows(job: Job) -> list[Difference]:
    """Return the rows that concern GRPO only."""
    config = config_as(job, GRPOConfig)
    mean = {"token_mean": "over the minibatch's tokens", "sequence_mean": "over the minibatch's completions"}[
        config.aggregation
    ]
    rows = [
        Difference(
            "advantages divided by",
            trl="the group's standard deviation",
            paper="nothing",
            run="the group's standard deviation" if config.scale_rewards else "nothing",
            how="scale_rewards",
        ),
        Difference(
            "clip range",
            trl="0.2 / 0.2",
            paper="0.2 / 0.28",
            run=f"{config.epsilon_low:g} / {config.epsilon_high:g}",
            how="epsilon, epsilon_high",
        ),
        Difference(
            "mean of the loss",
            trl="over the tokens of the whole step, divided among its updates",
            paper="not stated",
            run=mean,
            how="loss_type='dapo'; override: StudyGRPOTrainer.divide"
            if config.aggregation == "token_mean"
            else "loss_type='grpo'",
        ),
    ]
    if job.use_vllm:
        rows.append(
            Difference(
                "vLLM's probabilities",
                trl="a completion is dropped beyond ratio 3",
                paper="ratio per token, at most 2",
                run=f"ratio per token, at most {SAMPLER_RATIO_CLIP:g}",
                how="vllm_importance_sampling_mode, ..._clip_max",
            )
        )
    return rows
