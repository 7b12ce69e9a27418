"""A transformer with pair bias: the architecture of Proteina (Geffner et al. 2025, arXiv:2503.00710, section 3.2).

Shape legend: B chains, N residues, R registers, M = R + N tokens, H heads, L layers, C token channels, P pair channels.
Coordinates are (B, N, 3) in nanometers inside. It is not equivariant: it learns to turn with its input from turned data.

A pair of residues is described by two numbers, how far apart they are along the chain and in which bin their distance
falls, and its description is made once per call. Every layer normalizes it and turns it into one attention bias per
head. So the biases of all layers are one linear map of one normalized description, and for long chains a table of all
pairs of the two numbers is smaller than all pairs of residues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.protocol import Cond

APART = 63
"""Residues along the chain beyond which all pairs look alike."""
BINS, GUESS_BINS = 64, 128
"""Distance bins of x_t, and of the estimate that self-conditioning shows."""
BUCKETS = 64
"""Distance bins that the distogram head tells apart: 63 edges from 0 to DISTOGRAM_REACH."""
DISTOGRAM_REACH = 1.0
"""Nanometers."""
MOST_STEPS = 64
"""Student steps that the index embedding can tell apart."""
PLACES = 2056
"""Longest wavelength of the residue embedding."""
TICKS = 2000
"""Time runs from 0 to this in the time embedding, and it is the longest wavelength."""


@dataclass(frozen=True)
class PairSize:
    """Widths of a pair network; the bins of distances are in nanometers."""

    tokens: int
    layers: int
    heads: int
    pairs: int
    condition: int
    clock: int
    places: int
    registers: int
    nearest: float = 0.1
    farthest: float = 3.0


SIZES = {
    "small": PairSize(tokens=96, layers=4, heads=4, pairs=48, condition=96, clock=64, places=32, registers=4),
    "medium": PairSize(
        tokens=256, layers=6, heads=8, pairs=128, condition=256, clock=128, places=64, registers=10
    ),
    "large": PairSize(
        tokens=512, layers=10, heads=8, pairs=256, condition=512, clock=256, places=128, registers=10
    ),
}
"""About 1, 10 and 60 million parameters; the large one is Proteina's smallest published network."""


