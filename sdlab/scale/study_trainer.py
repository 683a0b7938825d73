"""Change TRL's trainers for every method of the study: minibatches, means and schedule.

`sdlab.scale.trl_config` sets everything that TRL 1.16 has a setting for; this module holds the rest. The
table in `sdlab.scale.differences` names each change.
"""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import split_tensor_dict

from sdlab.errors import SdlabError
from sdlab.grading.score import grade
from sdlab.rollout.rows import decode
from sdlab.scale.checks import sizes
from sdlab.scale.job import Job
from sdlab.text.markers import total_markers
from sdlab.train.batch import learning_rate
from sdlab.train.grpo import GRPOConfig
from sdlab.train.losses import token_weights
from sdlab.train.sdpo import SDPOConfig
from sdlab.world.problems import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

    class SamplingTrainer(Trainer):
        """The members that TRL's GRPOTrainer and SDPOTrainer have in common, for type checkers."""

        model: torch.nn.Module
        args: Any
        accelerator: Any
        eos_token_ids: list[int]
        _tokenizer: PreTrainedTokenizerBase
        _step: int
        _buffered_inputs: list[dict[str, Any]] | None

        def _calculate_rewards(
            self, inputs: list, prompts: list, completions: list, completion_ids_list: list[list[int]]
        ) -> torch.Tensor: ...

else:
    Trainer = SamplingTrainer = object


