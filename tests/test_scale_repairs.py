"""Repairs at scale: what TRL has a place for, the teacher's weights, how rows are divided, what it costs.

That a step equals the study's own is in test_scale_agreement.py, with two processes in test_scale_train.py.
"""

import pytest
import torch

from sdlab.errors import SdlabError
from sdlab.scale.checks import check_job
from sdlab.scale.costs import has_teacher_copy, update_flops
from sdlab.scale.differences import differences
from sdlab.scale.hardware import shape_of
from sdlab.scale.job import Job, read_job, write_job
from sdlab.scale.repair_costs import repair_logit_bytes
from sdlab.scale.repair_rules import not_resumed, repair_of, teacher_arguments
from sdlab.scale.train import last_checkpoint
from sdlab.scale.trl_config import trl_arguments
from sdlab.train.batch import minibatches
from sdlab.train.losses import all_logps
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.loop import stretches
from sdlab.train.repairs.loss import Tokens, token_terms, total
from sdlab.train.repairs.named import RepairConfig, repair_named

NO_PLACE = {"sdpg"}  # a live teacher beside a regulariser that reads the model before training


def job_of(name: str, **settings) -> Job:
    return Job("repair", "organism", "train", RepairConfig(repair=name), per_device_rows=1, **settings)


def test_trl_has_a_place_for_every_repair_of_the_catalogue_but_one():
    for name in CATALOGUE:
        if name in NO_PLACE:
            with pytest.raises(
                SdlabError, match=f"repair '{name}': it reads the model before training beside"
            ):
                repair_of(RepairConfig(repair=name))
        else:
            assert repair_of(RepairConfig(repair=name)).name == name
            trl_arguments(job_of(name))


def test_what_cannot_run_is_refused_before_anything_loads():
    pytest.importorskip("trl")
    pytest.importorskip("datasets")
    with pytest.raises(SdlabError, match="run it with `sdlab train repair`"):
        check_job(job_of("sdpg"))
    small = RepairConfig(repair="rlcsd", num_generations=2)
    with pytest.raises(SdlabError, match="repair 'rlcsd': views.* needs .* num_generations is 2"):
        check_job(Job("repair", "organism", "train", small))


def test_a_job_keeps_its_repair(tmp_path):
    job = job_of("srpo")
    assert read_job(write_job(job, tmp_path / "job.json")) == job
    text = (tmp_path / "job.json").read_text().replace('"srpo"', '"srop"')
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(SdlabError, match="repair 'srop'.*srpo"):
        read_job(tmp_path / "job.json")


@pytest.mark.parametrize(
    "name, kind, rate, every",
    [("opsd_clip", "base", 0.05, 2), ("rlsd", "ema", 1.0, 20), ("grpo", "live", None, 2),
     ("grpo_base_kl", "base", 0.05, 2)],
)  # fmt: skip
def test_the_teacher_has_the_weights_of_the_repairs_rule(name, kind, rate, every):
    """A snapshot every 10 steps of two updates is a moving average of rate 1; no teacher needs no copy."""
    found = teacher_arguments(repair_named(name), 2)
    assert (found["teacher_model_kind"], found["teacher_sync_steps"]) == (kind, every)
    assert found.get("teacher_update_rate") == rate
    assert has_teacher_copy(job_of(name)) == (kind != "live")


def test_a_snapshot_is_the_student_of_that_step():
    """TRL's own callback, with these settings, against a copy."""
    teacher_sync = pytest.importorskip("trl.experimental.sdpo.teacher_sync")
    from types import SimpleNamespace

    from accelerate import Accelerator

    Accelerator(cpu=True)  # the callback asks its state
    student, teacher = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    first = teacher.weight.detach().clone()
    settings = SimpleNamespace(**teacher_arguments(repair_named("rlcsd"), 2))
    callback = teacher_sync.SyncTeacherModelCallback(teacher_model=teacher)
    for update in range(1, 25):
        with torch.no_grad():
            student.weight.add_(1.0)
        callback.on_step_end(settings, SimpleNamespace(global_step=update), None, model=student)
        if update < 20:
            assert torch.equal(teacher.weight, first)
        if update == 20:
            taken = student.weight.detach().clone()
    assert torch.equal(teacher.weight, taken)