class PairNet(nn.Module):
    """Coordinates (B, N, 3), time (B,), condition -> raw prediction (B, N, 3).

    What a condition may hold beside mask and index, as a mapping: "cath" (B, levels) whole numbers, 0 = not told; "guess"
    (B, N, 3) nanometers, the network's own estimate (self-conditioning); "breaks" (B, N), 1 where the chain is broken after
    a residue. All may be left out. Labels, step and destination enter through weights that start at zero: fake and
    student start exactly as their teacher.

    Args:
        size: widths.
        sigma_data: standard deviation of the data in nanometers: the core shows states at unit variance.
        reads_index: whether the step index is read.
        lands: whether it is told the time where a flow map lands.
        labels: number of classes at each level of "cath".
        distogram: whether it has a head for distances of residues, see :class:`Distogram`.
    """

    def __init__(
        self,
        size: PairSize,
        sigma_data: float = 1.0,
        *,
        reads_index: bool = False,
        lands: bool = False,
        labels: tuple[int, ...] = (),
        distogram: bool = False,
    ) -> None:
        """Build it; the last layer starts at zero, and with it the prediction."""
        super().__init__()
        self.size, self.sigma_data, self.counts, self.reads_index = size, sigma_data, labels, reads_index
        self.accepts = frozenset({"features"} | ({"to"} if lands else set()))
        self.clock = nn.Linear(size.clock, size.condition, bias=False)
        self.settle = nn.ModuleList(Feed(size.condition, 2) for _ in range(2))
        self.index = nn.Embedding(MOST_STEPS, size.condition)
        self.labels = nn.ModuleList(nn.Embedding(count + 1, size.condition) for count in labels)
        self.destination = nn.Linear(size.clock, size.condition, bias=False) if lands else None
        self.see = nn.Linear(3, size.tokens, bias=False)
        self.read = nn.Linear(size.places + 4, size.tokens, bias=False)
        self.registers = nn.Parameter(torch.randn(size.registers, size.tokens) / 20)
        self.pairs = Pairs(size)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.tokens)
        self.place = nn.Linear(size.tokens, 3, bias=False)
        self.distogram = Distogram(size.tokens, size.pairs) if distogram else None
        for part in (self.index, *self.labels, self.destination, self.place):
            if part is not None:
                nn.init.zeros_(part.weight)

    def copied(self, reads_index: bool = False, lands: bool = False) -> PairNet:
        """A network of the same size with these weights that may learn; what it is told beyond changes nothing yet."""
        twin = PairNet(self.size, self.sigma_data, reads_index=reads_index, lands=lands, labels=self.counts)
        twin.to(self.place.weight)
        twin.load_state_dict(
            {name: self.state_dict().get(name, own) for name, own in twin.state_dict().items()}
        )
        return twin

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Cond,
        to: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Any:
        """The raw prediction, and the tokens (B, N, C) that leave the layers named in ``features`` if any are.

        Args:
            x: (B, N, 3) coordinates of about unit variance.
            time: (B,) 1000 t of a rectified flow, t = 1 is noise.
            cond: see the class.
            to: (B,) 1000 s, where a flow map lands.
            features: numbers of layers.
        """
        real = torch.ones_like(x[..., 0], dtype=torch.bool) if cond.mask is None else cond.mask[..., 0]
        told = cond.data if isinstance(cond.data, dict) else {}
        noise = time / 1000
        shown = x * (((1 - noise) * self.sigma_data).square() + noise.square()).sqrt()[:, None, None]
        clock = time_features(1 - noise, self.size.clock)
        context = self._context(clock, cond.index, told.get("cath"), to)
        biases = self.pairs(shown, real, told.get("guess"), clock, self.size.registers)
        tokens = torch.cat([self.registers.expand(len(x), -1, -1), self._tokens(shown, told)], 1)
        kinds = (torch.arange(tokens.shape[1], device=x.device) >= self.size.registers).long()
        found = []
        for layer, bias in zip(self.layers, biases, strict=True):
            tokens = layer(tokens, context, kinds, bias)
            found.append(tokens[:, self.size.registers :])
        raw = self.place(self.norm(found[-1])) * real[..., None]
        return (raw, tuple(found[i] for i in features)) if features else raw

    def _context(
        self, clock: Tensor, index: Tensor | None, labels: Tensor | None, to: Tensor | None
    ) -> Tensor:
        """(B, 2, condition): zeros for registers, and what residues of a chain are told."""
        context = self.clock(clock)
        for level, table in enumerate(self.labels):
            here = context.new_zeros(len(clock), dtype=torch.long) if labels is None else labels[:, level]
            context = context + table(here)
        if self.reads_index and index is not None:
            context = context + self.index(index)
        if to is not None and self.destination is not None:
            context = context + self.destination(time_features(1 - to / 1000, self.size.clock))
        for feed in self.settle:
            context = feed(context)
        return torch.stack([torch.zeros_like(context), context], 1)

    def _tokens(self, shown: Tensor, told: dict[str, Tensor]) -> Tensor:
        """(B, N, C) from the coordinates, the number of the residue, chain breaks, and the guess."""
        place = torch.arange(1, shown.shape[1] + 1, device=shown.device)
        known = place_features(place, self.size.places).to(shown.dtype).expand(len(shown), -1, -1)
        breaks = told.get("breaks", torch.zeros_like(shown[..., 0]))[..., None].to(shown.dtype)
        guess = told.get("guess", torch.zeros_like(shown))
        return self.see(shown) + self.read(torch.cat([known, breaks, guess], -1))


