"""TRL's trainers, as the study sets them, against sdlab's own loops: the same rollouts give the same losses
and gradients.

Two whole steps each, so the second compares models that have already learnt. Slow, up to 5 s of a core per
case, for two training runs each.
"""

import pytest

pytest.importorskip("trl")
pytest.importorskip("datasets")

import torch
from scale_agreement import distance, ours, trl
from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss

from sdlab.scale.job import CONFIGS, Job
from sdlab.train.grpo import GRPOConfig
from sdlab.train.losses import sdpo_token_loss
from sdlab.train.repairs.named import RepairConfig
from sdlab.train.sdpo import SDPOConfig

pytestmark = pytest.mark.slow

SMALL = dict(steps=2, num_problems=4, num_generations=4, max_completion_length=160, warmup_steps=1, seed=3)
CASES = {
    "sdpo, as in the paper": SDPOConfig(**SMALL),
    "sdpo, reverse KL over all tokens, one update": SDPOConfig(
        **SMALL, distillation_alpha=1.0, distillation_topk=None, num_minibatches=1
    ),
    "sdpo, forward KL, EMA, random demonstrations": SDPOConfig(
        **SMALL,
        distillation_alpha=0.0,
        distillation_topk=20,
        distillation_add_tail=False,
        aggregation="sequence_mean",
        context="solution_no_think",
        teacher_model_kind="ema",
        teacher_update_rate=0.5,
        demonstration="random",
        temperature=0.8,
    ),
    "sdpo, a live teacher, feedback": SDPOConfig(
        **SMALL | {"num_problems": 2, "max_completion_length": 60},
        context="solution_feedback",
        teacher_model_kind="live",
        distillation_is_clip=None,
    ),
    # what a repair changes: divergence and temperature; a target that reads the base; weights from the group
    "repair opsd_clip": RepairConfig(**SMALL, repair="opsd_clip"),
    "repair demopsd": RepairConfig(**SMALL, repair="demopsd"),
    "repair srpo": RepairConfig(**SMALL, repair="srpo"),
    # five views, two means; a snapshot of the teacher and a state; a regulariser; random numbers; no teacher
    "repair rlcsd": RepairConfig(**SMALL | {"num_generations": 6}, repair="rlcsd"),
    "repair rlsd": RepairConfig(**SMALL, repair="rlsd", num_minibatches=1),
    "repair sdpo_base_kl": RepairConfig(**SMALL, repair="sdpo_base_kl"),
    "repair srpo_random": RepairConfig(**SMALL, repair="srpo_random"),
    "repair opsa": RepairConfig(**SMALL, repair="opsa", temperature=0.8),
    "grpo, as in the paper": GRPOConfig(**SMALL),
    "grpo, standardised, mean per completion": GRPOConfig(
        **SMALL, scale_rewards=True, aggregation="sequence_mean", temperature=0.8
    ),
}
LOOSER = {"sdpo, a live teacher, feedback": (2e-6, 1e-3), "repair rlcsd": (2e-5, 3e-4)}


@pytest.mark.parametrize("case", CASES)
def test_the_same_rollouts_give_the_same_losses_and_gradients(case, tmp_path):
    config = CASES[case]
    method = next(name for name, kind in CONFIGS.items() if type(config) is kind)
    data = "kata" if "feedback" in getattr(config, "context", "") else "train"
    job = Job(method, "organism", data, config, per_device_rows=4, output=str(tmp_path))
    batches, losses, gradients, model = ours(job)
    assert (
        len(batches) == 2 and len(losses) == 2 * config.num_minibatches
    )  # every update teaches, or the case shows nothing
    theirs, their_gradients, trainer = trl(job, batches)
    assert len(theirs) == len(losses)
    # RLCSD's tanh(e / 0.02) and a live teacher, which is close to the student, enlarge rounding: see below
    relative, far = LOOSER.get(case, (2e-6, 2e-5))
    for mine, other in zip(losses, theirs, strict=True):
        assert other == pytest.approx(mine, rel=relative, abs=2e-7)
    for mine, other in zip(gradients, their_gradients, strict=True):
        assert set(mine) == set(other) and distance(other, mine) < far
    assert all(
        (a - b).abs().max() < 1e-3
        for a, b in zip(model.parameters(), trainer.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-3])
def test_in_float64_the_divergences_are_equal(alpha, apart):
    """What is left in float32 is rounding: it grows as teacher and student come close, and is gone in
    float64.
    """
    torch.manual_seed(0)
    student = torch.randn(50, 150, dtype=torch.float64) * 6
    teacher = student + apart * torch.randn_like(student)
    for tail in (True, False):
        found = []
        for loss in (
            lambda x: compute_topk_self_distillation_loss(
                x, teacher, distillation_topk=100, distillation_alpha=alpha, distillation_add_tail=tail
            ),
            lambda x: sdpo_token_loss(x.log_softmax(-1), teacher.log_softmax(-1), alpha, 100, tail),
        ):
            logits = student.clone().requires_grad_()
            value = loss(logits).sum()
            value.backward()
            found.append((value.item(), logits.grad))
        assert (
            found[0][0] == pytest.approx(found[1][0], rel=1e-8)
            and distance({"": found[0][1]}, {"": found[1][1]}) < 1e-9
        )


def test_trl_without_our_changes_differs(tmp_path):
    """That the comparison can fail: with TRL's own mean over completions, losses differ by hundreds of times
    the tolerance.
    """
    from trl.experimental.sdpo import SDPOTrainer

    config = SDPOConfig(**SMALL | {"steps": 1, "num_generations": 8})
    job = Job("sdpo", "organism", "train", config, per_device_rows=4, output=str(tmp_path))
    batches, losses, _, _ = ours(job)

    def back(trainer):
        trainer._compute_self_distillation_loss = lambda *given: SDPOTrainer._compute_self_distillation_loss(
            trainer, *given
        )

    theirs, _, _ = trl(job, batches, back)
    assert abs(theirs[0] - losses[0]) > 1e-3 * losses[0]
