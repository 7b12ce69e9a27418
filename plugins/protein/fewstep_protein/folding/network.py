"""The CA-only network of ProteinMPNN (Dauparas et al. 2022, Science 378:49), with the published parameter names.

A chain is a graph: every residue hears its 48 nearest. An encoder reads the geometry; a decoder then names the
residues one after the other, in any order, and hears the names that were already given. Coordinates are in angstrom.

Quirks of the published network are kept, because its weights were trained with them. Bonds outside 3.6 to 4.0
angstrom give no local frame. The turn between two frames is told in the axes of the file, so a turned chain is read
slightly differently (0.001 nats per residue with the published weights). The residues before the first and after the
last lie at one fixed point: at the origin in the published code, whose answer depends on where a chain lies, at a far
point in ours, which is what coordinates of the Protein Data Bank mostly amount to. Padding reaches no real residue
here; in the published code it reaches those of chains with fewer residues than neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, linear, normalize, pad

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
"""The alphabet in the order of the weights; X is an unknown residue."""
WIDTH = 128
"""Channels of nodes and edges."""
LAYERS = 3
"""Of the encoder, and of the decoder."""
SCALE = 30.0
"""Messages are summed and divided by this, however many neighbours there are."""
FARTHEST_OFFSET = 32
"""Residues along the chain from which on offsets look alike."""
CENTERS, NEAREST, FARTHEST = 16, 2.0, 22.0
"""Radial functions of a distance, in angstrom."""
JOINED = (3.6, 4.0)
"""CA-CA distances in angstrom that define a frame."""
NOWHERE = 1000.0
"""Where residues beyond the ends lie, in angstrom from a chain's centre: no radial function reaches so far."""


@dataclass(frozen=True)
class Graph:
    """What the encoder knows of C chains of N residues with K neighbours.

    Args:
        nodes: (C, N, D).
        edges: (C, N, K, D).
        neighbours: (C, N, K) residue numbers, nearest first; a residue is its own first neighbour.
        real: (C, N, K) whether the neighbour is no padding.
    """

    nodes: Tensor
    edges: Tensor
    neighbours: Tensor
    real: Tensor


class Offsets(nn.Module):
    """A vector for the distance along the chain, of one or of two chains (the last of 66 classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * FARTHEST_OFFSET + 2, 16)

    def forward(self, offset: Tensor) -> Tensor:
        """Integers -> (..., 16)."""
        number = offset.clamp(-FARTHEST_OFFSET, FARTHEST_OFFSET) + FARTHEST_OFFSET
        return embedding(number, self.linear.weight.T) + self.linear.bias


class Features(nn.Module):
    """Distances, directions and turns between a residue and its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Offsets()
        self.node_embedding = nn.Linear(3, WIDTH, bias=False)  # in the published file, never used
        self.edge_embedding = nn.Linear(16 + 9 * CENTERS + 7, WIDTH, bias=False)
        self.norm_nodes = nn.LayerNorm(WIDTH)  # in the published file, never used
        self.norm_edges = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(C, N, 3) angstrom and (C, N) -> edges (C, N, K, D), neighbours (C, N, K), and whether they are real."""
        neighbours, real = nearest(x, mask, count)
        offset = torch.arange(x.shape[1], device=x.device)[:, None] - neighbours
        parts = (self.embeddings(offset), distances(x, mask, neighbours), orientations(x, mask, neighbours))
        return self.norm_edges(self.edge_embedding(torch.cat(parts, -1))), neighbours, real


def nearest(x: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(C, N, K) the nearest residues of each, itself first, and whether they are real: padding comes last."""
    gap = between(x[:, :, None], x[:, None])
    gap = gap.masked_fill(~(mask[:, :, None] & mask[:, None]), torch.inf)
    found = gap.topk(min(count, x.shape[1]), dim=-1, largest=False)
    return found.indices, found.values.isfinite()


def between(a: Tensor, b: Tensor) -> Tensor:
    """(...,) distances with the published softening, angstrom."""
    return ((a - b).square().sum(-1) + 1e-6).sqrt()


