"""Where TRL 1.16, the paper and a job differ, and how the job gets the study's choice: one row per choice.

`tests/test_scale_differences.py` checks every row against the installed TRL. The paper is arXiv 2603.24472
with its code; "not told" stands where neither states the choice. The defaults of TRL are those of GRPOConfig,
trl.experimental.sdpo.SDPOConfig and SFTConfig.
"""

from dataclasses import dataclass

from sdlab.scale.checks import sizes
from sdlab.scale.job import Job
from sdlab.scale.trl_config import SAMPLER_RATIO_CLIP, weight_dtype
from sdlab.text.prompt import REPROMPT, SOLUTION


@dataclass(frozen=True)
class Difference:
    """One row of the table."""

    what: str
    trl: str  # its default
    paper: str
    run: str  # this job
    how: str  # a TRL setting, or the override in sdlab.scale


def differences(job: Job) -> list[Difference]:
    """Return the rows that concern the method of a job, also those where TRL's default is already right."""
    rows = _everywhere(job)
    if job.method == "sft":
        return rows + _sft(job)
    rows += _rollouts(job)
    return rows + (_grpo(job) if job.method == "grpo" else _sdpo(job))


def _everywhere(job: Job) -> list[Difference]:
    config = job.config
    rates = {"grpo": ("1e-06", "1e-06"), "sdpo": ("5e-05", "1e-05"), "sft": ("2e-05", "not told")}[job.method]
    return [
        Difference("learning rate", rates[0], rates[1], f"{config.learning_rate:g}", "learning_rate"),
        Difference(
            "schedule", "falls to 0, no warm-up, moves with every update", "10 steps of warm-up, then constant" if job.method != "sft" else "not told",
            f"{config.warmup_steps} steps of warm-up, then constant", "override: StudyTrainer.create_scheduler",
        ),
        Difference("weight decay", "0", "0.01 (its code's default)", "0", "weight_decay"),
        Difference("gradient clip", "1.0", "not told", f"{config.max_grad_norm:g}", "max_grad_norm"),
        Difference("gradient not finite", "steps on; the log shows an older loss", "not told", "stops before the update", "override: StudyTrainer._clip_grad_norm; logging_nan_inf_filter=False"),
        Difference(
            "number format", "bfloat16 autocast over float32 weights", "not told", f"{'bfloat16 autocast' if job.bf16 else 'float32'}, {weight_dtype(job)} weights",
            "bf16, model_init_kwargs",
        ),
        Difference("gradient checkpointing", "on", "not told", "on" if job.gradient_checkpointing else "off", "gradient_checkpointing"),
    ]  # fmt: skip


def _rollouts(job: Job) -> list[Difference]:
    config, found, grpo = job.config, sizes(job), job.method == "grpo"
    return [
        Difference("updates per step", "1", "2 (256 questions, minibatches of 128)", f"{found.updates} ({found.rows} rows, minibatches of {found.rows // found.updates})", "steps_per_generation, gradient_accumulation_steps"),
        Difference(
            "rows of a minibatch", "shuffled" if grpo else "in their order", "not told", "in their order" if grpo else "those that teach are shared out evenly, in their order",
            f"override: {'RolloutTrainer._prepare_inputs' if grpo else 'StudySDPOTrainer.order'}",
        ),
        Difference("update that teaches nothing", "AdamW goes on by its momentum", "not told", "left out (not under zero3)" if job.accelerate == "zero3" else "left out", "override: StudyCallback"),
        Difference("order of questions", "shuffled by TRL, the last few of an epoch dropped", "not told", "that of sdlab.train, wrapping around", "shuffle_dataset=False; question_rows"),
        Difference("completion limit", "512" if grpo else "256", "20480", str(config.max_completion_length), "max_completion_length"),
        Difference("completions cut at the limit", "count", "not told", "count", "mask_truncated_completions"),
        Difference("temperature of rollouts", "1", "not told", f"{config.temperature:g}", "temperature"),
        Difference(
            "long questions", "kept whole" if grpo else "their first tokens are cut off beyond 512", "at most 2048 tokens", f"left out beyond {job.max_prompt_length}",
            "override: fitting" + ("" if grpo else "; max_prompt_length"),
        ),
        Difference("thinking", "as the chat template wants", "on or off", "on" if config.thinking else "off", "chat_template_kwargs"),
        Difference("text that is graded", "think tags are lost where they are special tokens", "not told", "think tags stay", "override: right_answer"),
        Difference("KL to the base model", "none", "none", "none", "beta=0"),
        Difference("importance ratio", "per token", "not told" if grpo else "per token", "per token", "importance_sampling_level" if grpo else "distillation_is_clip"),
    ]  # fmt: skip


def _grpo(job: Job) -> list[Difference]:
    config = job.config
    mean = {"token_mean": "over the minibatch's tokens", "sequence_mean": "over the minibatch's completions"}[
        config.aggregation
    ]
    rows = [
        Difference("advantages divided by", "the group's standard deviation", "nothing", "the group's standard deviation" if config.scale_rewards else "nothing", "scale_rewards"),
        Difference("clip range", "0.2 / 0.2", "0.2 / 0.28", f"{config.epsilon_low:g} / {config.epsilon_high:g}", "epsilon, epsilon_high"),
        Difference(
            "mean of the loss", "over the tokens of the whole step, shared out to its updates", "not told", mean,
            "loss_type='dapo'; override: StudyGRPOTrainer.shared_out" if config.aggregation == "token_mean" else "loss_type='grpo'",
        ),
    ]  # fmt: skip
    if job.use_vllm:
        rows.append(
            Difference(
                "vLLM's probabilities",
                "a completion is dropped beyond ratio 3",
                "ratio per token, at most 2",
                f"ratio per token, at most {SAMPLER_RATIO_CLIP:g}",
                "vllm_importance_sampling_mode, ..._clip_max",
            )
        )
    return rows


