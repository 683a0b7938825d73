"""The rows of the differences table that concern every method, or both methods that sample completions."""

from dataclasses import dataclass

from sdlab.scale.checks import sizes
from sdlab.scale.job import Job
from sdlab.scale.trl_config import weight_dtype


@dataclass(frozen=True)
class Difference:
    """One row of the table."""

    what: str
    trl: str  # its default
    paper: str
    run: str  # this job
    how: str  # a TRL setting, or the override in sdlab.scale


def shared_rows(job: Job) -> list[Difference]:
    """Return the rows that concern every method."""
    config = job.config
    rates = {
        "grpo": ("1e-06", "1e-06"),
        "sdpo": ("5e-05", "1e-05"),
        "sft": ("2e-05", "not stated"),
        "repair": ("5e-05", "1e-05 (SDPO)"),
    }[job.method]
    return [
        Difference(
            "learning rate",
            trl=rates[0],
            paper=rates[1],
            run=f"{config.learning_rate:g}",
            how="learning_rate",
        ),
        Difference(
            "schedule",
            trl="falls to 0, no warm-up, moves with every update",
            paper="10 steps of warm-up, then constant" if job.method != "sft" else "not stated",
            run=f"{config.warmup_steps} steps of warm-up, then constant",
            how="override: StudyTrainer.create_scheduler",
        ),
        Difference("weight decay", trl="0", paper="0.01 (its code's default)", run="0", how="weight_decay"),
        Difference(
            "gradient clip",
            trl="1.0",
            paper="not stated",
            run=f"{config.max_grad_norm:g}",
            how="max_grad_norm",
        ),
        Difference(
            "gradient not finite",
            trl="continues; the log shows an older loss",
            paper="not stated",
            run="stops before the update",
            how="override: StudyTrainer._clip_grad_norm; logging_nan_inf_filter=False",
        ),
        Difference(
            "number format",
            trl="bfloat16 autocast over float32 weights",
            paper="not stated",
            run=f"{'bfloat16 autocast' if job.bf16 else 'float32'}, {weight_dtype(job)} weights",
            how="bf16, model_init_kwargs",
        ),
        Difference(
            "gradient checkpointing",
            trl="on",
            paper="not stated",
            run="on" if job.gradient_checkpointing else "off",
            how="gradient_checkpointing",
        ),
    ]


def rollout_rows(job: Job) -> list[Difference]:
    """Return the rows that concern the methods that sample completions."""
    config, step, grpo = job.config, sizes(job), job.method == "grpo"
    return [
        Difference(
            "updates per step",
            trl="1",
            paper="2 (256 problems, minibatches of 128)",
            run=f"{step.updates} ({step.rows} rows, minibatches of {step.rows // step.updates})",
            how="steps_per_generation, gradient_accumulation_steps",
        ),
        Difference(
            "rows of a minibatch",
            trl="shuffled" if grpo else "in their order",
            paper="not stated",
            run="in their order" if grpo else "rows that teach are divided evenly, in their order",
            how="override: "
            + {"grpo": "RolloutTrainer._prepare_inputs", "sdpo": "StudySDPOTrainer.order"}.get(
                job.method, "StudyRepairTrainer.divide"
            ),
        ),
        Difference(
            "update that teaches nothing",
            trl="AdamW still moves the weights by its momentum",
            paper="not stated",
            run="left out (not under zero3)" if job.accelerate == "zero3" else "left out",
            how="override: StudyCallback",
        ),
        Difference(
            "order of problems",
            trl="shuffled by TRL, the last few of an epoch dropped",
            paper="not stated",
            run="that of sdlab.train, wrapping around",
            how="shuffle_dataset=False; question_rows",
        ),
        Difference(
            "completion limit",
            trl="512" if grpo else "256",
            paper="20480",
            run=str(config.max_completion_length),
            how="max_completion_length",
        ),
        Difference(
            "completions cut at the limit",
            trl="count",
            paper="not stated",
            run="count",
            how="mask_truncated_completions",
        ),
        Difference(
            "temperature of rollouts",
            trl="1",
            paper="not stated",
            run=f"{config.temperature:g}",
            how="temperature",
        ),
        Difference(
            "long prompts",
            trl="kept whole" if grpo else "their first tokens are cut off beyond 512",
            paper="at most 2048 tokens",
            run=f"left out beyond {job.max_prompt_length}",
            how="override: fitting" + ("" if grpo else "; max_prompt_length"),
        ),
        Difference(
            "thinking",
            trl="the chat template's default",
            paper="on or off",
            run="on" if config.thinking else "off",
            how="chat_template_kwargs",
        ),
        Difference(
            "text that is graded",
            trl="think tags are lost where they are special tokens",
            paper="not stated",
            run="think tags stay",
            how="override: right_answer",
        ),
        Difference(
            "KL to the base model",
            trl="none",
            paper="none",
            run="in the repair's regulariser, if it has one" if job.method == "repair" else "none",
            how="beta=0",
        ),
        Difference(
            "importance ratio",
            trl="per token",
            paper="not stated" if grpo else "per token",
            run="per token, as the repair says" if job.method == "repair" else "per token",
            how={"grpo": "importance_sampling_level", "sdpo": "distillation_is_clip"}.get(
                job.method, "override: StudyRepairTrainer.compute_loss"
            ),
        ),
    ]
