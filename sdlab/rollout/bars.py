"""Hide the progress bars of other packages where nobody watches them."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partialmethod
from unittest.mock import patch


@contextmanager
def hide_progress(active: bool) -> Generator[None]:
    """Hide the progress bars of transformers and gguf inside, if `active` or where nobody watches them.

    A file of 4 MB loads before its bar is drawn, and the finished bar would stay in the notebook. In a log
    every state of a bar would stay (`bars_are_watched`).
    """
    if not active and bars_are_watched():
        yield
        return
    import tqdm
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # transformers draws the bar of a GGUF file with tqdm itself, which has no switch for running programs
        with patch.object(tqdm.tqdm, "__init__", partialmethod(tqdm.tqdm.__init__, disable=True)):
            yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def bars_are_watched() -> bool:
    """Return whether stderr is a terminal, or this is a notebook that a reader executes."""
    kernel = "ipykernel" in sys.modules and os.environ.get("SDLAB_HEADLESS", "") in ("", "0")
    return kernel or sys.stderr.isatty()
