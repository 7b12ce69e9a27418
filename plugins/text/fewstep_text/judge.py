"""An independent judge of text: an interpolated n-gram model, counted in seconds and the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NGrams:
    """Interpolated Witten-Bell model of order n (Witten & Bell 1991; Chen & Goodman 1998 sec. 2.6).

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)), where T(h) counts the different words seen after h and h' is
    h without its oldest word; the recursion ends in the uniform law.

    Args:
        tokens: (N,) int64 training stream.
        vocabulary: V.
        order: n, with V**n below 2**62.

    Raises:
        ValueError: empty stream, order below 1, or an order that 63 bits cannot hold.
    """

    tokens: Ids
    vocabulary: int
    order: int = 5

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.order or self.order < 1:
            raise ValueError(
                f"a judge of order {self.order} needs order >= 1 and more than {self.order} tokens"
            )
        if self.vocabulary**self.order >= 2**62:
            raise ValueError(
                f"{self.vocabulary} tokens to the power {self.order} exceed 62 bits; lower the order"
            )

    def nll(self, x: Ids) -> Floats:
        """(B, L) minus log p of each token given the up to n - 1 before it in its row, nats.

        Args:
            x: (B, L) token ids.
        """
        prob = np.full(x.shape, 1.0 / self.vocabulary)
        for n in range(1, self.order + 1):
            grams = codes(x, n, self.vocabulary)
            seen, kinds = self._context(n, grams // self.vocabulary)
            joint = _lookup(*self._counts[n - 1], grams)
            better = (joint + kinds * prob[:, n - 1 :]) / np.maximum(seen + kinds, 1)
            prob[:, n - 1 :] = np.where(seen > 0, better, prob[:, n - 1 :])
        return -np.log(prob)

    def _context(self, n: int, context: Ids) -> tuple[Floats, Floats]:
        """How often each context was followed by anything, and by how many different words."""
        names, seen, kinds = self._contexts[n - 1]
        return _lookup(names, seen, context), _lookup(names, kinds, context)

    @cached_property
    def _counts(self) -> list[tuple[Ids, Ids]]:
        stream = self.tokens[None]
        return [_unique(codes(stream, n, self.vocabulary)) for n in range(1, self.order + 1)]

    @cached_property
    def _contexts(self) -> list[tuple[Ids, Ids, Ids]]:
        return [_followed(names // self.vocabulary, counts) for names, counts in self._counts]


def codes(x: Ids, n: int, vocabulary: int) -> Ids:
    """(B, L - n + 1) each n-gram as one number, its oldest token the highest digit."""
    width = x.shape[1] - n + 1
    code = np.zeros((x.shape[0], max(width, 0)), dtype=np.int64)
    for i in range(n):
        code = code * vocabulary + x[:, i : i + max(width, 0)]
    return code


def histogram(x: Ids, n: int, vocabulary: int) -> dict[int, float]:
    """n-gram -> its share among all n-grams of the rows."""
    names, counts = _unique(codes(x, n, vocabulary))
    return dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))


def divergence(p: dict[int, float], q: dict[int, float]) -> float:
    """Jensen-Shannon divergence of two histograms in nats: 0 equal, ln 2 disjoint."""
    names = sorted(p.keys() | q.keys())
    a = np.array([p.get(name, 0.0) for name in names])
    b = np.array([q.get(name, 0.0) for name in names])
    return float((_relative(a, (a + b) / 2) + _relative(b, (a + b) / 2)) / 2)


def entropy(p: dict[int, float]) -> float:
    """Entropy of a histogram in nats."""
    shares = np.array([share for share in p.values() if share > 0])
    return float(-(shares * np.log(shares)).sum())


def _relative(p: Floats, q: Floats) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _unique(values: Ids) -> tuple[Ids, Ids]:
    names, counts = np.unique(values, return_counts=True)
    return names, counts.astype(np.int64)


def _followed(contexts: Ids, counts: Ids) -> tuple[Ids, Ids, Ids]:
    """``contexts`` is sorted because n-grams are; sum its runs."""
    names, first, kinds = np.unique(contexts, return_index=True, return_counts=True)
    return names, np.add.reduceat(counts, first), kinds.astype(np.int64)


def _lookup(names: Ids, values: Ids, wanted: Ids) -> Floats:
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[place] == wanted, values[place], 0).astype(np.float64)
