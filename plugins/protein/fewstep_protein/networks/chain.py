"""A chain network: invariant features in, rotation-equivariant and reflection-sensitive displacements out.

Shape legend: B chains, N residues, K neighbors along the chain, H heads, C channels. Coordinates are (B, N, 3).
Bond lengths need an error of a thousandth of the chain's size, so the network refines its own estimate: every round
reads invariants of the coordinates as they stand, mixes them along the chain, and moves the coordinates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond

REACH = 4
"""Neighbors on either side whose difference vectors a residue sees; a helix turn is four."""
FAR = 24
"""Sequence distances beyond this share one embedding."""
RADII = 16
"""Radial basis functions of a pair distance."""
MOST_STEPS = 64
"""Student steps that the index embedding can tell apart."""
TRIPLES = ((3, 4, 5), (2, 3, 4), (4, 5, 6), (2, 4, 6), (1, 4, 7), (0, 3, 7))
"""Neighbor vectors whose triple products tell a left hand from a right one (columns of :func:`neighbors`)."""
CROSSES = ((3, 4), (4, 5), (2, 3))
"""Neighbor vectors whose cross products a residue may move along."""


class ChainNet(nn.Module):
    """Coordinates (B, N, 3), time (B,), condition -> raw prediction (B, N, 3).

    The mask of the condition (B, N, 1) says which residues are real; padding neither acts nor is acted on. The step
    index and the destination, where they are read, are added to the time embedding through weights that start at zero:
    fake and student start exactly as their teacher.

    Args:
        width: channels C.
        rounds: how often the coordinates are read again and moved.
        layers: transformer layers per round.
        heads: attention heads H.
        reads_index: whether the step index is read; teachers and students do not need it.
        lands: whether it is told the time where a flow map lands.
    """

    def __init__(
        self,
        width: int = 64,
        rounds: int = 2,
        layers: int = 2,
        heads: int = 4,
        reads_index: bool = False,
        lands: bool = False,
    ) -> None:
        """Build the rounds."""
        super().__init__()
        self.width = width
        self.reads_index = reads_index
        self.accepts = frozenset({"to"} if lands else ())
        self.time = _clock(width)
        self.index = nn.Embedding(MOST_STEPS, width)
        nn.init.zeros_(self.index.weight)
        self.rounds = nn.ModuleList(Round(width, layers, heads) for _ in range(rounds))
        if lands:
            self.destination = _clock(width)
            nn.init.zeros_(self.destination[-1].weight)
            nn.init.zeros_(self.destination[-1].bias)

    def forward(self, x: Tensor, time: Tensor, cond: Cond, to: Tensor | None = None) -> Tensor:
        """The displacement that the rounds made together.

        Args:
            x: (B, N, 3) coordinates of about unit variance.
            time: (B,) 1000 t of a rectified flow, t = 1 is noise.
            cond: mask (B, N, 1) or None; index (B,) or None.
            to: (B,) 1000 s, where a flow map lands.
        """
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if cond.mask is None else cond.mask[..., 0]
        context = self.time(_time_features(time / 1000))
        if self.reads_index and cond.index is not None:
            context = context + self.index(cond.index)
        if to is not None:
            context = context + self.destination(_time_features(to / 1000))
        moved, hidden = x, x.new_zeros(*x.shape[:2], self.width)
        for stage in self.rounds:
            moved, hidden = stage(moved, x, hidden, context, real)
        return (moved - x) * real[..., None]


class Round(nn.Module):
    """Read invariants of the coordinates, mix along the chain, move the coordinates."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        """Zero-initialized where it moves anything, so that a fresh network predicts zero."""
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(2 * _local_count(), width)
        self.radial = nn.Linear(RADII, heads * (layers + 1))
        self.along = nn.Embedding(2 * FAR + 1, heads * (layers + 1))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 2 * width)
        self.steer = nn.Linear(width, 2 * REACH + len(CROSSES) + 2 * heads)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(
        self, moved: Tensor, start: Tensor, hidden: Tensor, context: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coordinates and hidden state (B, N, C) after this round.

        Args:
            moved: (B, N, 3) coordinates so far.
            start: (B, N, 3) the network's input, whose local shape is read beside.
            hidden: (B, N, C).
            context: (B, C) time and step.
            real: (B, N).
        """
        near = neighbors(moved, real)
        local = torch.cat([invariants(near), invariants(neighbors(start, real))], -1)
        hidden = hidden + self.read(local)
        biases = self._pair_biases(moved, real)
        for block, bias in zip(self.blocks, biases[:-1], strict=True):
            hidden = block(hidden, context, bias)
        seen = self.norm(hidden)
        steer = self.steer(seen)
        step = self._local_step(near, steer) + self._pooled_step(moved, start, seen, steer, biases[-1])
        return moved + step * real[..., None], hidden

    def _pair_biases(self, x: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """(B, H, N, N) additive attention logits, one per layer and one for pooling; padding gets -1e9."""
        gap = (x[:, :, None] - x[:, None]).square().sum(-1).add(1e-6).sqrt()
        place = torch.arange(x.shape[1], device=x.device)
        apart = (place[None] - place[:, None]).clamp(-FAR, FAR) + FAR
        logits = self.radial(_radial(gap, 4.5, 0.3)) + self.along(apart)
        logits = logits.masked_fill(~real[:, None, :, None], -1e9)
        return logits.permute(0, 3, 1, 2).chunk(len(self.blocks) + 1, 1)

    def _local_step(self, near: Tensor, steer: Tensor) -> Tensor:
        """Along neighbor vectors, and along their cross products (which a mirror image flips)."""
        along = torch.einsum("bnk,bnkc->bnc", steer[..., : 2 * REACH], near)
        first, second = zip(*CROSSES, strict=True)
        turned = torch.linalg.cross(near[:, :, list(first)], near[:, :, list(second)])
        return along + torch.einsum("bnk,bnkc->bnc", steer[..., 2 * REACH :][..., : len(CROSSES)], turned)

    def _pooled_step(self, moved: Tensor, start: Tensor, seen: Tensor, steer: Tensor, bias: Tensor) -> Tensor:
        """Towards attention-weighted places of the chain, one per head, in both sets of coordinates."""
        query, key = _split(self.pool(seen), 2, self.heads)
        weight = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias, -1)
        both = torch.cat([moved, start], -1)[:, None]
        toward = (weight @ both - both).unflatten(-1, (2, 3))
        amount = steer[..., -2 * self.heads :].unflatten(-1, (self.heads, 2)).transpose(1, 2)
        return torch.einsum("bhnk,bhnkc->bnc", amount, toward)


