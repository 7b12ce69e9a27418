"""Long texts, spoken sentence by sentence: the first sound comes after one sentence, and memory does not grow."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from fewstep.protocol import Batch, Key, Piece, Stream, Tree
from fewstep_audio.sound.files import cut
from fewstep_audio.sound.vocoder import Vocoder
from fewstep_audio.speech.phones import check_text

LONGEST_PIECE = 120
"""Characters that are spoken at once, some eight seconds: as long as training sentences, and a listener does not wait."""

ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "mt", "jr", "sr", "vs", "etc", "e.g", "i.e", "no", "vol", "fig")
)
"""Words whose full stop ends no sentence."""

ENDLESS = 0xFFFFFFFF
"""Length of a wav file that is still being written."""

FADE = 64
"""Samples over which a piece begins and ends, so that no join clicks; 3 ms."""


def speech_stream(
    options: type, request: Callable[[Any, int, Key], Batch], vocoder: Vocoder, longest: int = LONGEST_PIECE
) -> Stream:
    """A wav stream of what a speech product says.

    Args:
        options: of the product; the text may be of any length here.
        request: of the product.
        vocoder: from log-mel to sound.
        longest: characters that are spoken at once.
    """

    def pieces(asked: Any, draw: Callable[[Batch, Key], Tree], key: Key) -> Iterator[Piece]:
        head = wav_head(vocoder.contract.rate, ENDLESS)
        for number, said in enumerate(sentences(asked.text, longest)):
            one = asked.model_copy(update={"text": said})
            mel = cut(draw(request(one, 1, key.at("request", number)), key.at("draw", number)))[0]
            wave = faded(vocoder(mel))
            yield Piece(head + pcm(wave), f"{len(wave) / vocoder.contract.rate:.1f} s “{said}”")
            head = b""

    return Stream("audio/wav", ".wav", endless(options), pieces, close_wav)


def endless(options: Any) -> type:
    """The same options with a text of any length."""

    class Endless(options):
        """What ``fewstep sample --stream`` may ask for."""

        @field_validator("text")
        @classmethod
        def _sayable(cls, given: str) -> str:
            return check_text(given, longest=None)

    return Endless


def sentences(text: str, longest: int = LONGEST_PIECE) -> list[str]:
    """The text in pieces of at most ``longest`` characters, cut where a speaker would breathe.

    At the ends of sentences; a sentence that is too long at its colons, semicolons and commas, and a clause that is still
    too long between words. Every word is kept, in order.
    """
    pieces: list[str] = []
    for sentence in _at_ends(" ".join(text.split())):
        pieces += _shorter(sentence, longest)
    return pieces


def _at_ends(text: str) -> list[str]:
    """Sentences: a full stop, question or exclamation mark, closing quotes, a space, and no abbreviation before."""
    found, begin = [], 0
    for end in re.finditer(r"[.!?]+[\"')]*\s+(?=[\"'(]*[A-Z0-9])", text):
        word = text[begin : end.start()].rsplit(" ", 1)[-1].strip("\"'(").lower()
        if text[end.start()] == "." and (word in ABBREVIATIONS or re.fullmatch(r"[a-z](\.[a-z])*", word)):
            continue
        found.append(text[begin : end.end()].strip())
        begin = end.end()
    return [part for part in (*found, text[begin:].strip()) if re.search(r"[A-Za-z0-9]", part)]


def _shorter(sentence: str, longest: int) -> list[str]:
    """Clauses, joined again while they fit."""
    if len(sentence) <= longest:
        return [sentence]
    clauses = [
        part for clause in re.split(r"(?<=[,;:])\s+", sentence) for part in _words_within(clause, longest)
    ]
    return _joined(clauses, longest)


def _words_within(clause: str, longest: int) -> list[str]:
    """Words, joined while they fit; a word longer than that is cut."""
    if len(clause) <= longest:
        return [clause]
    words = [word[i : i + longest] for word in clause.split() for i in range(0, len(word), longest)]
    return _joined(words, longest)


def _joined(parts: list[str], longest: int) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + 1 + len(part) <= longest:
            found[-1] += f" {part}"
        else:
            found.append(part)
    return [part for part in found if re.search(r"[A-Za-z0-9]", part)]


def faded(wave: Tensor) -> Tensor:
    """(N,) samples that begin and end at zero."""
    count = min(FADE, len(wave) // 2)
    ramp = torch.linspace(0, 1, count + 1)[:-1]
    gain = torch.ones_like(wave)
    gain[:count], gain[len(wave) - count :] = ramp, ramp.flip(0)
    return wave * gain


def pcm(wave: Tensor) -> bytes:
    """(N,) samples in [-1, 1] as 16-bit little-endian integers."""
    content: bytes = (wave.clamp(-1, 1) * 32767).round().short().cpu().numpy().astype("<i2").tobytes()
    return content


def wav_head(rate: int, size: int) -> bytes:
    """The 44 bytes before the samples of a mono 16-bit wav file.

    Args:
        rate: samples per second.
        size: bytes of samples; :data:`ENDLESS` while it is not known, which players understand.
    """
    whole = min(size + 36, ENDLESS)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", whole, b"WAVE") + layout + struct.pack("<4sI", b"data", size)


def close_wav(file: Path) -> None:
    """Tell a finished wav file its length."""
    size = min(file.stat().st_size - 44, ENDLESS)
    with file.open("r+b") as out:
        out.seek(24)
        rate = struct.unpack("<I", out.read(4))[0]
        out.seek(0)
        out.write(wav_head(rate, size))
