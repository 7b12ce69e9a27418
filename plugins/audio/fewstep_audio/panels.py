"""The report's section: held-out sentences, spoken by every contender, with their spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs.media import columns, picture, player
from fewstep_audio.sound.files import cut, mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder

SHOWN = 3
TRUTH = "espeak-ng, resynthesized"


def speech_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures; all sounds went through the same vocoder, so that only the spectrograms differ."""
    return Panel("Speech", lambda drawn: _sentences(drawn, vocoder) + _real_time(drawn, vocoder))


def _sentences(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    batch = next(iter(drawn.values())).batch
    frames = batch.mask.flatten(1).sum(1)
    spoken = {TRUTH: cut({"mel": batch.x["mel"], "frames": frames})}
    spoken |= {name: cut(item.x) for name, item in drawn.items()}
    texts = batch.extra["texts"][:SHOWN]
    return "".join(
        f"<h3>“{escape(text)}”</h3>"
        + columns({who: _spoken(mels[i], who, text, vocoder) for who, mels in spoken.items()})
        for i, text in enumerate(texts)
    )


def _spoken(mel: Tensor, who: str, text: str, vocoder: Vocoder) -> str:
    sound = wav_bytes(vocoder(mel), vocoder.contract.rate)
    seen = f"Mel spectrogram of {who} saying “{text}”"
    return player("audio/wav", sound, f"{who}: “{text}”") + picture(
        mel_picture(mel, vocoder.contract), seen, caption=False
    )


def _real_time(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    """Seconds of sound per second of work, the vocoder not counted."""
    lines = [
        f"<li>{escape(name)}: {item.evaluations} network calls, "
        f"{_seconds(item, vocoder) / max(item.seconds, 1e-9):.0f} seconds of speech per second</li>"
        for name, item in drawn.items()
    ]
    return "<h3>Speed, without the vocoder</h3><ul>" + "".join(lines) + "</ul>"


def _seconds(item: Drawn, vocoder: Vocoder) -> float:
    return float(item.x["frames"].sum()) * vocoder.contract.hop / vocoder.contract.rate
