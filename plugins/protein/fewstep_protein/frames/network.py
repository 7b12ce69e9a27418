"""A network of frames: invariants of relative frames in, moves in local frames out.

Shape legend: B chains, N residues, K = 2 REACH neighbors along the chain, H heads, C channels, F relative features. A
state is a mapping with place (B, N, 3) in nanometers and turn (B, N, 3, 3). Seen from residue i, residue j stands at
R_i^T (x_j - x_i) turned by R_i^T R_j: these are all invariants that there are, so nothing is lost by reading only them
(Jumper et al. 2021 algorithm 22 reads points in such frames). The network refines its own estimate: every round
reads the frames as they stand and moves them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.processes.rotations import exp
from fewstep.protocol import Cond
from fewstep_protein.frames.rigid import DISTANCES, ideal_residue

REACH = 4
"""Neighbors on either side that are read in full; a helix turn is four."""
FAR = 24
"""Sequence distances beyond this share one embedding."""
RADII = 16
"""Radial basis functions of a distance between 0 and MOST nanometers."""
MOST = 2.4
CLOSE = 0.4
"""Nanometers within which a relative place is read as it is; further away it is read as a direction."""
STRAIN = 0.05
"""Nanometers within which the strain of a bond is read as it is."""
TURNED = 2.0
"""Radians by which a uniform rotation is about turned: by how much rotations may be wrong at t = 1."""
MOST_STEPS = 64
"""Student steps that the index embedding can tell apart."""
PREDICTS = "place=x0,turn=x0"
"""What the network says."""


class FrameNet(nn.Module):
    """Noisy frames, time (B,), condition -> clean frames, equivariant to rotations and not to reflections.

    The mask of the condition (place (B, N, 1)) says which residues are real; padding neither acts nor is acted on. The
    step index is added to the time embedding through weights that start at zero: fake and student start as their teacher.

    Args:
        spread: standard deviation of clean places per axis, nanometers.
        width: channels C.
        rounds: how often the frames are read again and moved.
        layers: attention layers per round.
        heads: attention heads H.
        reads_index: whether the step index is read; teachers and students do not need it.
    """

    def __init__(
        self,
        spread: float,
        width: int = 64,
        rounds: int = 3,
        layers: int = 1,
        heads: int = 4,
        reads_index: bool = False,
    ) -> None:
        """Build the rounds."""
        super().__init__()
        self.spread = spread
        self.width = width
        self.reads_index = reads_index
        self.time = nn.Sequential(nn.Linear(2 * RADII, width), nn.SiLU(), nn.Linear(width, width))
        self.index = nn.Embedding(MOST_STEPS, width)
        nn.init.zeros_(self.index.weight)
        self.rounds = nn.ModuleList(Round(width, layers, heads) for _ in range(rounds))

    def forward(self, x: Any, time: Tensor, cond: Cond) -> dict[str, Tensor]:
        """Clean places (B, N, 3) and rotations (B, N, 3, 3).

        Args:
            x: place (B, N, 3) of unit variance, as the process shows it; turn (B, N, 3, 3).
            time: (B,) 1000 t of a flow, t = 1 is noise.
            cond: mask of the leaves or None; index (B,) or None.
        """
        t = time / 1000
        real = _real(x["place"], cond)
        context = self.time(_time_features(t))
        if self.reads_index and cond.index is not None:
            context = context + self.index(cond.index)
        # The estimate starts where a Gaussian of this spread would have it, and moves by about what it may be wrong.
        root = ((1 - t).square() * self.spread**2 + t.square()).sqrt()
        noisy = x["place"] * root[:, None, None]
        place = x["place"] * ((1 - t) * self.spread**2 / root)[:, None, None]
        stride = torch.stack([self.spread * t / root, TURNED * t], 1)[:, None]
        turn = x["turn"]
        start = relations(noisy, turn, real)
        hidden = place.new_zeros(*place.shape[:2], self.width)
        for stage in self.rounds:
            place, turn, hidden = stage((place, turn, hidden), start, context, stride, real)
        return {"place": place, "turn": turn}


class Round(nn.Module):
    """Read the frames, mix along the chain, move the frames."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        """Zero-initialized where it moves anything, so that a fresh network moves nothing."""
        super().__init__()
        self.read = nn.Linear(4 * REACH * FEATURES + 3 * STRAINS, width)
        self.pair = nn.Linear(FEATURES, heads * layers)
        self.along = nn.Embedding(2 * FAR + 1, heads * layers)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.steer = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, STEERS))
        nn.init.zeros_(self.steer[-1].weight)
        nn.init.zeros_(self.steer[-1].bias)

    def forward(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        start: Tensor,
        context: Tensor,
        stride: Tensor,
        real: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places, rotations and hidden state (B, N, C) after this round.

        Args:
            state: places, rotations, hidden state before it.
            start: (B, N, K, F) what neighbors the noisy frames have.
            context: (B, C) time and step.
            stride: (B, 1, 2) by how much places (nanometers) and rotations (radians) may be wrong.
            real: (B, N).
        """
        place, turn, hidden = state
        near = neighbors(place, turn, real)
        strain = peptide_strain(near)
        local = torch.cat([features(*near, real), start], 2).flatten(2)
        hidden = hidden + self.read(torch.cat([local, _soft(strain, STRAIN).flatten(2)], -1))
        pairs = pair_features(place, turn)
        biases = (self.pair(pairs) + self.along(_apart(place))).masked_fill(~real[:, None, :, None], -1e9)
        biases = biases.permute(0, 3, 1, 2).chunk(len(self.blocks), 1)
        for block, bias in zip(self.blocks, biases, strict=True):
            hidden = block(hidden, context, bias, (place, turn, pairs))
        steer = self.steer(self.norm(hidden)) * real[..., None]
        step, twist = moves(near, steer[..., RELIEFS:])
        slide, swing = relief(strain, steer[..., :RELIEFS])
        step, twist = stride[..., :1] * step + slide, stride[..., 1:] * twist + swing
        return place + (turn @ step.unsqueeze(-1)).squeeze(-1), turn @ exp(twist), hidden


