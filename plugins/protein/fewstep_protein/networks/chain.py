"""A chain network: invariant features in, rotation-equivariant and reflection-sensitive moves out.

Shape legend: B chains, N residues, K neighbors along the chain, H heads, C channels. Coordinates are (B, N, 3) in nm.
Bond lengths need an error of a thousandth of the chain's size. Three things make that easy:

- It starts from the best guess of a Gaussian chain (``prior``), so that shapes are read from a smooth curve, not from noise.
- It refines its own estimate: every round reads the coordinates as they stand, mixes along the chain, and moves them.
- It moves along *unit* vectors to neighbors, in units of what noise leaves open: "pull this bond to 0.38 nm" is linear in
  what it reads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond
from fewstep_protein.networks.bumps import bumps
from fewstep_protein.networks.contacts import COUNT, contacts
from fewstep_protein.networks.prior import best_guess, modes

REACH = 4
"""Neighbors on either side that a residue sees; a helix turn is four."""
NEAREST = slice(REACH - 1, REACH + 1)
"""The two bonded ones among them."""
FAR = 24
"""Sequence distances beyond this share one embedding."""
MOST_STEPS = 64
"""Student steps that the index embedding can tell apart."""
BOND = 0.38
"""Length of a bond in nm, around which lengths are read in units of the noise."""
TRIPLES = ((3, 4, 5), (2, 3, 4), (4, 5, 6), (2, 4, 6), (1, 4, 7), (0, 3, 7))
"""Neighbors whose triple products tell a left hand from a right one (columns of :func:`neighbors`)."""
CROSSES = ((3, 4), (4, 5), (2, 3))
"""Neighbors whose cross products a residue may move along."""
LENGTHS = tuple((0.06 * i, 0.06) for i in range(22))
"""(center, width) of the bumps in which distances to neighbors are read; nm."""
GAPS = tuple((0.3 + 0.1 * i, 0.1) for i in range(7)) + tuple((1.0 + 0.25 * i, 0.25) for i in range(7))
"""(center, width) of the bumps in which distances of all pairs are read; nm."""
CLOCK = 16
"""Frequencies in which time is read."""


class ChainNet(nn.Module):
    """Coordinates (B, N, 3), time (B,), condition -> raw prediction (B, N, 3) in the meaning "edm" of a rectified flow.

    A fresh network answers with the posterior mean of a Gaussian chain. The mask of the condition (B, N, 1) says which
    residues are real, padding last; it neither acts nor is acted on. Labels, step index and destination, where they are
    read, are added to the time embedding through weights that start at zero: fake and student start exactly as their
    teacher.

    Args:
        width: channels C.
        rounds: how often the coordinates are read again and moved.
        layers: transformer layers per round.
        heads: attention heads H.
        sigma_data: standard deviation of the data in nm, as the process has it.
        reads_index: whether the step index is read; teachers and students do not need it.
        lands: whether it is told the time where a flow map lands.
        labels: number of classes at each level of ``cond.data["cath"]`` (B, levels) int64, where 0 means not told.
    """

    def __init__(
        self,
        width: int = 64,
        rounds: int = 2,
        layers: int = 2,
        heads: int = 4,
        sigma_data: float = 1.0,
        *,
        reads_index: bool = False,
        lands: bool = False,
        labels: tuple[int, ...] = (),
    ) -> None:
        """Build the rounds."""
        super().__init__()
        self.width = width
        self.sigma_data = sigma_data
        self.reads_index = reads_index
        self.accepts = frozenset({"to"} if lands else ())
        self.time = _clock(width)
        self.index = _silent(nn.Embedding(MOST_STEPS, width))
        self.labels = nn.ModuleList(
            _silent(nn.Embedding(count + 1, width, padding_idx=0)) for count in labels
        )
        self.rounds = nn.ModuleList(Round(width, layers, heads) for _ in range(rounds))
        self.destination = _clock(width) if lands else None
        if self.destination is not None:
            _silent(self.destination[-1])

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """What the rounds moved, and what a Gaussian chain knows better than an isotropic Gaussian.

        Args:
            x: (B, N, 3) coordinates of about unit variance.
            time: (B,) 1000 t of a rectified flow, t = 1 is noise.
            cond: mask (B, N, 1) or None; index (B,) or None; data with "cath", or None.
            to: (B,) 1000 s, where a flow map lands.
        """
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if cond.mask is None else cond.mask[..., 0]
        context = self._context(time, cond, to)
        sigma = (time / 1000)[:, None, None]
        alpha, size = 1 - sigma, self.sigma_data
        spread = ((alpha * size).square() + sigma.square()).sqrt()
        waves = modes(real, x.dtype)
        guess = waves.scaled(spread * x, best_guess(waves.variance, alpha, sigma))
        left = sigma * size / spread
        noise = sigma / alpha.clamp(min=0.05)
        moved, hidden = torch.zeros_like(x), x.new_zeros(*x.shape[:2], self.width)
        start = read(guess, real, noise)[0]
        for stage in self.rounds:
            step, hidden = stage(guess + left * moved, start, hidden, context, real, noise)
            moved = moved + step
        # In the meaning "edm" the estimate is a x_t + b raw with b = left; nothing is divided by the noise.
        surplus = waves.variance - size**2
        better = alpha * sigma * surplus / (size * (alpha.square() * waves.variance + sigma.square()))
        return moved + waves.scaled(x, better)

    def _context(self, time: Tensor, cond: Cond, to: Tensor | None) -> Tensor:
        """(B, C) time, and what else a chain's network is told."""
        context: Tensor = self.time(_time_features(time / 1000))
        if self.reads_index and cond.index is not None:
            context = context + self.index(cond.index)
        if self.labels and cond.data is not None:
            told = cond.data["cath"]
            context = context + sum(table(told[:, level]) for level, table in enumerate(self.labels))
        if to is not None and self.destination is not None:
            context = context + self.destination(_time_features(to / 1000))
        return context


