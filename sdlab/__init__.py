"""See why self-distillation sometimes makes a reasoning model worse (arXiv 2603.24472).

The import of the package is fast: each name below loads its libraries when it is first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdlab.benchmarks.problems import load_problems
    from sdlab.front import evaluate, fit
    from sdlab.measure.comparison import compare
    from sdlab.measure.evaluation import summarise
    from sdlab.rollout.loading import load_engine
    from sdlab.rollout.types import SamplingParams
    from sdlab.study.recorded import load_recorded

__version__ = "0.1.0"
__all__ = [
    "SamplingParams",
    "compare",
    "evaluate",
    "fit",
    "load_engine",
    "load_problems",
    "load_recorded",
    "summarise",
]

_HOME = {
    "SamplingParams": "sdlab.rollout.types",
    "compare": "sdlab.measure.comparison",
    "evaluate": "sdlab.front",
    "fit": "sdlab.front",
    "load_engine": "sdlab.rollout.loading",
    "load_problems": "sdlab.benchmarks.problems",
    "load_recorded": "sdlab.study.recorded",
    "summarise": "sdlab.measure.evaluation",
}

# oneDNN keeps compiled kernels and scratch memory for up to 1,024 matrix shapes. Every micro-batch has a new
# shape, so a training run would grow by hundreds of megabytes. oneDNN reads them at the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")


def __getattr__(name: str) -> Any:
    """Load one of the names in `__all__` when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'sdlab' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
