"""Charts of tables: a tidy DataFrame in, an Altair chart with a text alternative out.

Modules are loaded when first used, so importing this package costs nothing.
"""

import importlib
from typing import Any

_HOME = {
    "alarm_chart": "alarm",
    "arena_map": "arena",
    "interval_bars": "bars",
    "interval_points": "bars",
    "context_table_chart": "bars",
    "marker_breakdown": "bars",
    "accumulation_chart": "coverage",
    "exposure_bars": "coverage",
    "exposure_histogram": "coverage",
    "silhouette_chart": "coverage",
    "run_curves": "curves",
    "split_curves": "curves",
    "fall_chart": "doubt",
    "doubt_chart": "doubt",
    "models_and_colours": "evaluations",
    "pass_rates": "evaluations",
    "pass_at_k_curves": "evaluations",
    "entropy_markers": "information",
    "information_curve": "information",
    "information_markers": "information",
    "rate_histogram": "histogram",
    "dose_curves": "mechanism",
    "layer_curves": "mechanism",
    "setting_multiples": "multiples",
    "clip_chart": "objectives",
    "divergence_chart": "objectives",
    "question_curves": "questions",
    "transfer_points": "questions",
    "rate_curves": "rates",
    "score_against_length": "score_length",
    "figure_to_come": "untrained",
    "base_rate_chart": "untrained",
    "relative_changes": "changes",
    "causes_chart": "changes",
    "CONTEXT_COLOURS": "style",
    "METHOD_LABELS": "style",
    "METHOD_COLOURS": "style",
    "METRIC_LABELS": "style",
    "need": "style",
    "field": "style",
    "datum": "style",
    "tip": "style",
    "number": "style",
    "label_colours": "style",
    "known_labels": "style",
    "chart_title": "style",
    "rows_in_words": "style",
    "training_curves": "training",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sdlab.charts.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sdlab.charts' has no attribute {name!r}")
