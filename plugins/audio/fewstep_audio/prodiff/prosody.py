"""Pitch, voicing and energy by frame: measured from recordings, predicted for text, and moved by whoever asks.

The variance adaptor of FastSpeech 2 (Ren et al. 2021 sec. 2.3), its durations apart. Pitch is the natural logarithm of Hz
and means nothing where a frame is not voiced; energy is the logarithm of the spectrum's norm in units of its spread.
Shape legend: B batch, N utterances, V voices, P phones, T frames, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from fewstep.protocol import Batch, Cond, Key, Loss, Phase, Role, Roles, Step
from fewstep_audio.networks import FrameEncoder
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.sound.pitch import HIGHEST, LOWEST, energy, pitch
from fewstep_audio.speech.utterance import Utterance

FORMAT = 1
"""Raised when the meaning of the cached arrays changes."""
QUIETEST = 0.1
"""Of a spectrum's norm: digital silence is taken to be this loud; speech reaches a hundred."""
SEMITONE = math.log(2) / 12


@dataclass(frozen=True)
class Measured:
    """What was heard in one utterance.

    Args:
        pitch: (T,) log Hz, the middle of the utterance where a frame is not voiced.
        voiced: (T,) 0 or 1.
        energy: (T,) log of the spectrum's norm.
        register: the median of the voiced frames' pitch.
    """

    pitch: Tensor
    voiced: Tensor
    energy: Tensor
    register: float


def measured(utterances: Sequence[Utterance], contract: MelContract, cache: Path) -> list[Measured]:
    """Prosody of every utterance, from the cache or measured now; named by a hash of the sounds."""
    name = content([FORMAT, asdict(contract)], *(one.wave.numpy().tobytes() for one in utterances))

    def make() -> dict[str, np.ndarray]:
        found = {}
        for number, one in enumerate(utterances):
            found[f"pitch{number}"] = pitch(one.sound, contract).numpy()
            found[f"energy{number}"] = energy(one.sound, contract).numpy()
        return found

    arrays = kept(cache, "prosody", name, make)
    return [
        _heard(torch.from_numpy(arrays[f"pitch{i}"]), torch.from_numpy(arrays[f"energy{i}"]))
        for i in range(len(utterances))
    ]


def _heard(hertz: Tensor, loud: Tensor) -> Measured:
    voiced = hertz > 0
    middle = (
        float(hertz[voiced].log().median()) if bool(voiced.any()) else math.log(math.sqrt(LOWEST * HIGHEST))
    )
    level = torch.where(voiced, hertz.clamp(min=1.0).log(), middle)
    return Measured(level, voiced.float(), loud.clamp(min=QUIETEST).log(), middle)


def louder(
    utterances: Sequence[Utterance], heard: Sequence[Measured], decibels: float, contract: MelContract
) -> tuple[tuple[Utterance, ...], list[Measured]]:
    """The same speech, each utterance at a loudness of its own: so networks learn what loudness does and nothing else.

    Args:
        utterances: what was said.
        heard: its prosody.
        decibels: gains are uniform between plus and minus this; the same every time.
        contract: of the spectrograms.
    """
    gains = math.log(10) / 20 * decibels * (2 * Key(0).at("loudness").uniform((len(utterances),)) - 1)
    said, prosody = [], []
    for one, its, gain in zip(utterances, heard, gains.tolist(), strict=True):
        said.append(replace(one, mel=log_mel(one.sound * math.exp(gain), contract)))
        loud = (its.energy + gain).clamp(min=math.log(QUIETEST))
        prosody.append(replace(its, energy=loud))
    return tuple(said), prosody


@dataclass(frozen=True)
class Habits:
    """What is usual in the training speech.

    Args:
        registers: (V,) log Hz, mean register of each voice that the networks are told, or (1,) of all.
        mean: of the log energy.
        std: of the log energy.
    """

    registers: Tensor
    mean: float
    std: float


def habits(utterances: Sequence[Utterance], heard: Sequence[Measured], voices: Sequence[str]) -> Habits:
    """Averages over the training speech; a voice that never speaks gets the mean of all."""
    everyone = sum(one.register for one in heard) / len(heard)
    registers = []
    for voice in voices or ("",):
        own = [h.register for u, h in zip(utterances, heard, strict=True) if u.voice == voice]
        registers.append(sum(own) / len(own) if own else everyone)
    loud = torch.cat([one.energy for one in heard])
    return Habits(torch.tensor(registers), float(loud.mean()), float(loud.std()))