def right_answer(tokenizer: "PreTrainedTokenizerBase") -> Callable[..., list[float]]:
    """Return a reward function for TRL: sdlab's grader, thinking included, 1.0 or 0.0 per completion."""

    def right(completions: list, completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
        return grade(decode(tokenizer, completion_ids), answer)

    return right


def spread(teaches: list[bool], parts: int) -> list[int]:
    """Order rows so that each of `parts` equal slices has nearly the same number of teaching rows.

    The rows that teach keep their order. Those of a slice are the rows of the same minibatch in
    `sdlab.train.batch.minibatches`.
    """
    size, others = len(teaches) // parts, iter([i for i, teaching in enumerate(teaches) if not teaching])
    rows = [i for i, teaching in enumerate(teaches) if teaching]
    order = []
    for part in range(parts):
        teaching_rows = rows[len(rows) * part // parts : len(rows) * (part + 1) // parts]
        order += teaching_rows + [next(others) for _ in range(size - len(teaching_rows))]
    return order


def ordered(batch: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """Return a batch with the rows of its tensors in this order; numbers stay as they are."""
    return {
        name: value[torch.tensor(order, device=value.device)]
        if isinstance(value, torch.Tensor) and value.dim()
        else value
        for name, value in batch.items()
    }


class StudyTrainer(Trainer):
    """A mixin for TRL's trainers: the schedule of the study, and a stop where a gradient is not finite."""

    def __init__(self, *args: Any, job: Job, **kwargs: Any) -> None:
        self.job, self.sizes = job, sizes(job)
        self.norms: list[float] = []  # of the gradients of this step's updates
        super().__init__(*args, **kwargs)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Use the learning rate of `sdlab.train.batch.learning_rate`: the same for all updates of a step."""
        if self.lr_scheduler is None:
            config, updates = self.job.config, self.sizes.updates
            # DeepSpeed's DummyOptim exists only where its configuration names an optimizer; ours does not.
            optimizer = cast(torch.optim.Optimizer, optimizer or self.optimizer)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                lambda update: learning_rate(config, update // updates) / config.learning_rate,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None:
            sharded: Any = norm  # a DTensor under FSDP
            value = float(sharded.full_tensor() if hasattr(norm, "full_tensor") else norm)
            if not math.isfinite(value):
                raise SdlabError(
                    f"step {self.state.global_step // self.sizes.updates}: the gradient's norm {value} is "
                    f"not finite; train with a learning rate below "
                    f"{self.job.config.learning_rate:g} (finished checkpoints are in {self.args.output_dir})"
                )
            self.norms.append(value)
        return norm


class StudySFTTrainer(StudyTrainer, SFTTrainer):
    """TRL's SFTTrainer with the schedule of the study."""


class RolloutTrainer(StudyTrainer, SamplingTrainer):
    """The shared part of GRPO and SDPO: divide the rows of a step into minibatches, and measure them."""

    def __init__(self, *args: Any, problems: list[Problem], **kwargs: Any) -> None:
        self.problems = problems
        self.teaching: list[bool] = []  # which updates of this step have a row with a gradient
        self.row: dict[str, float] = {}  # of the log, for this step
        super().__init__(*args, **kwargs)

    def sample(self, rows: list[dict]) -> dict[str, Any]:
        """Return the batch of a step: TRL's rollouts, rewards and advantages."""
        raise NotImplementedError

    def teaches(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return which rows have a gradient, (R,) bool."""
        raise NotImplementedError

    def order(self, teaches: list[bool]) -> list[int]:
        """Return the order of the rows of this process before they are divided into minibatches."""
        raise NotImplementedError

    def counted(self, mask: torch.Tensor, teaches: torch.Tensor) -> torch.Tensor:
        """Return the tokens that a minibatch averages over, (R, T) bool."""
        raise NotImplementedError

    def _prepare_inputs(self, rows: Any) -> dict[str, Any]:
        if not self.model.training:
            return super()._prepare_inputs(rows)
        if self._step % self.args.steps_per_generation == 0 or self._buffered_inputs is None:
            start = time.perf_counter()
            self.rows, self.row = rows, {}
            batch = self.sample(rows)
            self.row["seconds_sampling"] = time.perf_counter() - start
            self._buffered_inputs = self.divide(batch)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def divide(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Divide the batch into micro-batches.

        Each holds token_weights (r, T), which sum to one per update over all processes. A window is the work
        of this process for one update. Rows are weighted with `sdlab.train.losses.token_weights`; the
        denominator is that of the whole minibatch, on all processes.
        """
        updates, config = self.sizes.updates, self.job.config
        assert isinstance(config, GRPOConfig | SDPOConfig)  # the methods that sample completions
        batch = ordered(batch, self.order(self.teaches(batch).tolist()))
        teaches = self.teaches(batch)
        counted = self.counted(batch["completion_mask"].bool(), teaches).view(
            updates, -1, batch["completion_mask"].shape[1]
        )
        totals = (counted if config.aggregation == "token_mean" else counted.any(-1)).flatten(1).sum(1)
        sums = self.accelerator.reduce(torch.stack([totals, teaches.view(updates, -1).sum(1)]), "sum")
        totals, teaching_rows = sums[0], sums[1].tolist()
        self.teaching = [count > 0 for count in teaching_rows]
        self.row |= {"used_rows": sum(teaching_rows), "updates": sum(self.teaching)}
        weights = [
            token_weights(window, config.aggregation, total)
            for window, total in zip(counted, totals, strict=True)
        ]
        parts = split_tensor_dict(
            batch | {"token_weights": torch.cat(weights)}, self.args.steps_per_generation
        )
        for number, part in enumerate(parts):
            part["minibatch_tokens"] = totals[number // self.sizes.accumulation]
        return parts

    def _calculate_rewards(
        self, inputs: list, prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        texts = decode(self._tokenizer, completion_ids_list)
        ended = [ids[-1] in self.eos_token_ids for ids in completion_ids_list]
        sums = [
            sum(map(total_markers, texts)),
            sum(map(len, completion_ids_list)),
            len(ended) - sum(ended),
            len(ended),
        ]
        markers, tokens, cut, rows = self.accelerator.reduce(
            torch.tensor(sums, dtype=torch.float64, device=self.accelerator.device), "sum"
        ).tolist()
        self.row |= {
            "reward": rewards[:, 0].mean().item(),
            "length": tokens / rows,
            "markers": markers / rows,
            "density": 1000 * markers / tokens,
            "truncated": cut / rows,
        }
        return rewards


class StudyGRPOTrainer(RolloutTrainer, GRPOTrainer):
    """TRL's GRPOTrainer with the minibatches of the paper.

    Rows keep their order; the loss is a mean over the tokens of each minibatch.
    """

    def sample(self, rows: list[dict]) -> dict[str, Any]:
        """Return TRL's rollouts, rewards and advantages."""
        return self._generate_and_score_completions(rows)

    def teaches(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return which rows have an advantage, (R,) bool."""
        return batch["advantages"] != 0

    def order(self, teaches: list[bool]) -> list[int]:
        """Return the order in which the rows were sampled."""
        return list(range(len(teaches)))

    def counted(self, mask: torch.Tensor, teaches: torch.Tensor) -> torch.Tensor:
        """Return all tokens of the completions, (R, T) bool."""
        return mask

    def divide(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Divide the batch into micro-batches, each with the denominator that TRL reads."""
        parts = super().divide(batch)
        for part in parts:  # TRL divides by this number over the number of updates
            part["num_items_in_batch"] = part["minibatch_tokens"] * self.sizes.updates
        return parts