def test_runs_whose_state_is_not_saved_are_not_resumed(tmp_path):
    assert {name for name in CATALOGUE if not not_resumed(repair_named(name))} >= {
        "opsd_clip",
        "srpo",
        "grpo",
    }
    for name, lost in (("rlsd", "the state of the repair"), ("rlcsd", "the weights of the teacher")):
        with pytest.raises(SdlabError, match=f"repair '{name}' cannot be resumed: TRL does not save {lost}"):
            last_checkpoint(job_of(name, output=str(tmp_path)))
    assert last_checkpoint(job_of("srpo", output=str(tmp_path))) is None


@pytest.mark.parametrize("counted", [[], [5], [0, 1], [0, 3, 4, 7, 8, 9], list(range(12)), [10, 11]])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_the_hooks_of_an_update_see_the_rows_of_the_studys_own_minibatch(counted, updates):
    pytest.importorskip("trl")
    from sdlab.scale.repair_rows import windows_of
    from sdlab.scale.study_trainer import spread

    found = windows_of(counted, 12, updates)
    assert list(found.values()) == stretches(counted, 12, updates)
    assert [[row for row in part if row in counted] for part in found.values()] == minibatches(
        counted, updates
    )
    # TRL computes these rows in the same update
    order, size = spread([row in counted for row in range(12)], updates), 12 // updates
    for update in range(updates):
        computed = [row for row in order[update * size : (update + 1) * size] if row in counted]
        assert computed == [row for row in found.get(update, []) if row in counted]


def test_the_rows_of_the_table_are_those_of_the_repair():
    rows = {row.what: row.run for row in differences(job_of("rlsd"))}
    assert rows["method"] == "rlsd (2604.03128, from the authors' code)"
    assert rows["what the teacher sees"] == "1 view of the repair"
    assert rows["teacher"] == "the student's, taken every 10 steps"
    assert rows["state between steps"] == "not resumed: checkpoints lack the state of the repair"
    rows = {row.what: row.run for row in differences(job_of("grpo"))}
    assert (rows["what the teacher sees"], rows["teacher"]) == ("there is no teacher", "none")
    assert len({row.what for row in differences(job_of("srpo"))}) == len(differences(job_of("srpo")))


def peak_per_logit(name: str, tokens: int = 64, vocab: int = 4096) -> float:
    """Measure the most bytes per token and vocabulary entry that a repair's loss holds."""
    from test_scale_estimate import peak_bytes

    repair, one = repair_named(name), torch.ones(tokens) / tokens

    def logps(weight):
        logits = torch.nn.functional.linear(torch.randn(1, tokens + 1, 32, dtype=torch.bfloat16), weight)
        return all_logps(logits.float()[:, :-1])[torch.ones(1, tokens).bool()]

    def work():
        weight = torch.randn(vocab, 32, dtype=torch.bfloat16)
        views = torch.stack([logps(weight) for _ in repair.views]) if repair.views else None
        found = Tokens(
            logps(weight.requires_grad_()),
            torch.zeros(tokens, dtype=torch.long),
            torch.zeros(tokens),
            views=views,
            base=logps(weight.detach()) if repair.reads_base else None,
            distil=one if repair.views else None,
            policy=one if repair.advantage else None,
            advantage=one if repair.advantage else None,
            mean=one if repair.regulariser else None,
        )
        total(token_terms(repair, found, {"beta": 1.0}), found).backward()

    work()
    return peak_bytes(work) / (tokens * vocab)


@pytest.mark.parametrize(
    "name", ["sdpo", "grpo", "opsd_clip", "opsd_ectr", "rlcsd", "avsd_full", "purified_opsd", "sdpo_base_kl"]
)
def test_bytes_per_logit_are_near_what_the_loss_holds_at_its_peak(name):
    assert 0.9 < repair_logit_bytes(repair_named(name)) / peak_per_logit(name) < 1.6


def test_passes_are_those_of_the_catalogue():
    found = update_flops(job_of("rlcsd"), shape_of("organism"), 100)
    assert {"signals: 5 x forward", "views in the update: 5 x forward"} <= set(found)
    assert found["signals: 5 x forward"] == found["views in the update: 5 x forward"]
    assert found["signals: 5 x forward"] > 5 * found["log-probabilities before the update"]
