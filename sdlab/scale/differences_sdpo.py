"""The rows of the differences table that concern SDPO, and those of every method with a teacher."""

from sdlab.scale.differences_shared import Difference
from sdlab.scale.job import Job, config_as
from sdlab.text.prompt import REPROMPT, SOLUTION
from sdlab.train.sdpo import SDPOConfig


def sdpo_rows(job: Job) -> list[Difference]:
    """Return the rows that concern SDPO only."""
    config = config_as(job, SDPOConfig)
    divergence = {0.0: "KL(teacher || student)", 1.0: "KL(student || teacher)"}.get(
        config.distillation_alpha, f"Jensen-Shannon, alpha {config.distillation_alpha:g}"
    )
    topk = config.distillation_topk
    support = "the whole vocabulary" if topk is None else f"the student's {topk} likeliest tokens"
    mean = {
        "token_mean": "over the minibatch's distilled tokens",
        "sequence_mean": "over the minibatch's distilled completions",
    }[config.aggregation]
    teacher = {
        "base": "fixed",
        "ema": f"EMA, rate {config.teacher_update_rate:g} per step",
        "live": "the student itself",
    }[config.teacher_model_kind]
    thinking = config.context == "solution_no_think"
    rows = [
        Difference(
            "objective",
            trl="log-ratio of the sampled token",
            paper="divergence over likely tokens",
            run=f"divergence over {support}",
            how="distillation_mode",
        ),
        Difference(
            "divergence",
            trl="KL(student || teacher)",
            paper="Jensen-Shannon, alpha 0.5",
            run=divergence,
            how="distillation_alpha",
        ),
        Difference(
            "tokens compared",
            trl="the sampled one",
            paper="the student's 100 likeliest tokens",
            run=support,
            how="distillation_topk",
        ),
        Difference(
            "tail bucket",
            trl="none",
            paper="one",
            run="none" if not config.distillation_add_tail or config.distillation_topk is None else "one",
            how="distillation_add_tail",
        ),
        Difference(
            "ratio to the rollout, at most",
            trl="2",
            paper="2",
            run="unused" if config.distillation_is_clip is None else f"{config.distillation_is_clip:g}",
            how="distillation_is_clip",
        ),
        Difference(
            "mean of the loss",
            trl="over all completions, those without a demonstration counting 0",
            paper="over the minibatch's distilled tokens",
            run=mean,
            how="override: StudySDPOTrainer._compute_self_distillation_loss",
        ),
        Difference(
            "teacher",
            trl="EMA, rate 0.05 per update",
            paper="fixed (EMA 0.05 in an ablation)",
            run=teacher,
            how="teacher_model_kind, teacher_update_rate, teacher_sync_steps",
        ),
        Difference(
            "demonstration",
            trl="the first right sibling",
            paper="the first right sibling",
            run=f"the {'first' if config.demonstration == 'first' else 'a random'} right sibling".replace(
                "the a", "a"
            ),
            how="override: StudyContext",
        ),
        Difference(
            "thinking in the demonstration",
            trl="kept; removal needs both tags, so never on templates that open <think>",
            paper="kept (c = s) or removed (c = s without think)",
            run="removed" if thinking else "kept",
            how="override: StudyContext",
        ),
        Difference(
            "teacher's prompt",
            trl="TRL's wording, a line break at its end",
            paper=repr(REPROMPT.format(prompt="{prompt}", context=SOLUTION)),
            run="the study's",
            how="override: StudyContext",
        ),
        Difference(
            "feedback",
            trl="none; if switched on, also on right completions",
            paper="none",
            run="on wrong completions" if "feedback" in config.context else "none",
            how="override: StudyContext",
        ),
        Difference(
            "process with nothing to distil",
            trl="the other processes wait",
            paper="not stated",
            run="takes part",
            how="override: StudySDPOTrainer._compute_self_distillation_loss",
        ),
    ]
    return rows + teacher_rows(job, config.teacher_model_kind, "StudyContext")


def teacher_rows(job: Job, kind: str, context: str, trainer: str = "StudySDPOTrainer") -> list[Difference]:
    """Return the rows of every method with TRL's teacher.

    kind: TRL's kind of teacher. context and trainer: the classes with the overrides of prompts and of
    probabilities.
    """
    rows = [
        Difference(
            "teacher's first weights",
            trl="read again from the model's path",
            paper="the student's",
            run="read from the job's model, as the student's are",
            how="model is a path; model_init_kwargs",
        ),
        Difference(
            "right is a reward of",
            trl="1 or more",
            paper="0.5 or more",
            run="more than 0.5",
            how=f"override: {context}; success_reward_threshold",
        ),
        Difference(
            "demonstration's text",
            trl="think tags are lost where they are special tokens",
            paper="not stated",
            run="think tags stay",
            how=f"override: {context}",
        ),
        Difference(
            "long teacher's prompts",
            trl="the last 10240 tokens, without the problem",
            paper="at most 22528",
            run=f"not distilled beyond {job.max_reprompt_length}",
            how=f"override: {context}; max_reprompt_len",
        ),
        Difference(
            "logits",
            trl="as the model computes them",
            paper="not stated",
            run="float32",
            how="override: StudySDPOTrainer._forward_logits",
        ),
        Difference(
            "rollout's probabilities",
            trl="one forward pass over all rows of a process",
            paper="not stated",
            run=f"{job.per_device_rows} rows at a time",
            how=f"override: {trainer}._compute_rollout_logps",
        ),
    ]
    if job.lora_rank and kind == "ema":
        rows.append(
            Difference(
                "averaged adapter starts from",
                trl="zero, both factors",
                paper="no adapter",
                run="the student's",
                how="override: start_from_student",
            )
        )
    if job.use_vllm:
        rows.append(
            Difference(
                "vLLM's probabilities",
                trl="unused",
                paper="ratio per token, at most 2",
                run="the ratio is to them",
                how="override: StudySDPOTrainer._generate_vllm",
            )
        )
    return rows
