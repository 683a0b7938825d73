"""One run of ours and one of TRL's from the same rollouts: what `test_scale_agreement.py` compares."""

from contextlib import contextmanager

import torch

from sdlab.rollout.loading import load_engine
from sdlab.scale.data import job_problems
from sdlab.scale.train import make_trainer


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}


@contextmanager
def swapped(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        setattr(owner, name, before)


def ours(job):
    """(batches, losses, gradients before clipping) of `sdlab.train`'s own loop, per step and per update."""
    from sdlab.runs.plan import Plan
    from sdlab.runs.training import run_method
    from sdlab.train import session

    engine = load_engine(job.model)
    batches, losses, found = [], [], []
    sample, update = session.sample_batch, session.apply_update

    def recorded_sample(*args):
        batches.append(sample(*args))
        return batches[-1]

    def recorded_update(model, optimizer, config, step, loss):
        losses.append(loss)
        found.append(gradients(model))
        return update(model, optimizer, config, step, loss)

    with swapped(session, "sample_batch", recorded_sample), swapped(session, "apply_update", recorded_update):
        run_method(job.method, engine, job_problems(job), job.config, Plan())
    return batches, losses, found, engine.model


def trl(job, batches, change=lambda trainer: None):
    """(losses, gradients, trainer) of TRL's trainer when its generation returns our batches' completions."""
    trainer = make_trainer(job)
    change(trainer)
    losses, found, steps = [0.0], [], iter(batches)
    clip, step = trainer._clip_grad_norm, trainer.training_step

    def generate(prompt_ids, *_, **__):
        batch = next(steps)
        wanted = [ids for ids in batch.rollouts.prompt_ids for _ in range(batch.rollouts.num_generations)]
        assert [list(ids) for ids in prompt_ids] == wanted  # the same questions, rendered to the same tokens
        return (
            (batch.rollouts.completions(), None)
            if job.method == "grpo"
            else (prompt_ids, batch.rollouts.completions())
        )

    def recorded_step(*args):
        loss = step(*args)
        losses[-1] += loss.item()
        return loss

    def recorded_clip(model):
        losses.append(0.0)
        found.append(gradients(trainer.model))
        return clip(model)

    setattr(trainer, "_generate_single_turn" if job.method == "grpo" else "_generate_transformers", generate)
    trainer.training_step, trainer._clip_grad_norm = recorded_step, recorded_clip
    trainer.train()
    return losses[:-1], found, trainer


def distance(one: dict, other: dict) -> float:
    """The largest difference of two gradients, relative to the largest entry of the second."""
    scale = max(g.abs().max() for g in other.values())
    return float(max((one[name] - other[name]).abs().max() for name in other) / scale)
