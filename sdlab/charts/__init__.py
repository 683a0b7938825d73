"""Charts of tables: every function takes a tidy DataFrame and returns an Altair chart with a text alternative.

Modules are loaded when first used, so importing this package costs nothing.
"""

import importlib

_HOME = {
    "accumulation_chart": "coverage",
    "exposure_bars": "coverage",
    "exposure_histogram": "coverage",
    "silhouette_chart": "coverage",
    "run_curves": "curves",
    "split_curves": "curves",
    "pass_rates": "evaluations",
    "pass_at_k_curves": "evaluations",
    "score_against_length": "evaluations",
    "question_curves": "questions",
    "transfer_points": "questions",
    "rate_curves": "rates",
    "figure_to_come": "story",
    "fall_chart": "story",
    "doubt_chart": "story",
    "base_rate_chart": "story",
    "relative_changes": "story",
    "causes_chart": "story",
    "clip_chart": "story",
    "divergence_chart": "story",
    "CONTEXT_COLOURS": "style",
    "METHOD_LABELS": "style",
    "METHOD_COLOURS": "style",
    "METRIC_LABELS": "style",
    "need": "style",
    "field": "style",
    "datum": "style",
    "tip": "style",
    "number": "style",
    "interval_bars": "style",
    "interval_points": "style",
    "context_table_chart": "style",
    "marker_breakdown": "style",
    "entropy_markers": "style",
    "information_curve": "style",
    "information_markers": "style",
    "training_curves": "style",
}
__all__ = [*_HOME]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"sdlab.charts.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sdlab.charts' has no attribute {name!r}")