def at(values: Tensor, neighbours: Tensor) -> Tensor:
    """(C, N, ...) at (C, N, K) -> (C, N, K, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None, None], neighbours]


def distances(x: Tensor, mask: Tensor, neighbours: Tensor) -> Tensor:
    """(C, N, K, 144) radial functions of nine distances: from a residue and its two along the chain to those of another."""
    here = x.where(mask[..., None], x.new_tensor(NOWHERE))
    padded = pad(here, (0, 0, 1, 1), value=NOWHERE)
    three = (padded[:, :-2], here, padded[:, 2:])
    order = [(1, 1), (0, 0), (2, 2), *(pair for pair in product(range(3), repeat=2) if pair[0] != pair[1])]
    gaps = [between(three[i][:, :, None], at(three[j], neighbours)) for i, j in order]
    return torch.cat([radial(gap) for gap in gaps], -1)


def radial(gap: Tensor) -> Tensor:
    """(...,) angstrom -> (..., 16) bumps."""
    centers = torch.linspace(NEAREST, FARTHEST, CENTERS, device=gap.device)
    return torch.exp(-(((gap[..., None] - centers) / ((FARTHEST - NEAREST) / CENTERS)).square()))


def orientations(x: Tensor, mask: Tensor, neighbours: Tensor) -> Tensor:
    """(C, N, K, 7) where a neighbour lies in a residue's frame (a unit vector), and how its own is turned (a quaternion)."""
    frames = local_frames(x, mask)
    toward = (at(x, neighbours) - x[:, :, None]).unsqueeze(-1)
    seen = normalize((frames[:, :, None] @ toward).squeeze(-1), dim=-1)
    return torch.cat([seen, quaternions(frames[:, :, None].mT @ at(frames, neighbours))], -1)


def local_frames(x: Tensor, mask: Tensor) -> Tensor:
    """(C, N, 3, 3) the rows are bisector, normal and their product; zero at the first and the last two residues."""
    step = x[:, 1:] - x[:, :-1]
    length = step.norm(dim=-1, keepdim=True)
    along = normalize(step * ((length > JOINED[0]) & (length < JOINED[1])), dim=-1)
    before, after = along[:, :-2], along[:, 1:-1]
    bisector = normalize(before - after, dim=-1)
    normal = normalize(torch.linalg.cross(before, after), dim=-1)
    rows = torch.stack([bisector, normal, torch.linalg.cross(bisector, normal)], 2)
    return pad(rows * mask[:, 3:, None, None], (0, 0, 0, 0, 1, 2))


def quaternions(turn: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 4) as x, y, z, w; w is never negative."""
    xx, yy, zz = turn.diagonal(dim1=-2, dim2=-1).unbind(-1)
    size = torch.stack([xx - yy - zz, yy - xx - zz, zz - xx - yy], -1).add(1).abs().sqrt() / 2
    skew = turn - turn.mT
    sign = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).sign()
    real = (1 + xx + yy + zz).relu().sqrt() / 2
    return normalize(torch.cat([sign * size, real[..., None]], -1), dim=-1)


class FeedForward(nn.Module):
    """Two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.W_in, self.W_out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.W_out(gelu(self.W_in(x)))


