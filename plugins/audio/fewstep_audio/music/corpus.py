"""Music as training data: scores, played in hidden keys, instruments and dynamics, as spectrograms kept by content.

Nothing of this is told to the networks: what a piece sounds like is all that they learn. Shape legend: M mel bands,
T frames, N samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Key
from fewstep_audio.music.notes import Tune, roll
from fewstep_audio.music.render import Player, chosen, play, velocities
from fewstep_audio.music.scores import collected, read_folder
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract, Scale, log_mel

MUSIC = MelContract(window=2048, hop=512, bands=192)
"""Longer windows and narrower bands than speech: neighboring notes are 16 Hz apart at middle C, as are the bands.

After Griffin-Lim a transcriber finds as many notes of a piano as in the sound itself (frame F1 0.87 and 0.87), with 128
bands fewer (0.79).
"""

FORMAT = 1
"""Raised when the meaning of the cached arrays changes."""
SOFTEST, LOUDEST = 45, 115
"""Range of the dynamics, as velocities of MIDI."""
SWELL = 3.0
"""Seconds between two levels of the dynamics."""


@dataclass(frozen=True)
class MusicSettings:
    """What is played for training.

    Args:
        composer: whose four-part scores of music21's collection are taken, unless there is a folder.
        folder: of MIDI and MusicXML files instead; "" = none.
        skip_bad: go on without files that cannot be read.
        tunes: how many scores are trained on.
        held_out: how many are kept for evaluation.
        seconds: how much of each score is played.
        quarter: seconds of a quarter note.
        programs: General MIDI instruments that take turns.
        transpositions: semitones that take turns.
        takes: how often each score is played, every time in another instrument or key.
        player: who plays.
        contract: what a spectrogram means.
    """

    composer: str = "bach"
    folder: str = ""
    skip_bad: bool = False
    tunes: int = 48
    held_out: int = 16
    seconds: float = 16.0
    quarter: float = 0.6
    programs: tuple[int, ...] = (4,)
    transpositions: tuple[int, ...] = (0, -2, 3)
    takes: int = 1
    player: Player = "auto"
    contract: MelContract = field(default_factory=lambda: MUSIC)


@dataclass(frozen=True)
class Piece:
    """A tune as it was played.

    Args:
        tune: its notes, at the pitch and time at which they sound.
        program: the instrument.
        mel: (M, T) float32 natural log-mel.
        wave: (N,) int16 samples.
    """

    tune: Tune
    program: int
    mel: Tensor
    wave: Tensor

    @property
    def sound(self) -> Tensor:
        """(N,) float32 samples in [-1, 1]."""
        return self.wave.float() / 32768

    def roll(self, contract: MelContract) -> np.ndarray:
        """(88, T) bool: which keys sound in each frame of the spectrogram."""
        return roll(self.tune, self.mel.shape[1], contract.rate / contract.hop)


@dataclass(frozen=True)
class Corpus:
    """Training and held-out pieces, and the scale of the training mels."""

    training: tuple[Piece, ...]
    testing: tuple[Piece, ...]

    @property
    def scale(self) -> Scale:
        """Mean and standard deviation of every band over the training frames."""
        frames = torch.cat([piece.mel for piece in self.training], 1)
        return Scale(frames.mean(1, keepdim=True), frames.std(1, keepdim=True).clamp(min=1e-3))


def load_corpus(settings: MusicSettings, cache: Path) -> Corpus:
    """The corpus that the settings describe, from the cache or played now. The last scores are held out.

    Raises:
        FewstepError: scores cannot be read, there are too few, or nobody can play them.
    """
    made = kept(cache, "music", content(_told(settings)), lambda: _packed(settings))
    pieces = _restored(made)
    testing = settings.held_out * settings.takes
    return Corpus(tuple(pieces[:-testing]), tuple(pieces[-testing :: settings.takes]))


def _told(settings: MusicSettings) -> list[object]:
    """All that shapes the corpus: the settings, who plays, and the bytes of a user's files."""
    files = (
        sorted(file for file in Path(settings.folder).rglob("*") if file.is_file()) if settings.folder else []
    )
    return [
        FORMAT,
        asdict(settings),
        chosen(settings.player),
        [content(str(f), f.read_bytes()) for f in files],
    ]


