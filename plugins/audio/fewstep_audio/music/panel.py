"""The report's section: what every contender played, with its spectrogram."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs.media import columns, picture, player
from fewstep_audio.sound.files import mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder

SHOWN = 3
TRUTH = "held-out music, resynthesized"


def music_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures; all sounds went through the same vocoder, so that only the spectrograms differ."""
    return Panel("Music", lambda drawn: _samples(drawn, vocoder))


def _samples(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    batch = next(iter(drawn.values())).batch
    played = {TRUTH: batch.x["mel"]} | {name: item.x["mel"] for name, item in drawn.items()}
    return "".join(
        f"<h3>{escape(told)}</h3>"
        + columns({who: _played(mels[row], who, told, vocoder) for who, mels in played.items()})
        for row, told in enumerate(batch.extra["texts"][:SHOWN])
    )


def _played(mel: Tensor, who: str, told: str, vocoder: Vocoder) -> str:
    sound = wav_bytes(vocoder(mel), vocoder.contract.rate)
    image = mel_picture(mel, vocoder.contract, scale=1)
    return player("audio/wav", sound, f"{who}: {told}") + picture(
        image, f"Mel spectrogram of {who}: {told}", caption=False
    )
