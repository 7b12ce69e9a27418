"""What the decoder of CoMoSpeech is told when it sings: phones, notes, and perhaps who sings.

Shape legend: B batch, M mel bands, T frames, C channels, P phones.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from fewstep.protocol import Cond
from fewstep_audio.networks import FrameEncoder
from fewstep_audio.singing.layout import framed
from fewstep_audio.sound.mel import MelContract, log_mel

PITCHES, LOW, HIGH = 128, 36, 96
"""MIDI numbers, and the range of human voices (C2 to C7), outside of which a comb repeats the nearest."""


class ScoreEncoder(FrameEncoder):
    """Phones spread over their frames, the length of their notes, slurs, and the harmonics of each frame's note.

    A note is not an arbitrary symbol: its harmonics lie where they lie, so their picture in mel bands is computed and
    given, and the network need not learn one for each note.

    Args:
        contract: of the mels.
        channels: C.
        voices: how many singers there are to be told apart; 0 = nobody is told.
    """

    def __init__(self, contract: MelContract, channels: int, voices: int = 0) -> None:
        """Length of the note, slur and harmonics enter linearly."""
        super().__init__(channels, voices)
        self.length = nn.Linear(2, channels)
        self.note = nn.Linear(contract.bands, channels)
        self.register_buffer("combs", combs(contract), persistent=False)

    combs: Tensor

    def forward(self, cond: Cond, dtype: torch.dtype) -> Tensor:
        """(B, C, T)."""
        beat = framed(cond, "beat").to(dtype).clamp(min=1).log()
        length = self.length(torch.stack([beat, framed(cond, "slur").to(dtype)], -1))
        note = self.note(self.combs.to(dtype)[framed(cond, "note")])
        return super().forward(cond, dtype) + (length + note).transpose(1, 2)


@lru_cache(maxsize=4)
def combs(contract: MelContract) -> Tensor:
    """(128, M) log-mel of a buzz of equal harmonics at each MIDI number, zero mean and unit deviation; 0 is a rest."""
    time = torch.arange(2 * contract.window, dtype=torch.float64) / contract.rate
    table = torch.zeros(PITCHES, contract.bands)
    for pitch in range(LOW, HIGH + 1):
        base = 440 * 2 ** ((pitch - 69) / 12)
        turns = torch.arange(1, int(contract.high / base) + 2, dtype=torch.float64)[:, None]
        buzz = torch.cos(2 * torch.pi * base * turns * time + turns**2).sum(0)
        middle = log_mel((1e-2 * buzz).float(), contract).mean(1).clamp(min=-8)
        table[pitch] = (middle - middle.mean()) / middle.std()
    table[1:LOW], table[HIGH + 1 :] = table[LOW], table[HIGH]
    return table