class Layer(nn.Module):
    """Messages over the edges, then a feed-forward network; a message is made of the hearer and ``heard`` more vectors."""

    def __init__(self, heard: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.W1 = nn.Linear((1 + heard) * WIDTH, WIDTH)
        self.W2, self.W3 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dense = FeedForward()

    def part(self, place: int, x: Tensor) -> Tensor:
        """What ``W1`` makes of the vector at this place of its input: so each is multiplied once, not once per edge."""
        return linear(x, column(self.W1, place))

    def forward(self, nodes: Tensor, heard: Tensor, real: Tensor) -> Tensor:
        """(..., D) hearers, (..., K, D) the sum of the parts of what each hears, (..., K) -> (..., D)."""
        own = linear(nodes, column(self.W1, 0), self.W1.bias)
        message = gelu(self.W2(gelu(own.unsqueeze(-2) + heard))) * real[..., None]
        # W3 is linear, so the sum over neighbours goes before it.
        total = linear(message.sum(-2), self.W3.weight) + real.sum(-1, keepdim=True) * self.W3.bias
        nodes = self.norm1(nodes + total / SCALE)
        return self.norm2(nodes + self.dense(nodes))


def column(layer: nn.Linear, place: int) -> Tensor:
    """(D, D) of a linear map of joined vectors: what meets the one at ``place``."""
    return layer.weight[:, place * WIDTH : (place + 1) * WIDTH]


class Encoder(Layer):
    """Hears an edge and the node at its end; then renews the edge."""

    def __init__(self) -> None:
        super().__init__(2)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.W11 = nn.Linear(3 * WIDTH, WIDTH)
        self.W12, self.W13 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def renew(self, graph: Graph) -> Graph:
        """The graph after this layer."""
        heard = self.part(1, graph.edges) + at(self.part(2, graph.nodes), graph.neighbours)
        nodes = self(graph.nodes, heard, graph.real)
        own, other = (linear(nodes, column(self.W11, place)) for place in (0, 2))
        edge = linear(graph.edges, column(self.W11, 1), self.W11.bias)
        hidden = gelu(own[:, :, None] + edge + at(other, graph.neighbours))
        edges = self.norm3(graph.edges + self.W13(gelu(self.W12(hidden))))
        return Graph(nodes, edges, graph.neighbours, graph.real)


class CANet(nn.Module):
    """1,645,765 parameters, named as published.

    Args:
        count: neighbours that a residue hears (``num_edges`` of the published file).
    """

    def __init__(self, count: int = 48) -> None:
        super().__init__()
        self.count = count
        self.features = Features()
        self.W_v = nn.Linear(WIDTH, WIDTH)  # in the published file, never used
        self.W_e, self.W_s = nn.Linear(WIDTH, WIDTH), nn.Embedding(len(LETTERS), WIDTH)
        self.encoder_layers = nn.ModuleList([Encoder() for _ in range(LAYERS)])
        self.decoder_layers = nn.ModuleList([Layer(3) for _ in range(LAYERS)])
        self.W_out = nn.Linear(WIDTH, len(LETTERS))

    def encode(self, x: Tensor, mask: Tensor) -> Graph:
        """(C, N, 3) angstrom and (C, N) True = real -> the graph that every decoding begins with."""
        edges, neighbours, real = self.features(x, mask, self.count)
        graph = Graph(edges.new_zeros(*mask.shape, WIDTH), self.W_e(edges), neighbours, real)
        for layer in self.encoder_layers:
            graph = layer.renew(graph)
        return graph

    def forward(self, graph: Graph, sequence: Tensor, order: Tensor) -> Tensor:
        """Log-probabilities (C, N, 21) of every residue, given those that come before it in ``order``.

        Args:
            graph: of the chains.
            sequence: (C, N) letters.
            order: (C, N) residue numbers, first decoded first, padding last.
        """
        place = order.argsort(-1)
        earlier = (at(place, graph.neighbours) < place[..., None])[..., None]
        nodes = graph.nodes
        for layer in self.decoder_layers:
            told = layer.part(2, self.W_s(sequence)) + layer.part(3, nodes)
            untold = layer.part(3, graph.nodes)
            heard = torch.where(earlier, at(told, graph.neighbours), at(untold, graph.neighbours))
            nodes = layer(nodes, layer.part(1, graph.edges) + heard, graph.real)
        return self.W_out(nodes).log_softmax(-1)

    def decode(
        self, graph: Graph, order: Tensor, mark: Tensor, temperature: float, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sequences of one's own: letters (R, N), and their log-probabilities (R, N) at temperature one.

        Args:
            graph: of C chains.
            order: (R, N) residue numbers, first decoded first, padding last; R = C P, the P rows of a chain together.
            mark: (R, N) numbers in [0, 1), by residue: where in the cumulated probabilities a letter is taken.
            temperature: of the choice; 0 takes the likeliest letter.
            allowed: (21,) which letters may be chosen.
        """
        rows = torch.arange(len(order), device=order.device)
        chain = rows // (len(order) // len(graph.nodes))
        edges = [layer.part(1, graph.edges) for layer in self.decoder_layers]
        names = [layer.part(2, self.W_s.weight) for layer in self.decoder_layers]
        # What others hear of a residue: its geometry, until it is named; then its name and what it heard itself.
        said = [layer.part(3, graph.nodes)[chain] for layer in self.decoder_layers]
        letters = torch.zeros_like(order)
        scores = mark.new_zeros(order.shape, dtype=graph.nodes.dtype)
        for here in order.T:
            near, real = graph.neighbours[chain, here], graph.real[chain, here]
            node, inputs = graph.nodes[chain, here], []
            for layer, edge, spoken in zip(self.decoder_layers, edges, said, strict=True):
                inputs.append(node)
                node = layer(node, edge[chain, here] + spoken[rows[:, None], near], real)
            logits = self.W_out(node)
            letter = choose(logits.masked_fill(~allowed, -torch.inf), mark[rows, here], temperature)
            letters[rows, here] = letter
            scores[rows, here] = logits.log_softmax(-1)[rows, letter]
            for layer, name, spoken, node in zip(self.decoder_layers, names, said, inputs, strict=True):
                spoken[rows, here] = name[letter] + layer.part(3, node)
        return letters, scores


def choose(logits: Tensor, mark: Tensor, temperature: float) -> Tensor:
    """(R,) letters of (R, L) logits; the same ``mark`` takes the same letter."""
    if temperature == 0:
        return logits.argmax(-1)
    total = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return (total <= mark[:, None] * total[:, -1:]).sum(-1)
