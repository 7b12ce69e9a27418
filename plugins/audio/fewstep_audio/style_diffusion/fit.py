"""How the deterministic half learns, and where takes and codes come from.

Shape legend: B batch, N takes, P phones, K tokens of prosody, D numbers in a token, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from fewstep.protocol import Batch, Cond, Key, Loss, Phase, Role, Roles, Step
from fewstep_audio.speech.layout import aligned, conditioned
from fewstep_audio.style_diffusion.autoencoder import StyleAutoencoder
from fewstep_audio.style_diffusion.corpus import Take

SHARPNESS = 0.2
"""Temperature of the contrast between voices (Khosla et al. 2020 sec. 4)."""

CONTRAST = 0.1
"""Weight of the contrast."""

COMMITMENT = 0.25
"""Weight of codes that stay near their book (van den Oord et al. 2017 eq. 3)."""

CHUNK = 64
"""Takes that are encoded at once."""


@dataclass(frozen=True)
class AutoencoderFit:
    """Absolute errors of prosody and mel, and which prompt is whose.

    The voice comes from another take of the same voice, so that it holds no prosody of its own.

    Args:
        blur: standard deviation of the noise on codes, which have unit variance.
        role: the autoencoder.
    """

    blur: float
    role: str = "autoencoder"

    @property
    def roles(self) -> Mapping[str, Role]:
        """The autoencoder alone."""
        return {self.role: Role(kind=StyleAutoencoder)}

    @property
    def reads(self) -> frozenset[str]:
        """Prosody, and crops of a take and of a prompt."""
        return frozenset({"x", "extra.mel", "extra.at", "extra.passed", "extra.prompt", "extra.voice"})

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return (Phase(self.role, (self.role,)),)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Sum of all terms."""
        auto: StyleAutoencoder = roles[self.role]
        extra, aim = batch.extra, auto.normalized(batch.x)
        real = (batch.cond.data["phones"] > 0)[..., None]
        voice = auto.voice(extra["prompt"])
        sharp = torch.cat([auto.encoded(batch.x, batch.cond), voice[:, None]], 1)
        code = sharp + self.blur * step.key.at("blur").normal(sharp)
        _, guess = auto.decoded(code, batch.cond)
        mel = auto.sound(code, aim * real, batch.cond, extra["at"], extra["passed"])
        terms = {
            "prosody": ((guess - aim).abs() * real).sum() / (3 * real.sum()),
            "mel": (mel - auto.scale.normalized(extra["mel"])).abs().mean(),
            "contrast": CONTRAST * contrast(auto.voice(extra["mel"]), voice, extra["voice"]),
        }
        if auto.book is not None:
            near = auto.book.nearest(sharp[:, :-1])
            terms["book"] = (near - sharp[:, :-1].detach()).square().mean()
            terms["commitment"] = COMMITMENT * (near.detach() - sharp[:, :-1]).square().mean()
        total = torch.stack(list(terms.values())).sum()
        return Loss(total, {"loss": total.detach(), **{n: term.detach() for n, term in terms.items()}})


def contrast(mine: Tensor, prompts: Tensor, who: Tensor) -> Tensor:
    """Supervised contrast (Khosla et al. 2020 eq. 2): (B, D) voices find the prompts (B, D) of the same speaker (B,)."""
    same = (who[:, None] == who).to(mine.dtype)
    likeness = mine @ prompts.T / (mine.shape[1] * SHARPNESS)
    return F.cross_entropy(likeness, same / same.sum(1, keepdim=True))


@dataclass(frozen=True)
class Tables:
    """All takes, padded: what both sources are made of.

    Args:
        cond: phones and stresses (N, P).
        prosody: (N, P, 3).
        frames: (N, P).
        mels: one (M, T) for each take.
        voice: (N,) number of the speaker.
        fellows: (N, F) takes of the same speaker, cyclic from the next one on; itself only if it is the only one.
    """

    cond: Cond
    prosody: Tensor
    frames: Tensor
    mels: tuple[Tensor, ...]
    voice: Tensor
    fellows: Tensor

    @classmethod
    def of(cls, takes: Sequence[Take]) -> Tables:
        """Pad, and number the voices in the order of their names."""
        names = sorted({take.voice for take in takes})
        voice = torch.tensor([names.index(take.voice) for take in takes])
        return cls(
            conditioned([take.said for take in takes]),
            pad_sequence([take.prosody for take in takes], batch_first=True),
            pad_sequence([take.frames for take in takes], batch_first=True),
            tuple(take.mel for take in takes),
            voice,
            _fellows(voice),
        )

    def rows(self, row: Tensor) -> tuple[Cond, Tensor]:
        """Texts and prosody (B, P, 3) of some takes."""
        return rows_of(self.cond, row), self.prosody[row]


