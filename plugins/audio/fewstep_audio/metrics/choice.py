"""What a run may be asked to listen for, in ``-s listen=words,speaker``: names, and whether their packages are there.

Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

from fewstep.errors import FewstepError

Kind: TypeAlias = Literal["words", "speaker", "quality", "melody", "cepstrum", "frechet"]
"""Word error rate; similarity of voices; DNSMOS; pitch and voicing; mel-cepstral distortion; Frechet distances."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_LISTENING = 'pip install "fewstep[listening]"'
_VOICES = ("resemblyzer", "pip install --no-deps resemblyzer")
PACKAGES: dict[Kind, tuple[tuple[str, str], ...]] = {
    "words": (("pocketsphinx", _LISTENING),),
    "speaker": (_VOICES,),
    "quality": (("speechmos", _LISTENING), ("onnxruntime", _LISTENING)),
    "melody": (("pyworld", 'pip install "fewstep[singing]"'),),
    "cepstrum": (),
    "frechet": (_VOICES,),
}
"""What each needs beside the extra ``audio``, and the line that brings it."""


def missing(kinds: Sequence[Kind]) -> dict[Kind, list[str]]:
    """Kinds that cannot be heard, each with the install lines of what it lacks."""
    lines = {
        kind: [line for package, line in PACKAGES[kind] if find_spec(package) is None]
        for kind in dict.fromkeys(kinds)
    }
    return {kind: list(dict.fromkeys(found)) for kind, found in lines.items() if found}


def check_ears(kinds: Sequence[Kind]) -> None:
    """Find a missing package before work is spent.

    Raises:
        FewstepError: naming every kind that cannot be heard, and every install line.
    """
    lacking = missing(kinds)
    if lacking:
        lines = dict.fromkeys(line for found in lacking.values() for line in found)
        raise FewstepError(
            f"listen={','.join(lacking)} cannot be measured: packages are missing", "", " && ".join(lines)
        )
