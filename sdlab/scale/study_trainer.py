"""What the study changes in TRL's trainers for every method: minibatches, means, schedule and log.

`sdlab.scale.trl_config` sets everything that TRL 1.16 has a setting for; this module holds the rest. The
table in `sdlab.scale.differences` names each change.
"""

import math
import time

import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, SFTTrainer
from trl.trainer.utils import split_tensor_dict

from sdlab.errors import SdlabError
from sdlab.files import to_json, write_atomic
from sdlab.grading.score import grade
from sdlab.rollout.rows import decode
from sdlab.scale.checks import sizes
from sdlab.scale.job import Job
from sdlab.text.markers import total_markers
from sdlab.train.batch import learning_rate
from sdlab.train.log import COLUMNS
from sdlab.train.losses import token_weights


def right_answer(tokenizer):
    """Grade completions for TRL with sdlab's grader, thinking included: 1.0 or 0.0 each."""

    def right(completions, completion_ids, answer, **_) -> list[float]:
        return grade(decode(tokenizer, completion_ids), answer)

    return right


def spread(teaches: list[bool], parts: int) -> list[int]:
    """Order rows so that each of `parts` equal slices has nearly the same number of teaching rows.

    The rows that teach keep their order. Those of a slice are the rows of the same minibatch in
    `sdlab.train.batch.minibatches`.
    """
    size, rest = len(teaches) // parts, iter([i for i, one in enumerate(teaches) if not one])
    chosen = [i for i, one in enumerate(teaches) if one]
    order = []
    for part in range(parts):
        mine = chosen[len(chosen) * part // parts : len(chosen) * (part + 1) // parts]
        order += mine + [next(rest) for _ in range(size - len(mine))]
    return order


class StudyTrainer:
    """A mixin for TRL's trainers: the schedule of the study, and a stop where a gradient is not finite."""

    def __init__(self, *args, job: Job, **kwargs):
        self.job, self.sizes, self.norms = job, sizes(job), []
        super().__init__(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """Use the learning rate of `sdlab.train.batch.learning_rate`: the same for all updates of a step."""
        if self.lr_scheduler is None:
            config, updates = self.job.config, self.sizes.updates
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda update: learning_rate(config, update // updates) / config.learning_rate,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _clip_grad_norm(self, model):
        norm = super()._clip_grad_norm(model)
        if norm is not None:
            value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
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


class RolloutTrainer(StudyTrainer):
    """The shared part of GRPO and SDPO: how the rows of a step become minibatches, and their measures."""

    def __init__(self, *args, problems: list, **kwargs):
        self.problems, self.teaching, self.row = problems, [], {}
        super().__init__(*args, **kwargs)

    def sample(self, rows: list[dict]) -> dict:
        """Return the batch of a step: TRL's rollouts, rewards and advantages."""
        raise NotImplementedError

    def teaches(self, batch: dict) -> torch.Tensor:
        """Return which rows have a gradient, (R,) bool."""
        raise NotImplementedError

    def order(self, teaches: list[bool]) -> list[int]:
        """Return the order of the rows of this process before they are divided into minibatches."""
        raise NotImplementedError

    def counted(self, mask: torch.Tensor, teaches: torch.Tensor) -> torch.Tensor:
        """Return the tokens that a minibatch averages over, (R, T) bool."""
        raise NotImplementedError

    def _prepare_inputs(self, rows):
        if not self.model.training:
            return super()._prepare_inputs(rows)
        if self._step % self.args.steps_per_generation == 0 or self._buffered_inputs is None:
            start = time.perf_counter()
            self.rows, self.row = rows, {}
            batch = self.sample(rows)
            self.row["seconds_sampling"] = time.perf_counter() - start
            self._buffered_inputs = self.shared_out(batch)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def shared_out(self, batch: dict) -> list[dict]:
        """Divide the batch into micro-batches.

        Each holds token_weights (r, T), which sum to one per update over all processes. A window is the work
        of this process for one update. Rows are weighted with `sdlab.train.losses.token_weights`; the
        denominator is that of the whole minibatch, on all processes.
        """
        updates, how = self.sizes.updates, self.job.config.aggregation
        order = torch.tensor(self.order(self.teaches(batch).tolist()), device=self.accelerator.device)
        batch = {
            name: value[order] if isinstance(value, torch.Tensor) and value.dim() else value
            for name, value in batch.items()
        }
        teaches = self.teaches(batch)
        counted = self.counted(batch["completion_mask"].bool(), teaches).view(
            updates, -1, batch["completion_mask"].shape[1]
        )
        totals = (counted if how == "token_mean" else counted.any(-1)).flatten(1).sum(1)
        found = self.accelerator.reduce(torch.stack([totals, teaches.view(updates, -1).sum(1)]), "sum")
        totals, taught = found[0], found[1].tolist()
        self.teaching = [count > 0 for count in taught]
        self.row |= {"used_rows": sum(taught), "updates": sum(self.teaching)}
        weights = [token_weights(window, how, total) for window, total in zip(counted, totals)]
        parts = split_tensor_dict(
            batch | {"token_weights": torch.cat(weights)}, self.args.steps_per_generation
        )
        for number, part in enumerate(parts):
            part["minibatch_tokens"] = totals[number // self.sizes.accumulation]
        return parts

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
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
            "reward": found[:, 0].mean().item(),
            "length": tokens / rows,
            "markers": markers / rows,
            "density": 1000 * markers / tokens,
            "truncated": cut / rows,
        }
        return found


class StudyGRPOTrainer(RolloutTrainer, GRPOTrainer):
    """TRL's GRPOTrainer with the minibatches of the paper.

    Rows keep their order; the loss is a mean over the tokens of each minibatch.
    """

    def sample(self, rows):
        return self._generate_and_score_completions(rows)

    def teaches(self, batch):
        return batch["advantages"] != 0

    def order(self, teaches):
        return list(range(len(teaches)))

    def counted(self, mask, teaches):
        return mask

    def shared_out(self, batch):
        parts = super().shared_out(batch)
        for part in parts:  # TRL divides by this number over the number of updates
            part["num_items_in_batch"] = part["minibatch_tokens"] * self.sizes.updates
        return parts


class StudyCallback(TrainerCallback):
    """Skip updates that teach nothing, and write one row per step with the columns of `sdlab.train.log`."""

    def __init__(self, trainer: StudyTrainer, path, on_step=None):
        self.trainer, self.path, self.on_step, self.start = trainer, path, on_step, None

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            done, lines = (
                state.global_step // self.trainer.sizes.updates,
                self.path.read_text().splitlines(True) if self.path.exists() else [],
            )
            write_atomic(
                self.path, "".join(lines[:done])
            )  # a resumed run makes the rows after its checkpoint again
        self.start = time.perf_counter()

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        teaching = getattr(self.trainer, "teaching", None)
        if teaching and not teaching[state.global_step % len(teaching)]:
            model.zero_grad(
                set_to_none=True
            )  # AdamW then moves nothing; with zeros it would go on by its momentum
            self.trainer.norms.pop()

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" not in logs:  # the summary at the end
            return
        trainer, now = self.trainer, time.perf_counter()
        updates = trainer.sizes.updates
        taught = getattr(trainer, "row", {}).get("updates", updates)
        row = (
            dict.fromkeys(COLUMNS, math.nan)
            | {"used_rows": trainer.sizes.rows, "updates": taught}
            | getattr(trainer, "row", {})
        )
        row |= {
            "step": state.global_step // updates - 1,
            "learning_rate": logs["learning_rate"],
            "seconds": now - self.start,
            "loss": logs["loss"] * updates / taught if taught else math.nan,
            "grad_norm": sum(trainer.norms) / len(trainer.norms) if trainer.norms else math.nan,
        }
        if "entropy" in logs:
            row["entropy"] = logs["entropy"]
        if "seconds_sampling" in row:
            row["seconds_update"] = row["seconds"] - row["seconds_sampling"]
        self.start = now
        trainer.norms.clear()
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(to_json(row) + "\n")
            if self.on_step:
                self.on_step(row)
