"""fewstep: slow many-step generative teachers become few-step students, in any modality.

>>> import fewstep
>>> run = fewstep.run("audio/comospeech", profile="smoke")  # doctest: +SKIP
>>> run.sample(4)  # doctest: +SKIP

Names are imported when first used, so ``import fewstep`` costs milliseconds and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.errors import FewstepError as FewstepError
    from fewstep.plugins.loader import recipes as recipes
    from fewstep.runs import load as load
    from fewstep.runs import run as run

__version__ = "0.1.0"

_HOMES = {
    "FewstepError": "fewstep.errors",
    "load": "fewstep.runs",
    "recipes": "fewstep.plugins.loader",
    "run": "fewstep.runs",
}

__all__ = ["FewstepError", "__version__", "load", "recipes", "run"]


def __getattr__(name: str) -> object:
    """Import a public name from its home at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fewstep' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted([*globals(), *_HOMES])
