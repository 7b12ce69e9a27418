"""What is left behind: run folders, evaluations, reports, model cards and exported students.

Names are imported at first use, so that listing commands stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.runs.evaluation import Evaluation as Evaluation
    from fewstep.runs.evaluation import evaluate as evaluate
    from fewstep.runs.folder import find_run as find_run
    from fewstep.runs.handle import Run as Run
    from fewstep.runs.handle import Samples as Samples
    from fewstep.runs.intervals import bootstrap as bootstrap
    from fewstep.runs.intervals import bootstrap_statistic as bootstrap_statistic
    from fewstep.runs.runner import load as load
    from fewstep.runs.runner import run as run

_HOMES = {
    "bootstrap": "intervals",
    "bootstrap_statistic": "intervals",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "Run": "handle",
    "Samples": "handle",
    "find_run": "folder",
    "load": "runner",
    "run": "runner",
}

__all__ = [
    "Evaluation",
    "Run",
    "Samples",
    "bootstrap",
    "bootstrap_statistic",
    "evaluate",
    "find_run",
    "load",
    "run",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