def _fellows(voice: Tensor) -> Tensor:
    """(N,) -> (N, F), F = the largest number of takes of one voice less one; smaller ones repeat."""
    groups = [torch.nonzero(voice == who)[:, 0] for who in range(int(voice.max()) + 1)]
    wide = max(1, max(len(group) for group in groups) - 1)
    found = torch.empty(len(voice), wide, dtype=torch.int64)
    for group in groups:
        for place, row in enumerate(group.tolist()):
            others = torch.cat([group[place + 1 :], group[:place]]) if len(group) > 1 else group
            found[row] = others.repeat(-(-wide // len(others)))[:wide]
    return found


class TakeSource:
    """Whole texts with their prosody, a crop of each, and a crop of another take of the same voice.

    Args:
        tables: all takes.
        size: rows per batch, over all ranks.
        frames: length of both crops, at most the shortest take.
    """

    def __init__(self, tables: Tables, size: int, frames: int) -> None:
        """Padded once, so that a batch is a few gathers."""
        self.tables, self.size = tables, size
        self.lengths = torch.tensor([mel.shape[1] for mel in tables.mels])
        self.frames = min(frames, int(self.lengths.min()))
        self.mels = pad_sequence([mel.T for mel in tables.mels], batch_first=True)
        self.layout = aligned(tables.frames, self.mels.shape[1])

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch, drawn with replacement."""
        count, here = key.share(self.size), key.at("takes", index)
        row = here.at("take").integers((count,), len(self.lengths))
        other = self.tables.fellows[row, here.at("fellow").integers((count,), self.tables.fellows.shape[1])]
        mine, theirs = self._window(row, here.at("mine")), self._window(other, here.at("theirs"))
        extra = {
            "mel": self._cut(row, mine),
            "at": self.layout["at"][row[:, None], mine],
            "passed": self.layout["place"][row[:, None], mine, 0],
            "prompt": self._cut(other, theirs),
            "voice": self.tables.voice[row],
        }
        cond, prosody = self.tables.rows(row)
        return Batch(prosody, prosody, cond, extra)

    def _window(self, row: Tensor, key: Key) -> Tensor:
        begin = (key.uniform((len(row),)) * (self.lengths[row] - self.frames + 1)).long()
        return begin[:, None] + torch.arange(self.frames)

    def _cut(self, row: Tensor, window: Tensor) -> Tensor:
        return self.mels[row[:, None], window].transpose(1, 2).contiguous()


class CodeSource:
    """Codes of training takes, normalized in every dimension, each with the voice of another take as its prompt.

    Args:
        tables: all takes.
        autoencoder: frozen.
        size: rows per batch, over all ranks.
    """

    def __init__(self, tables: Tables, autoencoder: StyleAutoencoder, size: int) -> None:
        """Encode everything once."""
        self.tables, self.size = tables, size
        self.codes, self.voices = encoded(tables, autoencoder)
        self.cond = told_text(tables.cond, autoencoder)
        self.mean, self.std = self.codes.mean(0), self.codes.std(0).clamp(min=1e-2)
        self.states = (self.codes - self.mean) / self.std

    def batch(self, index: int, key: Key) -> Batch:
        """This rank's rows of the ``index``-th batch, drawn with replacement."""
        count, here = key.share(self.size), key.at("codes", index)
        row = here.at("take").integers((count,), len(self.codes))
        other = self.tables.fellows[row, here.at("fellow").integers((count,), self.tables.fellows.shape[1])]
        cond = prompted(rows_of(self.cond, row), self.voices[other])
        return Batch(self.states[row], self.states[row], cond)


def encoded(tables: Tables, autoencoder: nn.Module) -> tuple[Tensor, Tensor]:
    """Codes (N, K + 1, D), and voices (N, D) of whole takes."""
    auto: StyleAutoencoder = autoencoder
    with torch.no_grad():
        voices = torch.cat([auto.voice(mel[None]) for mel in tables.mels])
        places = torch.arange(len(voices)).split(CHUNK)
        prosody = [auto.encoded(said, cond) for cond, said in map(tables.rows, places)]
    return torch.cat([torch.cat(prosody), voices[:, None]], 1), voices


def told_text(cond: Cond, autoencoder: StyleAutoencoder) -> Cond:
    """The condition with its text encoded."""
    with torch.no_grad():
        return Cond({**cond.data, "text": autoencoder.hidden(cond)[0]}, cond.mask)


def rows_of(cond: Cond, row: Tensor) -> Cond:
    """Some texts, as wide as all of them, so that the rows of every rank fit together."""
    return Cond({name: part[row] for name, part in cond.data.items()})


def prompted(cond: Cond, voice: Tensor) -> Cond:
    """The condition with the voice (B, D) of a prompt."""
    told = torch.ones(len(voice), dtype=voice.dtype, device=voice.device)
    return Cond({**cond.data, "prompt": voice, "told": told}, cond.mask)