def _tunes(settings: MusicSettings) -> list[Tune]:
    """The scores, held-out ones last.

    Raises:
        FewstepError: they cannot be had, or are too few.
    """
    wanted = settings.tunes + settings.held_out
    if not settings.folder:
        return collected(settings.composer, wanted, settings.quarter)
    found = read_folder(Path(settings.folder), settings.quarter, settings.skip_bad)[:wanted]
    if len(found) <= settings.held_out:
        raise FewstepError(
            f"{settings.folder} has {len(found)} scores, and music.held_out={settings.held_out} are kept for evaluation",
            "more scores than that",
            "add scores, or lower music.held_out",
        )
    return found


def performed(tune: Tune, number: int, settings: MusicSettings) -> Piece:
    """The ``number``-th take: its instrument, key and dynamics follow from the number."""
    ways = list(itertools.product(settings.transpositions, settings.programs))
    semitones, program = ways[number % len(ways)]
    seconds = min(settings.seconds, tune.seconds)
    heard = tune.transposed(semitones).cut(0.0, seconds)
    levels = Key(0).at("dynamics", number).uniform((int(seconds / SWELL) + 2,)).numpy()
    loud = velocities(heard, SOFTEST + (LOUDEST - SOFTEST) * levels, SWELL)
    wave = play(heard, loud, program, seconds, settings.contract.rate, settings.player)
    whole = torch.from_numpy(np.round(wave * 32767).clip(-32768, 32767).astype(np.int16))
    return Piece(heard, program, log_mel(whole.float() / 32768, settings.contract), whole)


def _packed(settings: MusicSettings) -> dict[str, np.ndarray]:
    takes = [tune for tune in _tunes(settings) for _ in range(settings.takes)]
    arrays: dict[str, np.ndarray] = {"names": np.array([tune.name for tune in takes])}
    for number, tune in enumerate(takes):
        piece = performed(tune, number, settings)
        arrays[f"mel{number}"] = piece.mel.numpy()
        arrays[f"wave{number}"] = piece.wave.numpy()
        arrays[f"notes{number}"] = piece.tune.notes
        arrays[f"program{number}"] = np.array(piece.program)
    return arrays


def _restored(arrays: Mapping[str, np.ndarray]) -> list[Piece]:
    found = []
    for number, name in enumerate(arrays["names"]):
        mel, wave = (torch.from_numpy(arrays[f"{kind}{number}"]) for kind in ("mel", "wave"))
        tune = Tune(str(name), arrays[f"notes{number}"])
        found.append(Piece(tune, int(arrays[f"program{number}"]), mel, wave))
    return found


class MusicSource:
    """Random crops of equal length, mels in the space of the process, as a pure function of a counter.

    Args:
        pieces: what to crop.
        scale: of the mels.
        size: crops per batch, over all ranks.
        frames: length of a crop.

    Raises:
        FewstepError: if a piece is shorter than a crop.
    """

    def __init__(self, pieces: Sequence[Piece], scale: Scale, size: int, frames: int) -> None:
        """All pieces one after the other, so that a batch is one gather."""
        lengths = torch.tensor([piece.mel.shape[1] for piece in pieces])
        if len(lengths) == 0 or int(lengths.min()) < frames:
            shortest = int(lengths.min()) if len(lengths) else 0
            raise FewstepError(
                f"the shortest piece has {shortest} frames, fewer than a crop of {frames}",
                "pieces as long as a crop",
                "lower crop, or raise music.seconds",
            )
        self.states = scale.normalized(torch.cat([piece.mel for piece in pieces], 1))
        self.starts = lengths.cumsum(0) - lengths
        self.slack = lengths - frames + 1
        self.size, self.frames = size, frames

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch; every place of every piece is equally likely."""
        count, here = key.share(self.size), key.at("music", index)
        ends = self.slack.cumsum(0)
        place = (here.uniform((count,)) * ends[-1]).long()
        piece = torch.searchsorted(ends, place, right=True)
        begin = self.starts[piece] + place - (ends - self.slack)[piece]
        x = self.states[:, begin[:, None] + torch.arange(self.frames)].transpose(0, 1).contiguous()
        return Batch(x, x)