class Round(nn.Module):
    """Read invariants of the coordinates, mix along the chain, say where to move."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        """Zero-initialized where it moves anything."""
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(2 * _read_count() + 2 * COUNT, width)
        self.radial = nn.Linear(len(GAPS), heads * (layers + 1))
        self.along = nn.Embedding(2 * FAR + 1, heads * (layers + 1))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 2 * width)
        self.steer = _silent(nn.Linear(width, 2 * REACH + len(CROSSES) + heads + COUNT))

    def forward(
        self, x: Tensor, start: Tensor, hidden: Tensor, context: Tensor, real: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A step (B, N, 3) in units of what noise leaves open, and the hidden state (B, N, C) after this round.

        Args:
            x: (B, N, 3) coordinates so far.
            start: (B, N, F) what was read where the network began.
            hidden: (B, N, C).
            context: (B, C) time, step, labels.
            real: (B, N).
            noise: (B, 1, 1) sigma / alpha in nm.
        """
        seen, toward = read(x, real, noise)
        gap = (x[:, :, None] - x[:, None]).square().sum(-1).add(1e-6).sqrt()
        crowd, away = contacts(x, gap, real, noise)
        hidden = hidden + self.read(torch.cat([seen, start, crowd], -1))
        biases = self._pair_biases(gap, real)
        for block, bias in zip(self.blocks, biases[:-1], strict=True):
            hidden = block(hidden, context, bias)
        told = self.norm(hidden)
        first, second = (list(places) for places in zip(*CROSSES, strict=True))
        turned = torch.linalg.cross(toward[:, :, first], toward[:, :, second])
        ways = torch.cat([toward, turned, self._pooled(x, told, biases[-1]), away], 2)
        step = torch.einsum("bnk,bnkc->bnc", self.steer(told), ways)
        return step * real[..., None], hidden

    def _pair_biases(self, gap: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """(B, H, N, N) additive attention logits, one per layer and one for pooling; padding gets -1e9."""
        place = torch.arange(gap.shape[1], device=gap.device)
        apart = (place[None] - place[:, None]).clamp(-FAR, FAR) + FAR
        logits = self.radial(bumps(gap, GAPS)) + self.along(apart)
        logits = logits.masked_fill(~real[:, None, :, None], -1e9)
        return logits.permute(0, 3, 1, 2).chunk(len(self.blocks) + 1, 1)

    def _pooled(self, x: Tensor, told: Tensor, bias: Tensor) -> Tensor:
        """(B, N, H, 3) directions to attention-weighted places of the chain, shorter than 1."""
        query, key = _split(self.pool(told), 2, self.heads)
        weight = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + bias, -1)
        toward = (weight @ x[:, None] - x[:, None]).transpose(1, 2)
        return toward / (toward.square().sum(-1, keepdim=True) + 0.04).sqrt()


