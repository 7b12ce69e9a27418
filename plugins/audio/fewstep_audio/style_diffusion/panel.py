"""The section of the report: several styles of one text, as sound, as curves of the pitch, and as a cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import torch
from torch import Tensor

from fewstep.protocol import Batch, Drawn, Key, Panel, Tree
from fewstep.runs import bootstrap
from fewstep.runs.charts import Axis, lines
from fewstep.runs.media import columns, picture, player, table
from fewstep_audio.sound.files import mel_picture, wav_bytes
from fewstep_audio.sound.vocoder import Vocoder
from fewstep_audio.style_diffusion.measure import centered, log_rate, mean_pitch, nearest_prompt, spread

TEXTS, SEEDS = 2, 3
"""Texts that are shown, and noises of each that are heard."""

SHOWN = ("teacher", "student", "teacher_1step")
TRUTH = "espeak-ng, resynthesized"
WIDE, HIGH, LEFT, BOTTOM = 300.0, 230.0, 46.0, 40.0


def style_panel(vocoder: Vocoder) -> Panel:
    """Players, curves and clouds; all sounds went through the same vocoder, so that only the spectrograms differ."""
    return Panel("Styles", lambda drawn: _prompts(drawn, vocoder) + _clouds(drawn, vocoder) + _knob(drawn))


def _prompts(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    batch = next(iter(drawn.values())).batch
    said = {TRUTH: batch.x, **{who: item.x for who, item in drawn.items() if who in SHOWN}}
    group = batch.extra["group"]
    return "".join(
        _text(number, torch.nonzero(group == number)[:SEEDS, 0].tolist(), batch, said, vocoder)
        for number in range(min(TEXTS, int(group.max()) + 1))
    )


def _text(number: int, rows: Sequence[int], batch: Batch, said: Mapping[str, Tree], vocoder: Vocoder) -> str:
    text, voice = batch.extra["texts"][rows[0]], batch.extra["voices"][number]
    prompt = wav_bytes(vocoder(batch.extra["prompts"][number]), vocoder.contract.rate)
    heard = {
        who: "".join(_spoken(x, row, f"{who}, noise {place}", vocoder) for place, row in enumerate(rows, 1))
        + _curves(x, rows, who, vocoder)
        for who, x in said.items()
    }
    return (
        f"<h3>“{escape(text)}” in a voice never trained on ({escape(voice)})</h3>"
        + player("audio/wav", prompt, f"The prompt: {voice} saying something else")
        + columns(heard)
    )


def _spoken(x: Tree, row: int, label: str, vocoder: Vocoder) -> str:
    mel = x["mel"][row, :, : int(x["frames"][row].sum())]
    return player("audio/wav", wav_bytes(vocoder(mel), vocoder.contract.rate), label) + picture(
        mel_picture(mel, vocoder.contract, 1), f"Mel spectrogram: {label}", caption=False
    )


def _curves(x: Tree, rows: Sequence[int], who: str, vocoder: Vocoder) -> str:
    """Pitch of every phone at the middle of its time."""
    series = [
        (f"noise {place}", pitch_curve(x["prosody"][row], x["frames"][row], vocoder))
        for place, row in enumerate(rows, 1)
    ]
    return lines(f"Pitch, {who}", "milliseconds", "Hz", series)


def pitch_curve(prosody: Tensor, frames: Tensor, vocoder: Vocoder) -> list[tuple[int, float]]:
    """(P, 3), (P,) -> milliseconds and Hz of each phone that lasts."""
    middle = (frames.cumsum(0) - frames / 2) * 1000 * vocoder.contract.hop / vocoder.contract.rate
    there = frames > 0
    hertz = prosody[there, 0].exp()
    return [
        (round(at), round(value, 1)) for at, value in zip(middle[there].tolist(), hertz.tolist(), strict=True)
    ]


def _clouds(drawn: Mapping[str, Drawn], vocoder: Vocoder) -> str:
    """Rate and mean pitch of all noises, what text and prompt explain taken out."""
    batch = next(iter(drawn.values())).batch
    said = {TRUTH: batch.x, **{who: item.x for who, item in drawn.items() if who in SHOWN}}
    places = {who: _place(x, batch) for who, x in said.items()}
    reach = max(float(torch.stack(pair).abs().max()) for pair in places.values()) or 1.0
    clouds = {who: _cloud(who, *pair, reach) for who, pair in places.items()}
    return "<h3>Every noise: how fast, how high, relative to its text and voice</h3>" + columns(clouds)


def _place(x: Tree, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B,) and (B,) in per cent, or nearly."""
    group = batch.extra["group"]
    return 100 * centered(log_rate(x, batch), group), 100 * centered(mean_pitch(x), group)


def _cloud(who: str, rates: Tensor, pitches: Tensor, reach: float) -> str:
    x = Axis("rate, %", -reach, reach, False, LEFT, WIDE - 8)
    y = Axis("pitch, %", -reach, reach, False, HIGH - BOTTOM, 8)
    grid = "".join(
        f'<line class="grid" x1="{x.at(t):.1f}" x2="{x.at(t):.1f}" y1="{y.start:g}" y2="{y.end:g}"/>'
        f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{y.at(t):.1f}" y2="{y.at(t):.1f}"/>'
        f'<text class="tick" x="{x.at(t):.1f}" y="{y.start + 15:g}" text-anchor="middle">{t:g}</text>'
        f'<text class="tick" x="{LEFT - 5:g}" y="{y.at(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in x.ticks()
    )
    dots = "".join(
        f'<circle class="point" cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="3"/>'
        for a, b in zip(rates.tolist(), pitches.tolist(), strict=True)
    )
    told = (
        f"{who}: standard deviation of the rate {spread(rates):.1f} %, of the pitch {spread(pitches):.1f} %"
    )
    label = f'<text class="axis" x="{WIDE / 2:g}" y="{HIGH - 6:g}" text-anchor="middle">{x.label}; upwards {y.label}</text>'
    return (
        f'<figure><svg class="chart" viewBox="0 0 {WIDE:g} {HIGH:g}" role="img" aria-label="{escape(told)}">'
        f"{grid}{dots}{label}</svg><figcaption>{escape(told)}</figcaption></figure>"
    )


def _knob(drawn: Mapping[str, Drawn]) -> str:
    """What the guidance does: the student at several scales."""
    rows = []
    for who, item in drawn.items():
        if who.startswith("guidance_"):
            right = nearest_prompt(item.x, item.batch) == item.batch.extra["group"]
            score = bootstrap(right.double(), Key(0))
            rows.append(
                (who.removeprefix("guidance_"), f"{score.value:.2f}", f"{score.low:.2f} to {score.high:.2f}")
            )
    if not rows:
        return ""
    chance = 1 / len(next(iter(drawn.values())).batch.extra["prompts"])
    head = ("guidance", "nearest to its own prompt", "interval")
    return table(
        head, rows, f"The knob: share of samples whose voice is the prompt's; chance is {chance:.2f}"
    )