class Block(nn.Module):
    """Attention with a pair bias and a gated feed-forward, both scaled by time (adaptive layer norm, zero gates)."""

    def __init__(self, width: int, heads: int) -> None:
        """Two residual branches."""
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

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


def invariants(near: Tensor) -> Tensor:
    """(B, N, F) dot products of neighbor vectors, and triple products, which change sign in a mirror."""
    row, column = torch.triu_indices(2 * REACH, 2 * REACH)
    dots = (near @ near.transpose(-1, -2))[..., row, column]
    a, b, c = (list(places) for places in zip(*TRIPLES, strict=True))
    triples = (torch.linalg.cross(near[:, :, a], near[:, :, b]) * near[:, :, c]).sum(-1)
    found = torch.cat([dots, triples], -1)
    lengths = near.square().sum(-1).add(1e-6).sqrt()
    return torch.cat([found / (1 + found.abs()), _radial(lengths, 2.4, 0.2).flatten(-2)], -1)


def _local_count() -> int:
    return REACH * (2 * REACH + 1) + len(TRIPLES) + 2 * REACH * RADII


def _radial(gap: Tensor, most: float, width: float) -> Tensor:
    """(..., RADII) bumps of a distance, between 0 and ``most``."""
    centers = torch.linspace(0.0, most, RADII, device=gap.device, dtype=gap.dtype)
    return torch.exp(-((gap[..., None] - centers) / width).square())


def _time_features(t: Tensor) -> Tensor:
    """(B, 2 RADII) sines and cosines of half the log of noise over signal, bounded at the ends."""
    ratio = 0.5 * (t.clamp(min=1e-4).log() - (1 - t).clamp(min=1e-4).log())
    angles = ratio[:, None] * torch.exp(torch.linspace(-2.0, 2.0, RADII, device=t.device, dtype=t.dtype))
    return torch.cat([angles.sin(), angles.cos()], -1)


def _clock(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * RADII, width), nn.SiLU(), nn.Linear(width, width))


def _split(joined: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts C) -> parts of (B, H, N, C / H)."""
    return joined.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _normed(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:])
