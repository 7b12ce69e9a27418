"""The section of the report: several styles of one text, as sound, as curves of the pitch, and as a cloud."""

from __future__ import annotations

from fewstep.protocol import Panel
from fewstep_audio.sound.vocoder import Vocoder


def style_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures."""
    return Panel("Styles", lambda drawn: "")
