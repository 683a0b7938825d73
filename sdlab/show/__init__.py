"""Views for notebooks: coloured text, token heat maps, progress and interactive views.

Everything is drawn in the kernel as SVG, PNG or plain HTML, without JavaScript and network, and with a text
alternative. Submodules are loaded when first used, so importing this package costs nothing.
"""

import importlib
from typing import Any

_HOME = {
    "View": "view",
    "highlight_markers": "tokens",
    "side_by_side": "tokens",
    "token_heatmap": "heatmap",
    "Board": "progress",
    "LiveBoard": "live",
    "is_headless": "progress",
    "slider_view": "widgets",
    "flipbook": "widgets",
    "trace_view": "traces",
    "trace_explorer": "traces",
    "check_callbacks": "widgets",
    "predict": "predictions",
    "reveal": "predictions",
    "change_of": "predictions",
    "draw_guess": "drawing",
    "guesses_summary": "guesses",
    "table": "tables",
    "interval_table": "tables",
    "score_table": "tables",
}
__all__ = ["setup", "charts", *_HOME]


def setup() -> None:
    """Set sdlab's chart theme and renderer and the display of tables; call it once per notebook.

    Tables then show numbers with two decimals (one from 10 on) and up to 80 characters of a text. The kernel
    will end without a last search for garbage (`sdlab.ending`).
    """
    import pandas as pd

    from sdlab.charts import picture
    from sdlab.ending import end_quickly

    end_quickly()
    picture.enable()
    pd.set_option(
        "display.float_format", lambda value: f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"
    )
    pd.set_option("display.max_colwidth", 80)
    pd.set_option("display.max_columns", 30)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sdlab.show.{_HOME[name]}"), name)
    if name == "charts":
        return importlib.import_module("sdlab.charts")
    if name in ("tokens", "progress", "widgets"):
        return importlib.import_module(f"sdlab.show.{name}")
    raise AttributeError(f"module 'sdlab.show' has no attribute {name!r}")
