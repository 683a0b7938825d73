"""What TRL has no place for in a repair, and how TRL keeps the weights of a repair's teacher."""

from sdlab.errors import SdlabError
from sdlab.train.repairs.hooks import Repair, keep_nothing
from sdlab.train.repairs.named import RepairConfig, repair_named
from sdlab.train.repairs.weighed import check_group

OWN_LOOP = "run it with `sdlab train repair`"


def repair_of(config: RepairConfig) -> Repair:
    """Return the repair that a config names, if TRL's trainers can run it.

    Raises SdlabError, which names the repair and the hook, where TRL has no place for it, and when the group
    is too small for a view.
    """
    repair = repair_named(config.repair)
    check_group(repair, config.num_generations)
    if repair.teacher.kind == "trust_region":
        raise SdlabError(
            f"repair {repair.name!r}: its teacher mixes the logits of two networks, and TRL holds one "
            f"teacher; {OWN_LOOP}"
        )
    if repair.teacher.kind != "base" and _reads_start(repair):
        raise SdlabError(
            f"repair {repair.name!r}: it reads the model before training beside a teacher that is "
            f"{repair.teacher.kind!r}, and TRL holds one network beside the student; {OWN_LOOP}"
        )
    return repair


def teacher_arguments(repair: Repair, updates: int) -> dict:
    """Return TRL's settings of the teacher's weights. updates: optimizer updates per step.

    A snapshot is TRL's moving average with rate 1. A repair that reads no teacher gets the student itself,
    which needs no memory.
    """
    rule = repair.teacher
    if not repair.views and not _reads_start(repair):
        return {"teacher_model_kind": "live", "teacher_sync_steps": updates}
    if rule.kind == "snapshot":
        return {
            "teacher_model_kind": "ema",
            "teacher_update_rate": 1.0,
            "teacher_sync_steps": rule.every * updates,
        }
    return {
        "teacher_model_kind": rule.kind,
        "teacher_update_rate": rule.rate,
        "teacher_sync_steps": updates,
    }


def not_resumed(repair: Repair) -> str:
    """Return what of a repair TRL's checkpoints do not hold, or ""."""
    if repair.advance is not keep_nothing:
        return "the state of the repair"
    return "the weights of the teacher" if repair.teacher.kind in ("ema", "snapshot") else ""


def _reads_start(repair: Repair) -> bool:
    """Return whether the repair reads the model from which training started, whatever its teacher is."""
    return repair.reads_base or any(view.model == "base" for view in repair.views)
