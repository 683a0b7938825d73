"""What a repair costs beyond SDPO's and GRPO's own passes, for `sdlab.scale.costs`."""

from sdlab.scale.repair_rules import repair_of
from sdlab.train.repairs.catalogue import CATALOGUE
from sdlab.train.repairs.hooks import Repair, first_view
from sdlab.train.repairs.named import RepairConfig

# Bytes per completion token and vocabulary entry, measured on the repairs' losses (in the tests).
STUDENT, STACKED_VIEW, REGULARISER = 16, 8, 16
VIEW, WHOLE_VIEW, EDITED_VIEW = 4, 12, 24


def repair_flops(config: RepairConfig, informed: float) -> dict[str, float]:
    """Return the FLOPs per row of the passes of a repair besides the student's own update.

    informed: the FLOPs of one forward pass with a demonstration. The signals take the passes of the
    catalogue, and the views are computed once more in the update. Both are upper bounds: every prompt is
    counted with a whole demonstration, and a repair with a policy loss alone needs no view in its update.
    """
    passes, again = CATALOGUE[config.repair].passes, len(repair_of(config).views)
    return {
        f"signals: {passes} x forward": passes * informed,
        f"views in the update: {again} x forward": again * informed,
    }


def repair_logit_bytes(repair: Repair) -> int:
    """Return the peak bytes per completion token and vocabulary entry of a repair's loss.

    A divergence over the whole vocabulary keeps several tables of each view for its backward pass, more where
    the repair makes its own target; one over the likeliest tokens keeps only the view itself. Many views are
    held twice while they are put together.
    """
    views, edited = len(repair.views), repair.target is not first_view
    each = VIEW if repair.divergence.top_k is not None else EDITED_VIEW if edited else WHOLE_VIEW
    held = max(STUDENT + each * views, STACKED_VIEW * views)
    return held + (REGULARISER if repair.regulariser else 0)
