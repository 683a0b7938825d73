"""Run a repair in TRL's SDPOTrainer: views, signals and loss are those of `sdlab.train.repairs`.

TRL samples, holds the networks and moves the weights. The hooks of the repair see the whole step, as in
`sdlab.train.repairs.loop`: tables of numbers per token are shared by all processes, distributions are not.
"""

from contextlib import nullcontext
from typing import Any

import torch
from trl.experimental.sdpo.sdpo_trainer import SuccessfulRolloutTeacherContextBuilder
from trl.trainer.utils import selective_log_softmax, split_tensor_dict

from sdlab.scale.repair_rows import SharedScorer, windows_of
from sdlab.scale.sdpo_trainer import StudySDPOTrainer, teacher_tensors
from sdlab.scale.study_trainer import ordered, spread
from sdlab.train.losses import all_logps
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.loss import Tokens, token_terms, total
from sdlab.train.repairs.mistakes import first_errors
from sdlab.train.repairs.scoring import read_views, temperature_of, uniforms
from sdlab.train.repairs.signals import Facts, Signals
from sdlab.train.repairs.views import Step
from sdlab.train.repairs.weighed import Weighed, advanced, weigh

TABLES = ("distil", "policy", "advantage", "mean")  # of `sdlab.train.repairs.loss.Tokens`


class RepairContext(SuccessfulRolloutTeacherContextBuilder):
    """The prompts of a repair's views, by the rules of `sdlab.train.repairs.views`."""

    def build(
        self,
        output: dict[str, Any],
        prompts: list,
        rewards: torch.Tensor,
        feedbacks: list | None = None,
    ) -> dict[str, torch.Tensor]:
        """Build TRL's tensors of the teacher, and keep those of all views in `views` and `informed` (M, R).

        A row whose view would need more than max_reprompt_len tokens has no context in this view.
        """
        trainer = self.trainer
        own = trainer.own_rows(len(prompts))
        self.step = trainer.seen(output, rewards)
        plain = [self.step.prompt(row) for row in range(own.start, own.stop)]
        self.views, informed = [], []
        for texts, known in read_views(trainer.repair, self.step):
            pairs = zip(texts[own], known[own], plain, strict=True)
            ids, mask, fits = teacher_tensors(
                trainer, output, [text if has else bare for text, has, bare in pairs]
            )
            self.views.append((ids, mask))
            informed.append([has and fit for has, fit in zip(known[own], fits, strict=True)])
        self.informed = torch.tensor(informed, dtype=torch.bool).view(len(informed), len(prompts))
        taught = self.informed.all(0) if informed else torch.zeros(len(prompts), dtype=torch.bool)
        taught = taught.float().to(trainer.accelerator.device)
        share = trainer.accelerator.gather(taught).mean().item()
        self.last_metrics = {"self_distillation/reprompt_sample_fraction": share}
        ids, mask = (
            self.views[0]
            if self.views
            else (
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
            )
        )
        return {"teacher_input_ids": ids, "teacher_attention_mask": mask, "self_distillation_mask": taught}


