"""The report's section: sentences, spoken by every contender, with their spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from torch import Tensor

from fewstep.protocol import Batch, Drawn, Panel
from fewstep.runs.media import columns, picture, player
from fewstep_audio.sound.files import cut, mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder

SHOWN = 3
TRUTH = "espeak-ng, resynthesized"


def speech_panel(vocoder: Vocoder) -> Panel:
    """Players and pictures; all sounds went through the same vocoder, so that only the spectrograms differ."""
    return Panel("Speech", lambda drawn: _sentences(drawn, vocoder) + _real_time(drawn, vocoder))


def _sentences(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    """The first sentences; whoever did not say one of them is left out there."""
    batch = next(iter(drawn.values())).batch
    said = {name: _mels(item.x, item.batch) for name, item in drawn.items()}
    if batch.x is not None:
        said = {TRUTH: _mels({"mel": batch.x["mel"], "frames": batch.mask.flatten(1).sum(1)}, batch), **said}
    parts = []
    for row, text in enumerate(batch.extra["texts"][:SHOWN]):
        heard = {who: _nearest(mels, text, row) for who, mels in said.items()}
        players = {who: _spoken(mel, who, text, vocoder) for who, mel in heard.items() if mel is not None}
        parts.append(f"<h3>“{escape(text)}”</h3>" + columns(players))
    return "".join(parts)


def _mels(x: Mapping[str, Tensor], batch: Batch) -> list[tuple[str, Tensor]]:
    """(text, log-mel without padding) of every row."""
    return list(zip(batch.extra["texts"], cut(x), strict=True))


def _nearest(mels: list[tuple[str, Tensor]], text: str, row: int) -> Tensor | None:
    """The mel of that text, of that row where several rows say it."""
    if row < len(mels) and mels[row][0] == text:
        return mels[row][1]
    return next((mel for said, mel in mels if said == text), None)


def _spoken(mel: Tensor, who: str, text: str, vocoder: Vocoder) -> str:
    sound = wav_bytes(vocoder(mel), vocoder.contract.rate)
    seen = f"Mel spectrogram of {who} saying “{text}”"
    return player("audio/wav", sound, f"{who}: “{text}”") + picture(
        mel_picture(mel, vocoder.contract), seen, caption=False
    )


def _real_time(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    """Seconds of sound per second of work, the vocoder not counted."""
    lines = [
        f"<li>{escape(name)}: {item.evaluations} network call{'' if item.evaluations == 1 else 's'}, "
        f"{_seconds(item, vocoder) / max(item.seconds, 1e-9):.0f} seconds of speech per second</li>"
        for name, item in drawn.items()
    ]
    return "<h3>Speed, without the vocoder</h3><ul>" + "".join(lines) + "</ul>"


def _seconds(item: Drawn, vocoder: Vocoder) -> float:
    return float(item.x["frames"].sum()) * vocoder.contract.hop / vocoder.contract.rate
