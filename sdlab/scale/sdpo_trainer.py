"""Change TRL's SDPOTrainer: teacher prompts of the study, mean of the paper, and fixes for large runs.

TRL computes rollouts, the logits of both networks and the divergence. This module changes the prompt of the
teacher (`StudyContext`), the weights of tokens, and three things that matter only with many processes, long
completions or vLLM.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from trl.experimental.sdpo import SDPOTrainer
from trl.experimental.sdpo.loss_utils import (
    apply_importance_sampling_clipping,
    compute_full_logit_self_distillation_loss,
    compute_topk_self_distillation_loss,
)
from trl.experimental.sdpo.sdpo_trainer import DistillationLogits, SuccessfulRolloutTeacherContextBuilder
from trl.experimental.sdpo.teacher_sync import PEFTAdapterEMACallback
from trl.trainer.utils import pad, selective_log_softmax

from sdlab.rollout.rows import decode
from sdlab.scale.study_trainer import RolloutTrainer, spread
from sdlab.train.teacher import teacher_view
from sdlab.world.problems import Problem


class StudyContext(SuccessfulRolloutTeacherContextBuilder):
    """The teacher's prompts from `sdlab.train.teacher.teacher_view`, the same as in the study's own SDPO."""

    def build(
        self,
        output: dict[str, Any],
        prompts: list,
        rewards: torch.Tensor,
        feedbacks: list | None = None,
    ) -> dict[str, torch.Tensor]:
        """Build the teacher's tensors for TRL.

        These are teacher_input_ids and teacher_attention_mask (R, T_teacher + T), and self_distillation_mask
        (R,). A row is not distilled when its teacher would need more than max_reprompt_len tokens or more
        than the model reads. TRL would cut off the beginning of its prompt, with the problem.
        """
        trainer, accelerator = self.trainer, self.trainer.accelerator
        tokenizer, config, groups = trainer._tokenizer, trainer.job.config, trainer.num_generations
        problems, texts, step = trainer.whole_step(output)
        view = teacher_view(
            tokenizer, problems, texts, accelerator.gather(rewards).cpu(), groups, config, step
        )
        own_rows = trainer.own_rows(len(prompts))
        input_ids, mask, fits = teacher_tensors(trainer, output, view.prompts[own_rows])
        distilled = torch.tensor(
            [informed and fit for informed, fit in zip(view.distilled[own_rows], fits, strict=True)],
            dtype=torch.float32,
            device=accelerator.device,
        )
        counts = torch.tensor([sum(fits), len(fits)], device=accelerator.device)
        kept, all_rows = accelerator.reduce(counts, "sum").tolist()
        share = accelerator.gather(distilled).mean().item()
        right = (accelerator.gather(rewards).view(-1, groups) > 0.5).any(1).float().mean().item()
        self.last_metrics = {
            "self_distillation/reprompt_sample_fraction": share,
            "self_distillation/reprompt_too_long": 1 - kept / all_rows,
            "self_distillation/success_group_fraction": right,
        }
        return {
            "teacher_input_ids": input_ids,
            "teacher_attention_mask": mask,
            "self_distillation_mask": distilled,
        }


def teacher_tensors(
    trainer: Any, output: dict[str, Any], prompts: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
    """Return token ids and mask (R, T_teacher + T) of prompts with their completions, and which rows fit.

    A row fits when its prompt has at most max_reprompt_len tokens, and prompt and completion are no more than
    the model reads. The prompt of another row is one token, which is computed and must get no gradient.
    """
    tokenizer, completions = trainer._tokenizer, trainer._get_completion_ids_list(output)
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    text_config = trainer.model.config.get_text_config()
    context = getattr(text_config, "max_position_embeddings", None) or float("inf")
    fits = [
        len(row) <= trainer.args.max_reprompt_len and len(row) + len(y) <= context
        for row, y in zip(ids, completions, strict=True)
    ]
    ids = [row if fit else row[-1:] for row, fit in zip(ids, fits, strict=True)]
    parts = (
        ([torch.tensor(row) for row in ids], tokenizer.pad_token_id, "completion_ids"),
        ([torch.ones(len(row), dtype=torch.long) for row in ids], 0, "completion_mask"),
    )
    padded = [
        torch.cat(
            [pad(rows, padding_value=value, padding_side="left").to(output[name].device), output[name]], dim=1
        )
        for rows, value, name in parts
    ]
    return padded[0], padded[1], fits


class StudySDPOTrainer(RolloutTrainer, SDPOTrainer):
    """TRL's SDPOTrainer with the study's teacher prompts and the paper's mean.

    The mean is over the distilled tokens of a minibatch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher_context_builder = StudyContext(self)
        if self.use_vllm:
            self.vllm_generation.logprobs = 0  # of the sampled token
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, PEFTAdapterEMACallback):
                start_from_student(callback)

    def own_rows(self, count: int) -> slice:
        """Return the places of this process's `count` rows among those of all processes."""
        first = self.accelerator.process_index * count
        return slice(first, first + count)

    def whole_step(self, output: dict[str, Any]) -> tuple[list[Problem], list[str], int]:
        """Return the problems of all processes, the texts of their completions, and the step's number."""
        texts = gather_object(decode(self._tokenizer, self._get_completion_ids_list(output)))
        places = gather_object([row["problem"] for row in self.rows])
        problems = [self.problems[place] for place in places[:: self.num_generations]]
        return problems, texts, self.state.global_step // self.sizes.updates

    def sample(self, rows: list[dict]) -> dict[str, Any]:
        """Return TRL's rollouts, rewards and teacher prompts, and log the entropy of the sampler."""
        batch = self._prepare_training_batch(rows)
        old = batch.get("old_per_token_logps")
        if old is not None:
            mask = batch["completion_mask"]
            total, tokens = self.accelerator.reduce(
                torch.stack([(old.nan_to_num() * mask).sum(), mask.sum()]), "sum"
            ).tolist()
            self.row["entropy"] = -total / tokens
        return batch

    def teaches(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return which rows are distilled, (R,) bool."""
        return batch["self_distillation_mask"] > 0

    def order(self, teaches: list[bool]) -> list[int]:
        """Return the order of `spread`, one part per update."""
        return spread(teaches, self.sizes.updates)

    def counted(self, mask: torch.Tensor, teaches: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the distilled rows, (R, T) bool."""
        return mask & teaches.unsqueeze(1)

    def _forward_logits(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super()._forward_logits(*args, **kwargs).float()  # small divergences vanish in bfloat16

    def _compute_rollout_logps(self, **tensors: torch.Tensor) -> torch.Tensor | None:
        """Return the sampler's own probabilities where vLLM gave them, as in `sdlab.train`.

        Otherwise return TRL's, computed by micro-batch.
        """
        if self.use_vllm:
            rows = [
                torch.tensor([float("nan") if x is None else x for x in row]) for row in self.sampler_logps
            ]
            return pad(rows, padding_value=0, padding_side="right").to(self.accelerator.device)
        size = self.job.per_device_rows
        parts = zip(*(tensor.split(size) for tensor in tensors.values()), strict=True)
        logps = [
            super(StudySDPOTrainer, self)._compute_rollout_logps(**dict(zip(tensors, part, strict=True)))
            for part in parts
        ]
        computed = [part for part in logps if part is not None]
        return torch.cat(computed) if computed else None

    def _generate_vllm(self, prompt_ids: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
        if self.state.global_step != self._last_loaded_step:
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step
        prompt_ids, completion_ids, logprobs, _ = self.vllm_generation.generate(
            prompts=prompt_ids, images=None, num_generations=self.num_generations
        )
        self.sampler_logps = [[token[0] for token in row] for row in logprobs]
        return prompt_ids, completion_ids

    def _compute_self_distillation_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], distillation_logits: DistillationLogits
    ) -> torch.Tensor:
        """Return TRL's divergences weighted by token_weights.

        Summed over micro-batches and processes they are the mean of the minibatch. TRL returns early on a
        process that has nothing to distil, and the other processes then wait in a collective call.
        """
        settings = self.args
        student, teacher = distillation_logits.student_logits, distillation_logits.teacher_logits
        if settings.distillation_mode == "topk_logits":
            losses = compute_topk_self_distillation_loss(
                student,
                teacher,
                distillation_topk=settings.distillation_topk,
                distillation_alpha=settings.distillation_alpha,
                distillation_add_tail=settings.distillation_add_tail,
            )
        else:
            losses = compute_full_logit_self_distillation_loss(
                student, teacher, distillation_alpha=settings.distillation_alpha
            )
        old = inputs.get("old_per_token_logps")
        if old is not None and settings.distillation_is_clip is not None:
            now = selective_log_softmax(student, inputs["completion_ids"]).detach()
            losses = apply_importance_sampling_clipping(
                losses, now, torch.where(old.isnan(), now, old), settings.distillation_is_clip
            )
        weights = inputs["token_weights"]
        loss = (losses.masked_fill(weights == 0, 0) * weights).sum()
        # TRL divides by the first factor, and the mean over processes by the second.
        return loss * self.current_gradient_accumulation_steps * self.accelerator.num_processes


def start_from_student(callback: PEFTAdapterEMACallback) -> None:
    """Make the averaged adapter of an EMA teacher start as the student's.

    TRL starts both of its factors at zero.
    """
    from peft import set_peft_model_state_dict

    callback._initialize_teacher_adapter()
    assert callback.accelerator is not None
    model = callback.accelerator.unwrap_model(callback.model)
    callback.shadow_weights = {
        name: tensor.clone() for name, tensor in callback._get_student_state_dict().items()
    }
    set_peft_model_state_dict(model, callback.shadow_weights, adapter_name=callback.teacher_adapter_name)
