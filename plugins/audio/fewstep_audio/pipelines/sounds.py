"""What pipelines are taught and asked: prompts, recordings that a user brings, and tones that are made on the spot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fewstep.engine.ownership import fingerprint, state_of
from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond, Key, Tree, tree_map
from fewstep_audio.pipelines.teachers import AudioTeacher
from fewstep_audio.sound.cache import content, kept
from fewstep_audio.sound.mel import MelContract

PROMPTS = ("a low tone", "a high tone", "a low tone that comes and goes", "a high tone that comes and goes")
"""What is asked when nobody says what; ``tones`` knows how each sounds."""

LONGEST_FILE = 4 * 3600.0
"""Seconds of one recording."""


@dataclass(frozen=True)
class Sounds:
    """Waves (B, N) and what each is a recording of: indices into ``prompts``."""

    waves: Tensor
    which: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Latents:
    """Clean latents and their conditions as a source.

    Args:
        x: (N, *shape) latents.
        cond: a tree with a row for each prompt.
        which: (N,) index of each latent's prompt.
        size: rows of a batch.
        unheard: share of rows that lose their prompt, for networks that learn to do without (Ho & Salimans 2022).
    """

    x: Tensor
    cond: Tree
    which: Tensor
    size: int
    unheard: float = 0.0

    def batch(self, index: int, key: Key) -> Batch:
        """Drawn with replacement."""
        rows = key.share(self.size)
        found = key.at("sound", index).integers((rows,), len(self.x))
        data = picked(self.cond, self.which[found])
        if self.unheard > 0 and data is not None:
            lost = key.at("unheard", index).uniform((rows,)) < self.unheard
            data = {**data, "given": _mixed(lost, data["null"], data["given"])}
        return Batch(like=self.x[found], x=self.x[found], cond=Cond(data))


@dataclass(frozen=True)
class Prompts:
    """Prompts alone as a source, for teachers that make the sound themselves.

    Args:
        cond: a tree with a row for each prompt.
        many: how many prompts.
        shape: of one sample's latents.
        size: rows of a batch.
    """

    cond: Tree
    many: int
    shape: tuple[int, ...]
    size: int

    def batch(self, index: int, key: Key) -> Batch:
        """In turn, so that every prompt is asked equally often."""
        rows, (rank, _) = key.share(self.size), key.shard
        first = index * self.size + rank * rows
        which = torch.arange(first, first + rows) % self.many
        return Batch(like=torch.zeros(1).expand(rows, *self.shape), cond=Cond(picked(self.cond, which)))


def picked(cond: Tree, which: Tensor) -> Tree:
    """Rows of a tree of conditions, if there are any."""
    return None if cond is None else tree_map(lambda leaf: leaf[which], cond)


def tones(count: int, rate: int, seconds: float, key: Key | None = None) -> Sounds:
    """Tones as ``PROMPTS`` describe them; their pitch within a fifth, loudness, phase and pulse are not told.

    Args:
        count: how many; prompts take turns.
        rate: samples per second.
        seconds: length.
        key: of what is not told.
    """
    draw = (key or Key(0)).at("tones")
    which = torch.arange(count) % len(PROMPTS)
    time = torch.arange(int(seconds * rate)) / rate
    low, pulsing = which % 2 == 0, which >= 2
    pitch = torch.where(low, 165.0, 880.0) * 2 ** (draw.at("pitch").uniform((count,)) * 7 / 12)
    phase, beat, loud = (draw.at(name).uniform((count,)) for name in ("phase", "beat", "loud"))
    wave = torch.sin(2 * math.pi * (pitch[:, None] * time + phase[:, None]))
    wave = wave + 0.4 * torch.sin(4 * math.pi * (pitch[:, None] * time + phase[:, None]))
    swing = 0.5 + 0.5 * torch.sin(2 * math.pi * ((3 + 3 * beat[:, None]) * time + beat[:, None]))
    level = torch.where(pulsing[:, None], swing.square(), torch.ones_like(swing))
    return Sounds(((0.1 + 0.3 * loud[:, None]) * level * wave).float(), which, PROMPTS)


def recorded(folder: Path, rate: int, seconds: float, prompts: Sequence[str]) -> Sounds:
    """Recordings of a folder, cut into pieces of so many seconds.

    A text file of the same name says what a recording is; without one it is described by the prompts in turn.

    Raises:
        FewstepError: a recording is refused, or none is as long as one piece.
    """
    from fewstep_audio.sound.recordings import read_recording, recordings_in

    contract, told, pieces, which = MelContract(rate=rate), list(prompts), [], []
    for number, file in enumerate(recordings_in(folder)):
        beside = file.with_suffix(".txt")
        text = (
            beside.read_text(encoding="utf-8").strip() if beside.is_file() else prompts[number % len(prompts)]
        )
        if text not in told:
            told.append(text)
        cut = read_recording(file, contract, LONGEST_FILE).split(int(seconds * rate))
        whole = [piece for piece in cut if len(piece) == int(seconds * rate)]
        pieces += whole
        which += [told.index(text)] * len(whole)
    if not pieces:
        raise FewstepError(
            f"no recording in {folder} lasts {seconds:g} seconds",
            "pieces of that length",
            "bring longer recordings, or -s seconds=... for shorter pieces",
        )
    return Sounds(torch.stack(pieces), torch.tensor(which), tuple(told))


def encoded(sounds: Sounds, teacher: AudioTeacher, cache: Path, batch: int = 8) -> Tensor:
    """(B, *shape) latents of the waves, kept by what was heard and by whom."""
    ears = getattr(getattr(teacher, "pipeline", None), "vae", None)
    if ears is None:
        return teacher.latents(sounds.waves)
    name = content(
        [list(sounds.waves.shape)], sounds.waves.numpy().tobytes(), fingerprint(state_of(ears)).encode()
    )

    def make() -> dict[str, object]:
        return {"x": torch.cat([teacher.latents(part) for part in sounds.waves.split(batch)]).numpy()}

    return torch.from_numpy(kept(cache, "latents", name, make)["x"])  # type: ignore[arg-type]


def prompts_of(file: str | None) -> tuple[str, ...]:
    """Lines of a text file, or ``PROMPTS``.

    Raises:
        FewstepError: it cannot be read, or says nothing.
    """
    if file is None:
        return PROMPTS
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FewstepError(
            f"prompts = {file} cannot be read: {error}", "a text file, one prompt a line", "correct the path"
        ) from error
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise FewstepError(f"prompts = {file} is empty", "one prompt a line", "write some")
    return found


def _mixed(which: Tensor, one: Tree, other: Tree) -> Tree:
    def mix(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return tree_map(mix, one, other)