class StudyRepairTrainer(StudySDPOTrainer):
    """TRL's SDPOTrainer with the hooks of a repair in the places of its weights and its loss."""

    def __init__(self, *args: Any, repair: Repair, **kwargs: Any) -> None:
        self.repair, self.repair_state = repair, {}
        super().__init__(*args, **kwargs)
        self.teacher_context_builder: RepairContext = RepairContext(self)

    def seen(self, output: dict[str, Any], rewards: torch.Tensor) -> Step:
        """Return the completions of all processes, as context rules see them."""
        config, rewards = self.job.config, self.accelerator.gather(rewards).cpu()
        problems, texts, step = self.whole_step(output)
        return Step(
            self._tokenizer,
            problems,
            texts,
            rewards,
            self.num_generations,
            config.seed,
            step,
            config.thinking,
        )

    def sample(self, rows: list[dict]) -> dict[str, Any]:
        """Return TRL's rollouts and rewards with the tensors of every view."""
        batch = super().sample(rows)
        for number, (ids, mask) in enumerate(self.teacher_context_builder.views):
            batch |= {f"view_{number}_ids": ids, f"view_{number}_mask": mask}
        return batch

    def _compute_rollout_logps(self, **tensors: torch.Tensor) -> torch.Tensor | None:
        """Return the sampler's probabilities where vLLM gave them, else those of the student, always."""
        if not self.use_vllm:
            return self.student_logps(tensors)
        old = super()._compute_rollout_logps(**tensors)
        assert old is not None
        unknown = self.accelerator.reduce(old.isnan().sum(), "sum").item()
        return torch.where(old.isnan(), self.student_logps(tensors), old) if unknown else old

    @torch.no_grad()
    def student_logps(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return log-probabilities (R, T) of the sampled tokens at the temperature of sampling."""
        names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
        parts = zip(*(batch[name].split(self.job.per_device_rows) for name in names), strict=True)
        return torch.cat(
            [
                selective_log_softmax(self.logits("student", dict(zip(names, part, strict=True))), part[2])
                for part in parts
            ]
        )

    def logits(
        self, source: str | int, inputs: dict[str, Any], model: torch.nn.Module | None = None
    ) -> torch.Tensor:
        """Return logits (r, T, V) of "student", "base" or a view, divided by the temperature of sampling."""
        if isinstance(source, str):
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        else:
            ids, mask = inputs[f"view_{source}_ids"], inputs[f"view_{source}_mask"]
        length, own = inputs["completion_ids"].shape[1], source == "student"
        with nullcontext() if own else torch.no_grad():
            with nullcontext() if own else self._get_teacher_context_for_self_distillation():
                network = (model or self.model) if own else self.teacher_model
                return self._forward_logits(network, ids, mask, length)

    def logps(
        self, source: str | int, inputs: dict[str, Any], model: torch.nn.Module | None = None
    ) -> torch.Tensor:
        """Return log-probabilities (r, T, V) of a source at the repair's temperature."""
        sampling = self.job.config.temperature
        ratio = temperature_of(self.repair, source, sampling) / sampling
        return all_logps(self.logits(source, inputs, model), ratio)

    def view_logps(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return log-probabilities (M, N, V) of all views at the tokens of the completions."""
        at = inputs["completion_mask"].bool()
        views = [self.logps(view, inputs)[at] for view in range(len(self.repair.views))]
        return views[0][None] if len(views) == 1 else torch.stack(views)  # one view is not copied

    def divide(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """Let the hooks weigh the step, and divide its rows into micro-batches with their tables."""
        updates, accelerator = self.sizes.updates, self.accelerator
        rows, width = batch["completion_mask"].shape
        scorer = SharedScorer(self, batch, self.teacher_context_builder.informed)
        signals = Signals(self.facts(batch), scorer, scorer.whole)
        self.repair_state = advanced(self.repair, self.repair_state, signals)
        counted = set(weigh(self.repair, signals, self.repair_state).counted(self.repair))
        windows: list[list[int]] = [[] for _ in range(updates)]
        for first in range(0, rows * accelerator.num_processes, rows):
            mine = [row for row in range(rows) if first + row in counted]
            for update, part in windows_of(mine, rows, updates).items():
                windows[update] += [first + row for row in part]
        tables, used = {}, 0
        self.teaching = [False] * updates
        for update, window in enumerate(windows):
            if not window:
                continue
            weights = weigh(self.repair, signals.within(window), self.repair_state)
            taught = [row for row in window if row in counted] if self.repair.regulariser else weights.taught
            used, self.teaching[update] = used + len(taught), bool(taught)
            for name, table in self.tables_of(weights).items():
                tables.setdefault(name, torch.zeros_like(table))[window] = table[window]
        self.row |= {"used_rows": used, "updates": sum(self.teaching)}
        own = self.own_rows(rows)
        batch |= {
            name: table[own, :width].to(batch["completion_ids"].device) for name, table in tables.items()
        }
        order = spread([row in counted for row in range(own.start, own.stop)], updates)
        return split_tensor_dict(ordered(batch, order), self.args.steps_per_generation)

    def tables_of(self, weights: Weighed) -> dict[str, torch.Tensor]:
        """Return the tables (B, T) that the loss reads; those of parts that the repair lacks are left out."""
        found = {name: getattr(weights, name) for name in TABLES if getattr(weights, name) is not None}
        if not self.repair.regulariser:
            del found["mean"]
        return found

    def facts(self, batch: dict[str, Any]) -> Facts:
        """Return what is known about the completions of all processes."""
        context, config = self.teacher_context_builder, self.job.config
        mask, ids, old = (
            self.shared(batch[name]) for name in ("completion_mask", "completion_ids", "old_per_token_logps")
        )
        mask = mask.bool()
        problems = [problem.id for problem in context.step.problems for _ in range(self.num_generations)]
        return Facts(
            mask=mask,
            ids=ids,
            old=old,
            rewards=context.step.rewards,
            informed=self.shared(context.informed.T.contiguous()).T,
            num_generations=self.num_generations,
            problem_ids=problems,
            uniforms=uniforms(mask.shape, config.seed, context.step.step),
            step=context.step.step,
            steps=config.steps,
            first_errors=lambda: first_errors(
                context.step, [row[at].tolist() for row, at in zip(ids, mask, strict=True)]
            ),
        )

    def shared(self, table: torch.Tensor) -> torch.Tensor:
        """Return a table (R, ...) with the rows of all processes, on the CPU; rows are padded with 0."""
        table = self.accelerator.pad_across_processes(table.to(self.accelerator.device), dim=1)
        return self.accelerator.gather(table).cpu()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the repair's loss of a micro-batch.

        Summed over micro-batches and processes it is that of the minibatch: TRL takes the mean over
        processes.
        """
        at = inputs["completion_mask"].bool()
        tables = {name: inputs[name][at] for name in TABLES if name in inputs}
        reads_base = self.repair.reads_base and ("distil" in tables or "mean" in tables)
        tokens = Tokens(
            self.logps("student", inputs, model)[at],
            inputs["completion_ids"][at],
            inputs["old_per_token_logps"][at],
            views=self.view_logps(inputs) if "distil" in tables else None,
            base=self.logps("base", inputs)[at] if reads_base else None,
            **tables,
        )
        loss = total(token_terms(self.repair, tokens, self.repair_state), tokens)
        return loss * self.accelerator.num_processes
