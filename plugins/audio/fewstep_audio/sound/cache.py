"""Features on disk, named by a hash of all that shapes them: asked for twice, made once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def content(told: Any, *code: bytes) -> str:
    """Sixteen hexadecimal digits of whatever JSON can hold, and of bytes such as a recording or a program."""
    digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8)
    for part in code:
        digest.update(part)
    return digest.hexdigest()


def kept(
    folder: Path, kind: str, name: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays called ``<kind>-<name>`` in ``folder``, made now if they are not there.

    They are written beside and renamed, so that a half-written file is never read; nothing in them can run code.
    """
    file = folder / f"{kind}-{name}.npz"
    if not file.is_file():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{kind}-", dir=folder) as room:
            part = Path(room) / file.name
            np.savez(part, allow_pickle=False, **made)
            part.replace(file)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