def told(heard: Sequence[Measured], usual: Habits) -> dict[str, Tensor]:
    """Measured prosody as conditions, padded: register (N,), and pitch, voiced and energy (N, T)."""
    rows = {
        "pitch": [one.pitch for one in heard],
        "voiced": [one.voiced for one in heard],
        "energy": [(one.energy - usual.mean) / usual.std for one in heard],
    }
    padded = {name: pad_sequence(each, batch_first=True) for name, each in rows.items()}
    return {"register": torch.tensor([one.register for one in heard]), **padded}


class Prosody(nn.Module):
    """Predicts pitch, voicing and energy of every frame from phones, their durations, and the voice.

    Args:
        usual: of the training speech.
        voices: how many speakers there are to be told apart; 0 = nobody is told.
        channels: C.
    """

    def __init__(self, usual: Habits, voices: int, channels: int = 64) -> None:
        """Habits are buffers, so that a run folder keeps them beside the weights."""
        super().__init__()
        self.frames = FrameEncoder(channels, voices)
        self.sentence = nn.Linear(2, channels)
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, 5, padding=2) for _ in range(2))
        self.head = nn.Conv1d(channels, 3, 1)
        self.register_buffer("registers", usual.registers.clone())
        self.register_buffer("std", torch.tensor(usual.std))

    registers: Tensor
    std: Tensor

    def forward(self, cond: Cond) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T) each: pitch above the register in log Hz, logit of voicing, energy."""
        frames = self.frames(cond, self.std.dtype)
        frames = frames + self.sentence(self._place(cond)).transpose(1, 2)
        real = torch.ones_like(frames[:, :1]) if cond.mask is None else cond.mask.to(frames.dtype)
        for layer in self.layers:
            frames = frames * real
            frames = frames + F.relu(layer(frames))
        contour, voicing, loud = self.head(frames).unbind(1)
        return contour, voicing, loud

    def _place(self, cond: Cond) -> Tensor:
        """(B, T, 2) place in the sentence: voices fall toward the end."""
        total, at = (cond.data["phones"] > 0).sum(1, keepdim=True), cond.data["at"]
        left = (total - at).clamp(min=1).float().log()
        return torch.stack([at / total, left], -1).to(self.std.dtype)

    def filled(self, cond: Cond, semitones: float = 0.0, loudness: float = 1.0) -> Cond:
        """The condition with predicted prosody, moved as asked.

        Args:
            cond: laid out in time.
            semitones: added to the pitch.
            loudness: factor on the energy.
        """
        contour, voicing, loud = self(cond)
        voice = cond.data.get("voice", torch.zeros(loud.shape[0], dtype=torch.int64, device=loud.device))
        pitch = self.registers[voice][:, None] + contour + semitones * SEMITONE
        found = {
            "pitch": pitch,
            "voiced": (voicing > 0).float(),
            "energy": loud + math.log(loudness) / self.std,
        }
        return replace(cond, data={**cond.data, **found})


@dataclass(frozen=True)
class ProsodyFit:
    """L1 of pitch where there is any, cross-entropy of voicing, a tenth of the squared error of energy (ProDiff's weights).

    Args:
        role: the predictor.
        phase: name of the phase, so that it can be mixed into another objective's.
    """

    role: str = "prosody"
    phase: str = "prosody"

    @property
    def roles(self) -> Mapping[str, Role]:
        """The predictor alone."""
        return {self.role: Role(kind=Prosody)}

    @property
    def reads(self) -> frozenset[str]:
        """Only the condition."""
        return frozenset()

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.phase, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Means over real frames of all rows."""
        contour, voicing, loud = roles[self.role](batch.cond)
        data = batch.cond.data
        real = torch.ones_like(loud) if batch.mask is None else batch.mask[:, 0].to(loud.dtype)
        voiced = data["voiced"] * real
        wanted = data["pitch"] - data["register"][:, None]
        pitch = ((contour - wanted).abs() * voiced).sum() / voiced.sum().clamp(min=1)
        cross = F.binary_cross_entropy_with_logits(voicing, data["voiced"], reduction="none")
        voicing_loss = (cross * real).sum() / real.sum()
        energy_loss = ((loud - data["energy"]).square() * real).sum() / real.sum()
        total = pitch + voicing_loss + 0.1 * energy_loss
        logs = {"pitch": pitch, "voicing": voicing_loss, "energy": energy_loss}
        return Loss(total, {name: value.detach() for name, value in logs.items()})
