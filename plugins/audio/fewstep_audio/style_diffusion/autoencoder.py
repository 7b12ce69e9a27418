"""Everything that is deterministic: prosody to a code of fixed length and back, and from there to a spectrogram.

Trained first and then frozen, since diffusion must not chase a moving code.
Shape legend: B batch, P phones, K tokens of prosody, D numbers in a token, C channels, M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond
from fewstep_audio.sound.mel import Scale
from fewstep_audio.speech.durations import PhoneEncoder
from fewstep_audio.speech.layout import aligned
from fewstep_audio.style_diffusion.blocks import Block, sinusoids

DEPTH = 2
"""Blocks of prosody encoder and decoder each."""

DILATIONS = (1, 2, 4, 1)
"""Of the acoustic decoder, in frames."""


@dataclass(frozen=True)
class Sizes:
    """Widths of the autoencoder.

    Args:
        bands: M.
        tokens: K.
        size: D.
        channels: C of text and prosody.
        heads: of attention.
        acoustic: channels of the acoustic decoder.
        quantise: whether codes snap to a book of vectors.
    """

    bands: int
    tokens: int
    size: int
    channels: int
    heads: int
    acoustic: int
    quantise: bool = False


class StyleAutoencoder(nn.Module):
    """Text encoder, speaker encoder, prosody encoder A and decoder P, acoustic decoder M.

    A code (B, K + 1, D) has K tokens of prosody and, last, the voice. Prosody is normalized per column here, raw outside.

    Args:
        sizes: widths.
        mel: scale of the training mels; left open when weights are loaded afterwards.
        prosody: (3,) mean and standard deviation of the training phones.
    """

    def __init__(
        self, sizes: Sizes, mel: Scale | None = None, prosody: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Scales are buffers, so that they travel with the weights."""
        super().__init__()
        self.sizes = sizes
        channels, size = sizes.channels, sizes.size
        self.text = PhoneEncoder(channels)
        self.speaker = SpeakerEncoder(sizes.bands, sizes.acoustic, size)
        self.queries = nn.Parameter(torch.randn(sizes.tokens, channels) / channels**0.5)
        self.inner = nn.Linear(3, channels)
        self.encoder = nn.ModuleList(Block(channels, sizes.heads) for _ in range(DEPTH))
        self.squeeze = nn.Linear(channels, size)
        self.book = Book(256, size) if sizes.quantise else None
        self.decoder = ProsodyDecoder(sizes)
        self.acoustic = AcousticDecoder(sizes)
        flat = torch.zeros(sizes.bands, 1)
        self.register_buffer("mel_mean", flat if mel is None else mel.mean.clone())
        self.register_buffer("mel_std", flat + 1 if mel is None else mel.std.clone())
        self.register_buffer("prosody_mean", torch.zeros(3) if prosody is None else prosody[0].clone())
        self.register_buffer("prosody_std", torch.ones(3) if prosody is None else prosody[1].clone())

    mel_mean: Tensor
    mel_std: Tensor
    prosody_mean: Tensor
    prosody_std: Tensor

    @property
    def scale(self) -> Scale:
        """From normalized to log-mel."""
        return Scale(self.mel_mean, self.mel_std, 1.0)

    def hidden(self, cond: Cond) -> tuple[Tensor, Tensor]:
        """(B, P, C) of the text, and (B, P) which phones are real; a condition may bring the first along."""
        phones = cond.data["phones"]
        if "text" in cond.data:
            return cond.data["text"], phones > 0
        return self.text(phones, cond.data["stress"]).transpose(1, 2), phones > 0

    def voice(self, mel: Tensor) -> Tensor:
        """(B, M, T) log-mel -> (B, D), zero mean and unit variance over D."""
        return self.speaker(self.scale.normalized(mel))

    def encoded(self, prosody: Tensor, cond: Cond) -> Tensor:
        """A: (B, P, 3) raw prosody -> (B, K, D), each token of zero mean and unit variance over D."""
        hidden, real = self.hidden(cond)
        context = hidden + self.inner(self.normalized(prosody)) + places(real, hidden.shape[-1])
        tokens = self.queries.expand(len(prosody), -1, -1)
        for block in self.encoder:
            tokens = block(tokens, context, real)
        return F.layer_norm(self.squeeze(tokens), (self.sizes.size,))

    def decoded(self, code: Tensor, cond: Cond) -> tuple[tuple[Tensor, ...], Tensor]:
        """P: (B, K + 1, D) -> its hidden layers (B, P, C), and (B, P, 3) normalized prosody; zero at padding."""
        hidden, real = self.hidden(cond)
        return self.decoder(self.snapped(code), hidden, real)

    def snapped(self, code: Tensor) -> Tensor:
        """The prosody's tokens as the book has them; the code itself where there is no book."""
        if self.book is None:
            return code
        return torch.cat([self.book(code[:, :-1]), code[:, -1:]], 1)

    def sound(self, code: Tensor, prosody: Tensor, cond: Cond, at: Tensor, passed: Tensor) -> Tensor:
        """M: normalized mel (B, M, T).

        Args:
            code: (B, K + 1, D); only its last token, the voice, is heard.
            prosody: (B, P, 3) normalized.
            cond: phones.
            at: (B, T) phone of each frame.
            passed: (B, T) share of it that has passed.
        """
        hidden, _ = self.hidden(cond)
        return self.acoustic(hidden, prosody, code[:, -1], at, passed)

    def spoken(self, code: Tensor, prosody: Tensor, cond: Cond, frames: Tensor) -> Tensor:
        """(B, M, T) log-mel of whole utterances; raw prosody, and (B, P) frames."""
        layout = aligned(frames, int(frames.sum(1).max()))
        mel = self.sound(code, self.normalized(prosody), cond, layout["at"], layout["place"][..., 0])
        return self.scale.restored(mel)

    def normalized(self, prosody: Tensor) -> Tensor:
        """Raw to normalized prosody."""
        return (prosody - self.prosody_mean) / self.prosody_std

    def restored(self, prosody: Tensor) -> Tensor:
        """Normalized to raw prosody."""
        return prosody * self.prosody_std + self.prosody_mean