class Block(nn.Module):
    """Attention over relative frames, and a feed-forward; both scaled by time (adaptive layer norm).

    Beside values, every head brings the mean relative features of where it looks, and a point that each residue sets in
    its own frame, seen from the residue that looks (invariant point attention, Jumper et al. 2021 algorithm 22).
    """

    def __init__(self, width: int, heads: int) -> None:
        """Two residual branches."""
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(width, 4 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.point = nn.Linear(width, 3 * heads)
        self.out = nn.Linear(width + heads * (FEATURES + 3), width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(
        self, hidden: Tensor, context: Tensor, bias: Tensor, frames: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """(B, N, C) -> (B, N, C); bias (B, H, N, N); frames are places, rotations and pair features (B, N, N, F)."""
        place, turn, pairs = frames
        shift, scale, shift_feed, scale_feed = self.modulate(context)[:, None].chunk(4, -1)
        seen = _normed(hidden) * (1 + scale) + shift
        query, key, value = self.qkv(seen).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weight = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + bias, -1)
        mixed = (weight @ value).transpose(1, 2).flatten(2)
        related = torch.einsum("bhij,bijf->bihf", weight, pairs).flatten(2)
        point = place.unsqueeze(2) + self.point(seen).unflatten(-1, (self.heads, 3)) @ turn.mT
        there = torch.einsum("bhij,bjhc->bihc", weight, point) - place.unsqueeze(2)
        hidden = hidden + self.out(torch.cat([mixed, related, _soft(there @ turn).flatten(2)], -1))
        return hidden + self.feed(_normed(hidden) * (1 + scale_feed) + shift_feed)


FEATURES = RADII + 3 + 9
"""Of a relative frame: its distance, its place (softly bounded), its rotation."""
STRAINS, RELIEFS = 8, 12
"""Fixed distances across the two peptide bonds of a residue; shares by which they are relieved, 8 moves and 4 turns."""
STEERS = RELIEFS + 6 + 2 * REACH * 8
"""Shares of relief, a free move and twist, and for each neighbor a share and a point, twice."""


def neighbors(place: Tensor, turn: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbors -REACH..-1, 1..REACH in each residue's frame: places (B, N, K, 3), rotations (B, N, K, 3, 3).

    Past the ends of the chain both are zero.
    """
    there = _window(real[..., None].to(place.dtype))
    away = (_window(place) - place.unsqueeze(2)) * there
    turned = _window(turn.flatten(-2)).unflatten(-1, (3, 3))
    return away @ turn, (turn.mT.unsqueeze(2) @ turned) * there.unsqueeze(-1)


def _window(x: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, K, D)."""
    padded = F.pad(x, (0, 0, REACH, REACH)).unfold(1, 2 * REACH + 1, 1).transpose(2, 3)
    return torch.cat([padded[:, :, :REACH], padded[:, :, REACH + 1 :]], 2)


def features(away: Tensor, turned: Tensor, real: Tensor) -> Tensor:
    """(B, N, K, F) of relative frames; zero past the ends."""
    there = turned.flatten(-2).square().sum(-1, keepdim=True) > 0
    return (
        torch.cat([_radial(_size(away)), _soft(away), turned.flatten(-2)], -1) * there * real[..., None, None]
    )


def relations(place: Tensor, turn: Tensor, real: Tensor) -> Tensor:
    """(B, N, K, F) features of all neighbors."""
    return features(*neighbors(place, turn, real), real)


def pair_features(place: Tensor, turn: Tensor) -> Tensor:
    """(B, N, N, F) features of j seen from i."""
    away = (place.unsqueeze(1) - place.unsqueeze(2)) @ turn
    columns = turn.permute(0, 2, 1, 3).flatten(2)  # (B, 3, 3 N): all axes of all residues
    turned = (turn.mT.flatten(1, 2) @ columns).unflatten(1, (-1, 3)).unflatten(3, (-1, 3))
    return torch.cat([_radial(_size(away)), _soft(away), turned.transpose(2, 3).flatten(-2)], -1)


def moves(near: tuple[Tensor, Tensor], steer: Tensor) -> tuple[Tensor, Tensor]:
    """Move and twist (B, N, 3) in each residue's own frame.

    A residue may go some share of the way to a point in a neighbor's frame: so a bond keeps its length however the
    chain lies. It may turn about neighbors' axes, which is how it aligns with them.
    """
    away, turned = near
    free, twist, by = steer[..., :3], steer[..., 3:6], steer[..., 6:].unflatten(-1, (2 * REACH, 8))
    there = turned.diagonal(dim1=-2, dim2=-1).abs().sum(-1, keepdim=True) > 0
    point = away + (turned @ by[..., 1:4].unsqueeze(-1)).squeeze(-1)
    step = free + (by[..., :1] * point * there).sum(2)
    skew = torch.stack([turned[..., i, j] - turned[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    toward = by[..., 4:5] * skew + (turned @ by[..., 5:].unsqueeze(-1)).squeeze(-1)
    return step, twist + toward.sum(2)


def peptide_strain(near: tuple[Tensor, Tensor]) -> Tensor:
    """(B, N, STRAINS, 3) how far atoms of each residue are from where fixed distances to its neighbors want them.

    A trans peptide fixes four distances: C-N, C-CA, CA-N and CA-CA. Order: before N-C, N-CA; after C-N, C-CA; before
    CA-C, CA-CA; after CA-N, CA-CA. In the residue's own frame, along the distance; zero where there is no neighbor.
    """
    away, turned = near[0][:, :, REACH - 1 : REACH + 1], near[1][:, :, REACH - 1 : REACH + 1]
    n, alpha, c = ideal_residue(away.dtype).to(away.device)
    there = turned.diagonal(dim1=-2, dim2=-1).abs().sum(-1) > 0
    bonded = torch.stack([c, n]).unsqueeze(-1)
    theirs = torch.stack([away + (turned @ bonded).squeeze(-1), away], 3)  # (B, N, side, C or N then CA, 3)
    ours = torch.stack([torch.stack([n, c]), torch.stack([alpha, alpha])])  # (N or C then CA, side, 3)
    gap = theirs.unsqueeze(2) - ours[:, :, None]
    size = gap.square().sum(-1, keepdim=True).add(1e-6).sqrt()
    wanted = torch.tensor(DISTANCES, dtype=gap.dtype, device=gap.device).unsqueeze(-1)
    strain = gap * (1 - wanted / size) * there[:, :, None, :, None, None]
    return strain.flatten(2, 4)


def relief(strain: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Move and twist (B, N, 3) that relieve shares (B, N, RELIEFS) of strain: by moving, by turning N and C about CA."""
    n, _, c = ideal_residue(strain.dtype).to(strain.device)
    arm = torch.stack([n, n, c, c])
    turning = strain[:, :, :4]
    swing = torch.linalg.cross(arm.expand_as(turning), turning) / arm.square().sum(-1, keepdim=True)
    return (share[..., :STRAINS, None] * strain).sum(2), (share[..., STRAINS:, None] * swing).sum(2)


def _real(place: Tensor, cond: Cond) -> Tensor:
    """(B, N)."""
    if cond.mask is None:
        return torch.ones_like(place[..., 0], dtype=torch.bool)
    real: Tensor = cond.mask["place"][..., 0]
    return real


def _apart(place: Tensor) -> Tensor:
    """(N, N) sequence distance, as a row of an embedding."""
    at = torch.arange(place.shape[1], device=place.device)
    return (at[None] - at[:, None]).clamp(-FAR, FAR) + FAR


def _size(v: Tensor) -> Tensor:
    return v.square().sum(-1, keepdim=True).add(1e-6).sqrt()


def _soft(v: Tensor, close: float = CLOSE) -> Tensor:
    """A vector that is read as it is below ``close``, and as a direction far away; of about unit size."""
    return v / (close + _size(v))


def _radial(size: Tensor) -> Tensor:
    """(..., RADII) bumps of a distance (..., 1)."""
    centers = torch.linspace(0.0, MOST, RADII, device=size.device, dtype=size.dtype)
    return torch.exp(-((size - centers) / (MOST / RADII)).square())


def _time_features(t: Tensor) -> Tensor:
    """(B, 2 RADII) sines and cosines of half the log of noise over signal, bounded at the ends."""
    ratio = 0.5 * (t.clamp(min=1e-4).log() - (1 - t).clamp(min=1e-4).log())
    angles = ratio[:, None] * torch.exp(torch.linspace(-2.0, 2.0, RADII, device=t.device, dtype=t.dtype))
    return torch.cat([angles.sin(), angles.cos()], -1)


def _normed(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:])
