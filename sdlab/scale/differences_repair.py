"""The rows of the differences table that concern the repairs of self-distillation."""

from sdlab.scale.differences_sdpo import teacher_rows
from sdlab.scale.differences_shared import Difference
from sdlab.scale.job import Job, config_as
from sdlab.scale.repair_rules import not_resumed, repair_of, teacher_arguments
from sdlab.text.plural import plural
from sdlab.train.repairs.catalogue import CATALOGUE, GRADES
from sdlab.train.repairs.named import RepairConfig


def repair_rows(job: Job) -> list[Difference]:
    """Return the rows of a repair: what its hooks put in the place of TRL's own parts.

    The column of the paper is about arXiv 2603.24472, which trains SDPO; the repair has its own paper.

    Raises SdlabError where TRL has no place for the repair.
    """
    config = config_as(job, RepairConfig)
    repair, entry = repair_of(config), CATALOGUE[config.repair]
    arguments = teacher_arguments(repair, config.num_minibatches)
    rule = repair.teacher
    weights = {
        "base": "fixed",
        "live": "the student itself",
        "ema": f"EMA, rate {rule.rate:g} per step",
        "snapshot": f"the student's, taken every {rule.every} steps",
    }[rule.kind]
    no_teacher = not repair.views and not repair.reads_base
    rows = [
        Difference(
            "method",
            trl="SDPO",
            paper="SDPO and GRPO",
            run=f"{config.repair} ({entry.paper}, from {GRADES[entry.grade]})",
            how="override: StudyRepairTrainer",
        ),
        Difference(
            "what the teacher sees",
            trl="the prompt with the first right sibling",
            paper="the prompt with the first right sibling",
            run=plural(len(repair.views), "view") + " of the repair"
            if repair.views
            else "there is no teacher",
            how="override: RepairContext",
        ),
        Difference(
            "teacher",
            trl="EMA, rate 0.05 per update",
            paper="fixed (EMA 0.05 in an ablation)",
            run="none" if no_teacher else weights,
            how="teacher_model_kind, teacher_update_rate, teacher_sync_steps",
        ),
        Difference(
            "weights of tokens",
            trl="equal in a completion",
            paper="equal in a minibatch",
            run="the hook weights, with the signals of the whole step on all processes",
            how="override: StudyRepairTrainer.divide",
        ),
        Difference(
            "loss of a token",
            trl="the divergence alone (distillation_weight=1)",
            paper="the divergence alone",
            run="divergence, policy loss and regulariser of the repair",
            how="override: StudyRepairTrainer.compute_loss",
        ),
        Difference(
            "state between steps",
            trl="none",
            paper="none",
            run=f"not resumed: checkpoints lack {lost}" if (lost := not_resumed(repair)) else "none",
            how="override: StudyRepairTrainer.divide",
        ),
    ]
    return rows + teacher_rows(job, arguments["teacher_model_kind"], "RepairContext", "StudyRepairTrainer")