class SpeakerEncoder(nn.Module):
    """Who speaks: convolutions, then mean and deviation over time.

    Args:
        bands: M.
        channels: width.
        size: D.
    """

    def __init__(self, bands: int, channels: int, size: int) -> None:
        """Frames are halved once."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(bands, channels, 5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 5, padding=2),
            nn.ReLU(),
        )
        self.out = nn.Linear(2 * channels, size)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) normalized mel -> (B, D)."""
        seen = self.layers(mel)
        pooled = torch.cat([seen.mean(-1), seen.var(-1, unbiased=False).add(1e-5).sqrt()], -1)
        return F.layer_norm(self.out(pooled), (self.out.out_features,))


class ProsodyDecoder(nn.Module):
    """P: phones look at the code.

    Args:
        sizes: widths.
    """

    def __init__(self, sizes: Sizes) -> None:
        """A token is known by its place."""
        super().__init__()
        channels = sizes.channels
        self.inner = nn.Linear(sizes.size, channels)
        self.place = nn.Parameter(torch.randn(sizes.tokens + 1, channels) / channels**0.5)
        self.blocks = nn.ModuleList(Block(channels, sizes.heads) for _ in range(DEPTH))
        self.head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 3))

    def forward(self, code: Tensor, hidden: Tensor, real: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, K + 1, D), (B, P, C), (B, P) -> layers (B, P, C) and (B, P, 3)."""
        context = self.inner(code) + self.place
        x = hidden + places(real, hidden.shape[-1])
        layers = []
        for block in self.blocks:
            x = block(x, context, real=real)
            layers.append(x * real[..., None])
        return tuple(layers), self.head(x) * real[..., None]


class AcousticDecoder(nn.Module):
    """M: residual convolutions over frames, scaled and shifted by the voice (Perez et al. 2018 FiLM).

    Args:
        sizes: widths.
    """

    def __init__(self, sizes: Sizes) -> None:
        """Phones and prosody are laid out in time first."""
        super().__init__()
        wide = sizes.acoustic
        self.phones = nn.Linear(sizes.channels + 3, wide)
        self.passed = nn.Linear(2, wide)
        self.films = nn.ModuleList(nn.Linear(sizes.size, 2 * wide) for _ in DILATIONS)
        self.wide = nn.ModuleList(nn.Conv1d(wide, wide, 3, padding=d, dilation=d) for d in DILATIONS)
        self.mix = nn.ModuleList(nn.Conv1d(wide, wide, 1) for _ in DILATIONS)
        self.out = nn.Conv1d(wide, sizes.bands, 1)

    def forward(self, hidden: Tensor, prosody: Tensor, voice: Tensor, at: Tensor, passed: Tensor) -> Tensor:
        """(B, P, C), (B, P, 3), (B, D), (B, T), (B, T) -> (B, M, T)."""
        told = self.phones(torch.cat([hidden, prosody], -1))
        place = torch.stack([passed, passed.square()], -1)
        x = told.gather(1, at[..., None].expand(-1, -1, told.shape[-1])) + self.passed(place)
        x = x.transpose(1, 2)
        for film, wide, mix in zip(self.films, self.wide, self.mix, strict=True):
            scale, shift = film(voice)[..., None].chunk(2, 1)
            x = x + mix(F.relu(wide(x) * (1 + scale) + shift))
        return self.out(x)


class Book(nn.Module):
    """Vector quantisation: the nearest of ``count`` vectors, with the gradient of the identity (van den Oord et al. 2017).

    Args:
        count: of vectors.
        size: D.
    """

    def __init__(self, count: int, size: int) -> None:
        """Vectors of the length that codes have."""
        super().__init__()
        self.vectors = nn.Parameter(F.layer_norm(torch.randn(count, size), (size,)))

    def forward(self, code: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        return code + (self.nearest(code) - code).detach()

    def nearest(self, code: Tensor) -> Tensor:
        """(B, K, D) vectors of the book, with their own gradient."""
        return self.vectors[torch.cdist(code.detach().flatten(0, 1), self.vectors).argmin(-1)].view_as(code)


class Perception(nn.Module):
    """What the frozen decoders see in a code: layers and heads of P, and a mel of M on an even layout.

    The layout has ``EVEN`` frames for every phone whatever its duration, so that two codes can be compared frame by
    frame; M is told durations, and passes their gradient on.

    Args:
        autoencoder: frozen.
        mean: (K + 1, D) of the codes.
        std: (K + 1, D) of the codes.
    """

    EVEN = 1

    def __init__(self, autoencoder: StyleAutoencoder, mean: Tensor, std: Tensor) -> None:
        """Look through it."""
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    mean: Tensor
    std: Tensor

    def forward(self, x: Tensor, cond: Cond) -> dict[str, tuple[Tensor, ...]]:
        """(B, K + 1, D) states -> groups "prosody" and "mel"."""
        code = x * self.std + self.mean
        layers, prosody = self.autoencoder.decoded(code, cond)
        real = cond.data["phones"] > 0
        at = torch.arange(real.shape[1], device=x.device).repeat_interleave(self.EVEN).expand(len(x), -1)
        passed = ((torch.arange(self.EVEN, device=x.device) + 0.5) / self.EVEN).repeat(real.shape[1])
        mel = self.autoencoder.sound(code, prosody, cond, at, passed.to(x.dtype).expand(len(x), -1))
        heads = prosody.unbind(-1)
        return {"prosody": (*layers, *heads), "mel": (mel * real.gather(1, at)[:, None],)}


def places(real: Tensor, channels: int) -> Tensor:
    """(B, P) -> (B, P, C): where in its sentence a phone stands, as a share of its length."""
    count = real.sum(1, keepdim=True).clamp(min=1)
    share = (torch.arange(real.shape[1], device=real.device) + 0.5) / count
    return sinusoids(16 * share, channels, 100.0)
