"""What is left behind: run folders, evaluations, reports, model cards and exported students.

Names are imported at first use, so that listing commands stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.runs.evaluation import Evaluation as Evaluation
    from fewstep.runs.evaluation import evaluate as evaluate
    from fewstep.runs.intervals import bootstrap as bootstrap
    from fewstep.runs.intervals import bootstrap_statistic as bootstrap_statistic

_HOMES = {
    "bootstrap": "intervals",
    "bootstrap_statistic": "intervals",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
}

__all__ = ["Evaluation", "bootstrap", "bootstrap_statistic", "evaluate"]


def __getattr__(name: str) -> object:
    """Import a public name from its home at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