class Block(nn.Module):
    """Attention with a pair bias and a gated feed-forward, both scaled by time (adaptive layer norm, zero gates)."""

    def __init__(self, width: int, heads: int) -> None:
        """Two residual branches."""
        super().__init__()
        self.heads = heads
        self.modulate = _silent(nn.Linear(width, 6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); bias (B, H, N, N) is added to the attention logits."""
        shift, scale, gate, shift_feed, scale_feed, gate_feed = self.modulate(context)[:, None].chunk(6, -1)
        seen = _normed(hidden) * (1 + scale) + shift
        query, key, value = _split(self.qkv(seen), 3, self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        hidden = hidden + (1 + gate) * self.out(mixed.transpose(1, 2).flatten(2))
        seen = _normed(hidden) * (1 + scale_feed) + shift_feed
        return hidden + (1 + gate_feed) * self.feed(seen)


def neighbors(x: Tensor, real: Tensor) -> Tensor:
    """(B, N, 2 REACH, 3) vectors from a residue to its neighbors -REACH..-1, 1..REACH; zero past the chain's ends."""
    padded = F.pad(x, (0, 0, REACH, REACH)).unfold(1, 2 * REACH + 1, 1).transpose(2, 3)
    there = F.pad(real, (REACH, REACH)).unfold(1, 2 * REACH + 1, 1) & real[..., None]
    vectors = (padded - x[:, :, None]) * there[..., None]
    return torch.cat([vectors[:, :, :REACH], vectors[:, :, REACH + 1 :]], 2)


def read(x: Tensor, real: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Invariants (B, N, F) of the neighborhood of each residue, and unit vectors (B, N, 2 REACH, 3) to its neighbors.

    The invariants are cosines, triple products (which a mirror image flips), lengths in bumps, and how much longer than
    a bond its bonds are, in units of the noise.
    """
    vectors = neighbors(x, real)
    length = vectors.square().sum(-1).add(1e-4).sqrt()
    toward = vectors / length[..., None]
    row, column = torch.triu_indices(2 * REACH, 2 * REACH, 1)
    cosines = (toward @ toward.mT)[..., row, column]
    a, b, c = (list(places) for places in zip(*TRIPLES, strict=True))
    triples = (torch.linalg.cross(toward[:, :, a], toward[:, :, b]) * toward[:, :, c]).sum(-1)
    longer = length[..., NEAREST] - BOND
    stretch = [torch.tanh(longer / (wide * noise + 0.003)) for wide in (1, 4)]
    lengths = [bumps(length, LENGTHS).flatten(-2), torch.tanh(length / 0.5)]
    return torch.cat([cosines, triples, *lengths, *stretch], -1), toward


def _read_count() -> int:
    return REACH * (2 * REACH - 1) + len(TRIPLES) + 2 * REACH * (len(LENGTHS) + 1) + 4


def _time_features(t: Tensor) -> Tensor:
    """(B, 2 CLOCK) sines and cosines of half the log of noise over signal, bounded at the ends."""
    ratio = 0.5 * (t.clamp(min=1e-4).log() - (1 - t).clamp(min=1e-4).log())
    angles = ratio[:, None] * torch.exp(torch.linspace(-2.0, 2.0, CLOCK, device=t.device, dtype=t.dtype))
    return torch.cat([angles.sin(), angles.cos()], -1)


def _clock(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * CLOCK, width), nn.SiLU(), nn.Linear(width, width))


def _silent(layer: nn.Module) -> nn.Module:
    """The layer with zero weights: it says nothing until it learns to."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _split(joined: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts C) -> parts of (B, H, N, C / H)."""
    return joined.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _normed(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:])
