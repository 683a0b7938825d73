"""Trackers: where a run writes its numbers in addition to its folder."""

from collections.abc import Callable
from typing import Any

from sdlab.errors import SdlabError, unknown

TRACKERS = ("tensorboard",)


def summary_writer(tracker: str | None) -> Callable[..., Any] | None:
    """Return TensorBoard's writer class, or None without a tracker; only this imports TensorBoard.

    Raises SdlabError for an unknown tracker, and when TensorBoard is not installed.
    """
    if tracker is None:
        return None
    if tracker not in TRACKERS:
        raise unknown("tracker", tracker, TRACKERS)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SdlabError("the tracker tensorboard is not installed; run `pip install tensorboard`") from None
    return SummaryWriter
