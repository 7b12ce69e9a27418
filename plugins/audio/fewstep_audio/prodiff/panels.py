"""What is measured and shown of pitch: asked for beside heard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Key, Metric, Panel, Score, Tree
from fewstep.runs import bootstrap
from fewstep.runs.media import captioned, columns, data_uri
from fewstep_audio.sound.files import cut, mel_picture
from fewstep_audio.sound.pitch import HIGHEST, LOWEST, pitch
from fewstep_audio.sound.vocoder import Vocoder

CENTS = 1200 / math.log(2)
LISTENED = 4
"""Sentences whose pitch is measured: each costs a vocoder and a tracker."""
SHOWN = 2


def pitch_gap(vocoder: Vocoder) -> Metric:
    """How far the pitch that one hears is from the pitch that was asked for."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        asked, voiced = batch.cond.data["pitch"], batch.cond.data["voiced"] > 0
        off = []
        for mel, want, where in list(zip(cut(x, batch.mask), asked, voiced, strict=True))[:LISTENED]:
            got = heard_pitch(mel, vocoder)
            both = (got > 0) & where[: len(got)]
            gap = CENTS * (got.clamp(min=1).log() - want[: len(got)])[both].abs()
            off.append(gap.median() if len(gap) else torch.tensor(1200.0))
        return bootstrap(torch.stack(off), key)

    told = (
        "Median difference between the pitch that a tracker hears after the vocoder and the one that was asked for, over "
        f"frames where both have one; the first {LISTENED} sentences. 100 cents are a semitone; a sentence without any "
        "pitch counts as an octave."
    )
    return Metric("pitch_gap", "lower", measure, "cents", told)


def heard_pitch(mel: Tensor, vocoder: Vocoder) -> Tensor:
    """(M, T) log-mel -> (T,) Hz of its sound, 0 where it has none."""
    found = pitch(vocoder(mel), vocoder.contract)
    return torch.cat([found, found.new_zeros(max(0, mel.shape[1] - len(found)))])[: mel.shape[1]]


def prosody_panel(vocoder: Vocoder) -> Panel:
    """Spectrograms under the pitch that was asked for, a line, and the pitch that is heard, dots."""

    def render(drawn: Mapping[str, Drawn]) -> str:
        batch = next(iter(drawn.values())).batch
        asked, voiced = batch.cond.data["pitch"].exp(), batch.cond.data["voiced"]
        rows = ""
        for i, text in enumerate(batch.extra["texts"][:SHOWN]):
            mels = {name: cut(item.x)[i] for name, item in drawn.items()}
            rows += f"<h3>“{escape(text)}”</h3>" + columns(
                {name: _followed(mel, asked[i] * voiced[i], name, vocoder) for name, mel in mels.items()}
            )
        return rows

    return Panel("Pitch, asked for and heard", render)


def _followed(mel: Tensor, asked: Tensor, who: str, vocoder: Vocoder) -> str:
    wide, high = mel.shape[1], mel.shape[0]
    uri = data_uri("image/png", mel_picture(mel, vocoder.contract, scale=1))
    heard = heard_pitch(mel, vocoder)
    dots = "".join(f'<circle cx="{t}" cy="{y:.1f}" r="0.9"/>' for t, y in _places(heard, high))
    lines = "".join(f'<path d="M{t} {y:.1f}h1"/>' for t, y in _places(asked[:wide], high))
    span = f"{LOWEST:.0f} to {HIGHEST:.0f} Hz from bottom to top"
    label = f"Spectrogram of {who}; its pitch, {span}: asked for (line), heard (dots)"
    inner = (
        f'<svg viewBox="0 0 {wide} {high}" width="100%" role="img" aria-label="{escape(label)}">'
        f'<image href="{uri}" width="{wide}" height="{high}"/>'
        f'<g stroke="#fff" stroke-width="1">{lines}</g><g fill="#0ff">{dots}</g></svg>'
    )
    return captioned(inner, label)


def _places(hertz: Tensor, high: int) -> list[tuple[int, float]]:
    """Frame and height in the picture of every frame that has a pitch."""
    share = (hertz.clamp(min=LOWEST) / LOWEST).log() / math.log(HIGHEST / LOWEST)
    return [(t, high * (1 - float(share[t]))) for t in range(len(hertz)) if hertz[t] > 0]