class Pairs(nn.Module):
    """Attention biases of all layers from places along the chain and distances in space."""

    edges: Tensor
    guess_edges: Tensor

    def __init__(self, size: PairSize) -> None:
        """Tables for the one-hot features, whose sum is normalized, scaled by time, and normalized again."""
        super().__init__()
        self.layers, self.heads = size.layers, size.heads
        fan_in = 2 * APART + 1 + BINS + GUESS_BINS
        self.apart = nn.Embedding(2 * APART + 1, size.pairs)
        self.near = nn.Embedding(BINS, size.pairs)
        self.guessed = nn.Embedding(GUESS_BINS, size.pairs)
        for table in (self.apart, self.near, self.guessed):
            nn.init.uniform_(table.weight, -(fan_in**-0.5), fan_in**-0.5)
        self.norm = nn.LayerNorm(size.pairs)
        self.clock = nn.Linear(size.clock, size.condition, bias=False)
        self.clock_norm = nn.LayerNorm(size.condition)
        self.scale = Scale(size.pairs, size.condition)
        # Each layer's own scale of the normalized description is part of its map to biases; a constant cancels in
        # the softmax, for registers too, whose description is zero.
        self.bias = nn.Linear(size.pairs, size.layers * size.heads, bias=False)
        for name, count in (("edges", BINS), ("guess_edges", GUESS_BINS)):
            edges = torch.linspace(size.nearest, size.farthest, count - 1)
            self.register_buffer(name, edges, persistent=False)

    def forward(
        self, x: Tensor, real: Tensor, guess: Tensor | None, clock: Tensor, registers: int
    ) -> tuple[Tensor, ...]:
        """One (B, H, M, M) additive attention logit per layer; registers are never padding, which gets -1e9."""
        gamma, beta = self.scale(self.clock_norm(self.clock(clock)))
        count = x.shape[1]
        place = torch.arange(count, device=x.device)
        apart = (place[:, None] - place[None]).clamp(-APART, APART) + APART
        near = torch.bucketize(_gaps(x), self.edges)
        if guess is None and count**2 > self.apart.num_embeddings * BINS:
            logits = self._from_table(apart, near, gamma, beta)
        else:
            pairs = self.apart(apart) + self.near(near)
            if guess is not None:
                pairs = pairs + self.guessed(torch.bucketize(_gaps(guess), self.guess_edges))
            logits = self._logits(pairs, gamma[:, None, None], beta[:, None, None])
        logits = F.pad(logits.permute(0, 3, 1, 2), (registers, 0, registers, 0))
        padding = F.pad(~real, (registers, 0))[:, None, None]
        return logits.masked_fill(padding, -1e9).chunk(self.layers, 1)

    def _from_table(self, apart: Tensor, near: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """The same logits (B, N, N, L H), looked up among all that can occur."""
        table = (self.apart.weight[:, None] + self.near.weight[None]).flatten(0, 1)
        values = self._logits(table[None], gamma[:, None], beta[:, None])
        row = torch.arange(len(near), device=near.device)[:, None, None]
        return values[row, apart * BINS + near]

    def _logits(self, pairs: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """(..., L H) from descriptions (..., P)."""
        logits: Tensor = self.bias(_normed(_normed(self.norm(pairs)) * gamma + beta))
        return logits


class Layer(nn.Module):
    """Gated attention with a pair bias, then a gated feed-forward; both read and written through scales from time."""

    def __init__(self, size: PairSize) -> None:
        """Queries and keys are normalized over all heads."""
        super().__init__()
        width, self.heads = size.tokens, size.heads
        self.scale = Scale(width, size.condition)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm, self.key_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.out_scale = _opening(size.condition, width)
        self.feed_scale = Scale(width, size.condition)
        self.feed = Feed(width, 4)
        self.feed_out_scale = _opening(size.condition, width)

    def forward(self, tokens: Tensor, context: Tensor, kinds: Tensor, bias: Tensor) -> Tensor:
        """(B, M, C) -> (B, M, C).

        Args:
            tokens: registers and residues.
            context: (B, 2, condition) of registers and of residues.
            kinds: (M,) which of the two a token is.
            bias: (B, H, M, M).
        """
        mixed = self._attend(self.norm(_scaled(tokens, self.scale(context), kinds)), bias)
        tokens = tokens + mixed * self.out_scale(context).sigmoid()[:, kinds]
        seen = self.feed(_scaled(tokens, self.feed_scale(context), kinds))
        return tokens + seen * self.feed_out_scale(context).sigmoid()[:, kinds]

    def _attend(self, seen: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.qkv(seen).chunk(3, -1)
        parts = (self.query_norm(query), self.key_norm(key), value)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.out(self.gate(seen).sigmoid() * mixed.transpose(1, 2).flatten(2))
        return out


class Feed(nn.Module):
    """Feed-forward with a gated half (SwiGLU, Shazeer 2020)."""

    def __init__(self, width: int, widening: int) -> None:
        """No biases."""
        super().__init__()
        self.rise = nn.Linear(width, 2 * widening * width, bias=False)
        self.fall = nn.Linear(widening * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        value, gate = self.rise(x).chunk(2, -1)
        out: Tensor = self.fall(F.silu(gate) * value)
        return out


class Scale(nn.Module):
    """Factor in (0, 1) and shift of a normalized state, from a condition (adaptive layer norm)."""

    def __init__(self, width: int, condition: int) -> None:
        """The condition is normalized first."""
        super().__init__()
        self.norm = nn.LayerNorm(condition)
        self.gamma = nn.Linear(condition, width)
        self.beta = nn.Linear(condition, width, bias=False)

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(..., condition) -> two of (..., width)."""
        context = self.norm(context)
        return self.gamma(context).sigmoid(), self.beta(context)


class Distogram(nn.Module):
    """Logits (B, N, N, BUCKETS) of the distance of two residues, symmetric, from the tokens of the last layer."""

    def __init__(self, tokens: int, pairs: int) -> None:
        """Both residues enter alike."""
        super().__init__()
        self.each = nn.Linear(tokens, pairs)
        self.norm = nn.LayerNorm(pairs)
        self.out = nn.Linear(pairs, BUCKETS)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, N, BUCKETS)."""
        each = self.each(tokens)
        both = F.gelu(each[:, :, None] + each[:, None])
        logits: Tensor = self.out(self.norm(both))
        return logits


def time_features(t: Tensor, width: int) -> Tensor:
    """(B, width) sines and cosines of TICKS t, t = 1 is data, with wavelengths from 1 to TICKS in geometric steps."""
    half = width // 2
    speed = torch.exp(torch.arange(half, device=t.device, dtype=t.dtype) * (-math.log(TICKS) / (half - 1)))
    angles = TICKS * t[:, None] * speed
    return torch.cat([angles.sin(), angles.cos()], -1)


def place_features(place: Tensor, width: int) -> Tensor:
    """(N, width) sines and cosines of residue numbers that begin at 1."""
    exponent = 2 * torch.arange(width // 2, device=place.device) / width
    angles = place[:, None] * math.pi / PLACES**exponent
    return torch.cat([angles.sin(), angles.cos()], -1)


def _gaps(x: Tensor) -> Tensor:
    """(B, N, N) distances; bins of them have no gradient."""
    x = x.detach()
    return (x[:, :, None] - x[:, None]).norm(dim=-1)


def _scaled(x: Tensor, scale: tuple[Tensor, Tensor], kinds: Tensor) -> Tensor:
    gamma, beta = scale
    return _normed(x) * gamma[:, kinds] + beta[:, kinds]


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _opening(condition: int, width: int) -> nn.Linear:
    """A gate that starts at sigmoid(-2), whatever it is told."""
    gate = nn.Linear(condition, width)
    nn.init.zeros_(gate.weight)
    nn.init.constant_(gate.bias, -2.0)
    return gate
