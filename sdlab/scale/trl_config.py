"""Translate a job into arguments of TRL 1.16's configurations; this works without TRL.

The configurations are GRPOConfig, SDPOConfig and SFTConfig. `sdlab.scale.study_trainer`,
`sdlab.scale.sdpo_trainer` and `sdlab.scale.repair_trainer` change what TRL has no setting for.
`sdlab.scale.differences` names the source of each choice.
"""

from pathlib import Path

from sdlab.scale.checks import sizes
from sdlab.scale.job import Job, config_as
from sdlab.scale.repair_rules import repair_of, teacher_arguments
from sdlab.train.grpo import GRPOConfig
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig

SAMPLER_RATIO_CLIP = 2.0  # between the trainer's and vLLM's probabilities, the paper's rollout_is threshold


def weight_dtype(job: Job) -> str:
    """Return float32 where all weights train, bfloat16 for a base that only carries an adapter.

    An update of 1e-6 would be lost in bfloat16.
    """
    return "bfloat16" if job.lora_rank and job.bf16 else "float32"


def trl_arguments(job: Job) -> dict:
    """Return the keyword arguments of the method's TRL config.

    Raises SdlabError when the rows of a step do not divide.
    """
    step, config = sizes(job), job.config
    common = {
        "output_dir": str(Path(job.output) / "checkpoints"),
        "seed": config.seed,
        "max_steps": config.steps * step.updates,
        "per_device_train_batch_size": job.per_device_rows,
        "gradient_accumulation_steps": step.accumulation,
        "learning_rate": config.learning_rate,
        "max_grad_norm": config.max_grad_norm,
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "use_cpu": job.accelerate == "cpu",
        "bf16": job.bf16,
        "gradient_checkpointing": job.gradient_checkpointing,
        "model_init_kwargs": {"dtype": weight_dtype(job)},
        "ddp_find_unused_parameters": False,
        "logging_steps": step.updates,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": job.save_steps * step.updates,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "shuffle_dataset": False,  # the data have the study's own order
    }
    if job.method == "sft":
        return common | {
            "train_sampling_strategy": "sequential",
            "max_length": None,
            "packing": False,
            "loss_type": "nll",
        }
    common |= {
        "steps_per_generation": step.micro_batches,
        "num_generations": config.num_generations,
        "num_iterations": 1,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "chat_template_kwargs": {"enable_thinking": config.thinking},
        "mask_truncated_completions": False,
        "beta": 0.0,
        "importance_sampling_level": "token",
    }
    if job.use_vllm:
        common |= {
            "use_vllm": True,
            "vllm_mode": job.vllm_mode,
            "vllm_gpu_memory_utilization": job.vllm_gpu_memory_utilization,
            "vllm_tensor_parallel_size": job.vllm_tensor_parallel_size,
            "vllm_max_model_length": job.max_prompt_length + config.max_completion_length,
            "vllm_server_base_url": job.vllm_server_base_url,
        }
    if isinstance(config, GRPOConfig):
        common |= {
            "scale_rewards": "group" if config.scale_rewards else "none",
            "epsilon": config.epsilon_low,
            "epsilon_high": config.epsilon_high,
            "loss_type": "dapo" if config.aggregation == "token_mean" else "grpo",
        }
        if job.use_vllm:
            common |= {
                "vllm_importance_sampling_mode": "token_truncate",
                "vllm_importance_sampling_clip_max": SAMPLER_RATIO_CLIP,
            }
        return common
    common |= {
        "max_prompt_length": job.max_prompt_length,
        "max_reprompt_len": job.max_reprompt_length,
        "success_reward_threshold": 0.5,
        "disable_dropout": True,
        "diagnostics_warning_interval": 0,
    }
    if isinstance(config, RepairConfig):  # StudyRepairTrainer.compute_loss takes the place of TRL's losses
        return common | teacher_arguments(repair_of(config), step.updates)
    config = config_as(job, SDPOConfig)
    return common | {
        "distillation_weight": 1.0,
        "distillation_mode": "topk_logits" if config.distillation_topk else "full_logits",
        "distillation_topk": config.distillation_topk,
        "distillation_alpha": config.distillation_alpha,
        "distillation_add_tail": config.distillation_add_tail,
        "distillation_is_clip": config.distillation_is_clip,
        "teacher_model_kind": config.teacher_model_kind,
        "teacher_update_rate": config.teacher_update_rate,
        "teacher_sync_steps": step.updates,
    }


def lora_arguments(job: Job) -> dict | None:
    """Return the keyword arguments of peft's LoraConfig; None when all weights train.

    Every linear layer gets an adapter, scaled by 2.
    """
    if not job.lora_rank:
        return None
    return {
        "r": job.lora_rank,
        "lora_alpha": 2 * job.lora_rank,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
