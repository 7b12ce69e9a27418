"""Packages that only listening needs: imported where they are used, and named with their install line if missing."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from fewstep.errors import FewstepError

LISTENING = 'pip install "fewstep[listening]"'


def needed(module: str, what: str, install: str = LISTENING) -> ModuleType:
    """The module, imported now.

    Args:
        module: as in an import statement.
        what: what needs it, as the error begins.
        install: the line that brings it.

    Raises:
        FewstepError: it is not installed, or does not import.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise FewstepError(f"{what} needs the package {module} ({error})", "", install) from error


def shipped(package: str, inside: str, what: str, install: str) -> Path:
    """A data file of a package, found without running any code of it.

    Raises:
        FewstepError: the package is not installed, or has no such file.
    """
    found = util.find_spec(package)
    folders = [] if found is None else list(found.submodule_search_locations or ())
    for folder in folders:
        if (file := Path(folder, inside)).is_file():
            return file
    raise FewstepError(f"{what} needs the file {inside} of the package {package}", "", install)


def at_rate(wave: Tensor, rate: int, wanted: int) -> Tensor:
    """(..., N) samples at ``rate`` -> (..., N') at ``wanted``, by windowed sinc.

    Raises:
        FewstepError: torchaudio is not there, or is of another torch.
    """
    if rate == wanted:
        return wave
    return _resampler(rate, wanted)(wave.float().cpu())


@lru_cache(maxsize=8)
def _resampler(rate: int, wanted: int) -> torch.nn.Module:
    transforms = needed("torchaudio", "another sampling rate", 'pip install "fewstep[audio]"').transforms
    return transforms.Resample(rate, wanted)