def _sdpo(job: Job) -> list[Difference]:
    config = job.config
    divergence = {0.0: "KL(teacher || student)", 1.0: "KL(student || teacher)"}.get(
        config.distillation_alpha, f"Jensen-Shannon, alpha {config.distillation_alpha:g}"
    )
    support = {None: "the whole vocabulary"}.get(
        config.distillation_topk, f"the student's {config.distillation_topk} likeliest tokens"
    )
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
        Difference("objective", "log-ratio of the sampled token", "divergence over likely tokens", f"divergence over {support}", "distillation_mode"),
        Difference("divergence", "KL(student || teacher)", "Jensen-Shannon, alpha 0.5", divergence, "distillation_alpha"),
        Difference("tokens compared", "the sampled one", "the student's 100 likeliest tokens", support, "distillation_topk"),
        Difference("tail bucket", "none", "one", "none" if not config.distillation_add_tail or config.distillation_topk is None else "one", "distillation_add_tail"),
        Difference("ratio to the rollout, at most", "2", "2", "unused" if config.distillation_is_clip is None else f"{config.distillation_is_clip:g}", "distillation_is_clip"),
        Difference("mean of the loss", "over all completions, those without a demonstration counting 0", "over the minibatch's distilled tokens", mean, "override: StudySDPOTrainer._compute_self_distillation_loss"),
        Difference("teacher", "EMA, rate 0.05 per update", "fixed (EMA 0.05 in an ablation)", teacher, "teacher_model_kind, teacher_update_rate, teacher_sync_steps"),
        Difference("teacher's first weights", "read again from the model's path", "the student's", "read from the job's model, as the student's are", "model is a path; model_init_kwargs"),
        Difference("right is a reward of", "1 or more", "0.5 or more", "more than 0.5", "override: StudyContext; success_reward_threshold"),
        Difference("demonstration", "the first right sibling", "the first right sibling", f"the {'first' if config.demonstration == 'first' else 'a random'} right sibling".replace("the a", "a"), "override: StudyContext"),
        Difference(
            "thinking in the demonstration", "kept; if to be removed, only where both tags stand: never on templates that open <think>", "kept (c = s) or removed (c = s without think)",
            "removed" if thinking else "kept", "override: StudyContext",
        ),
        Difference("demonstration's text", "think tags are lost where they are special tokens", "not told", "think tags stay", "override: StudyContext"),
        Difference("teacher's prompt", "TRL's wording, a line break at its end", repr(REPROMPT.format(prompt="{prompt}", context=SOLUTION)), "the study's", "override: StudyContext"),
        Difference("feedback", "none; if switched on, also on right completions", "none", "on wrong completions" if "feedback" in config.context else "none", "override: StudyContext"),
        Difference("long teacher's prompts", "the last 10240 tokens, without the question", "at most 22528", f"not distilled beyond {job.max_reprompt_length}", "override: StudyContext; max_reprompt_len"),
        Difference("logits", "as the model computes them", "not told", "float32", "override: StudySDPOTrainer._forward_logits"),
        Difference("rollout's probabilities", "one forward pass over all rows of a process", "not told", f"{job.per_device_rows} rows at a time", "override: StudySDPOTrainer._compute_rollout_logps"),
        Difference("process with nothing to distil", "leaves the others waiting", "not told", "takes part", "override: StudySDPOTrainer._compute_self_distillation_loss"),
    ]  # fmt: skip
    if job.lora_rank and config.teacher_model_kind == "ema":
        rows.append(
            Difference(
                "averaged adapter starts from",
                "zero, both factors",
                "no adapter",
                "the student's",
                "override: start_from_student",
            )
        )
    if job.use_vllm:
        rows.append(
            Difference(
                "vLLM's probabilities",
                "unused",
                "ratio per token, at most 2",
                "the ratio is to them",
                "override: StudySDPOTrainer._generate_vllm",
            )
        )
    return rows


def _sft(job: Job) -> list[Difference]:
    return [
        Difference("long traces", "cut off beyond 1024 tokens", "not told", "kept whole", "max_length=None"),
        Difference("tokens of a trace", "rendered as a finished conversation, whose thinking some templates drop", "not told", "the prompt's, the completion's, the end", "override: trace_rows"),
        Difference("learnt from", "the completion", "not told", "the completion and its end", "labels in trace_rows"),
        Difference("order of traces", "shuffled by TRL", "not told", "that of sdlab.train, wrapping around", "train_sampling_strategy='sequential'; trace_rows"),
    ]  # fmt: skip


def render(rows: list[Difference], console=None) -> None:
    """Print the table of differences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="TRL's defaults, the paper, and this run", title_justify="left", show_lines=False)
    for name in ("what", "TRL's default", "paper", "this run", "how"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.trl, row.paper, row.run, row.how)
    console = console or Console()
    if not console.is_terminal:  # a log file; 80 columns would break every word
        console = Console(file=console.file, width=180)
    console.print(table, markup=False)
