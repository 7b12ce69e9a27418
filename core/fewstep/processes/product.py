"""Several processes side by side: a state is a mapping, and every leaf has its own process. One time for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from fewstep.protocol import Batch, Estimate, Flow, Geometry, Key, Process, Sample, Tree


@dataclass(frozen=True)
class ProductGeometry:
    """Leaf-wise geometry; inner products, distances and scores add up over leaves."""

    leaves: Mapping[str, Geometry]

    def on(self, mask: Tree) -> Self:
        """Bind a mapping of masks (leaves may be missing or None)."""
        bound = {name: leaf.on((mask or {}).get(name)) for name, leaf in self.leaves.items()}
        return replace(self, leaves=bound)

    def project(self, x: Tree) -> Tree:
        """Each leaf onto its set."""
        return {name: leaf.project(x[name]) for name, leaf in self.leaves.items()}

    def difference(self, a: Estimate, b: Estimate, at: Tree) -> Tree:
        """Leaf-wise."""
        return {n: g.difference(_part(a, n), _part(b, n), at[n]) for n, g in self.leaves.items()}

    def coordinates(self, sample: Sample) -> Tree:
        """Leaf-wise."""
        parts = {n: None if sample.est is None else _part(sample.est, n) for n in self.leaves}
        return {
            n: g.coordinates(replace(sample, x=sample.x[n], est=parts[n])) for n, g in self.leaves.items()
        }

    def inner(self, x: Tree, direction: Tree) -> Tensor:
        """(B,) sum over leaves."""
        return _sum([g.inner(x[n], direction[n]) for n, g in self.leaves.items()])

    def distance(self, a: Estimate, b: Estimate) -> Tensor:
        """(B,) sum over leaves."""
        return _sum([g.distance(_part(a, n), _part(b, n)) for n, g in self.leaves.items()])

    def nll(self, est: Estimate, x0: Tree, at: Tree = None) -> Tensor:
        """(B,) sum over leaves."""
        places = dict.fromkeys(self.leaves) if at is None else at
        return _sum([g.nll(_part(est, n), x0[n], places[n]) for n, g in self.leaves.items()])


@dataclass(frozen=True)
class Product:
    """States are mappings name -> leaf state. All leaves share the time and its range.

    Args:
        leaves: name -> process. Predictions are given per leaf as "name=prediction,..." or one for all.

    Raises:
        ValueError: if the leaves' time ranges differ: change the time variable of one first.
    """

    leaves: Mapping[str, Process]

    def __post_init__(self) -> None:
        """Refuse leaves on different clocks."""
        ranges = {name: (leaf.t_min, leaf.t_max) for name, leaf in self.leaves.items()}
        if len(set(ranges.values())) != 1:
            raise ValueError(f"the leaves of a product share one time, but their ranges are {ranges}")

    @property
    def geometry(self) -> ProductGeometry:
        """The leaves' geometries."""
        return ProductGeometry({name: leaf.geometry for name, leaf in self.leaves.items()})

    @property
    def t_min(self) -> float:
        """The common cleanest time."""
        return next(iter(self.leaves.values())).t_min

    @property
    def t_max(self) -> float:
        """The common noisiest time."""
        return next(iter(self.leaves.values())).t_max

    def on(self, mask: Tree) -> Self:
        """Bind a mapping of masks."""
        return replace(self, leaves={n: leaf.on((mask or {}).get(n)) for n, leaf in self.leaves.items()})

    def grid(self, steps: int) -> Tensor:
        """The first leaf's spacing."""
        return next(iter(self.leaves.values())).grid(steps)

    def noise(self, batch: Batch, key: Key) -> Tree:
        """Independent noise per leaf."""
        return {n: leaf.noise(_leaf_batch(batch, n), key.at(n)) for n, leaf in self.leaves.items()}

    def corrupt(self, x: Tree, noise: Tree, t: Tensor, *, since: Tensor | None = None) -> Tree:
        """Leaf-wise."""
        clean = x or dict.fromkeys(self.leaves)
        return self._each(lambda n, p: p.corrupt(clean[n], noise[n], t, since=since))

    def x0(self, raw: Tree, xt: Tree, t: Tensor, prediction: str) -> Tree:
        """Leaf-wise; prediction is one name, or "position=flow,token=logits"."""
        names = _predictions(prediction, list(self.leaves))
        return self._each(lambda n, p: p.x0(raw[n], xt[n], t, names[n]))

    def posterior(self, xt: Tree, est: Estimate, t: Tensor, s: Tensor, noise: Tree) -> Tree:
        """Leaf-wise."""
        return self._each(lambda n, p: p.posterior(xt[n], _part(est, n), t, s, noise[n]))

    def velocity(self, xt: Tree, est: Estimate, t: Tensor) -> Tree:
        """Leaf-wise; every leaf must have an ODE."""
        return self._each(lambda n, p: _flow(n, p).velocity(xt[n], _part(est, n), t))

    def jump(self, xt: Tree, est: Estimate, t: Tensor, s: Tensor) -> Tree:
        """Leaf-wise; every leaf must have an ODE."""
        return self._each(lambda n, p: _flow(n, p).jump(xt[n], _part(est, n), t, s))

    def stochastic_jump(self, xt: Tree, est: Estimate, t: Tensor, s: Tensor, noise: Tree, eta: float) -> Tree:
        """Leaf-wise; every leaf must be Gaussian."""
        return self._each(lambda n, p: p.stochastic_jump(xt[n], _part(est, n), t, s, noise[n], eta))

    def network_input(self, xt: Tree, t: Tensor) -> Tree:
        """Leaf-wise."""
        return self._each(lambda n, p: p.network_input(xt[n], t))

    def network_time(self, t: Tensor) -> Tensor:
        """The first leaf's."""
        return next(iter(self.leaves.values())).network_time(t)

    def _each(self, fn: Callable[[str, Any], Tree]) -> Tree:
        return {name: fn(name, leaf) for name, leaf in self.leaves.items()}


def _sum(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum(0)


def _part(est: Estimate, name: str) -> Estimate:
    return Estimate(est.x0[name], None if est.raw is None else est.raw[name])


def _leaf_batch(batch: Batch, name: str) -> Batch:
    mask = None if batch.mask is None else batch.mask.get(name)
    clean = None if batch.x is None else batch.x[name]
    return replace(batch, like=batch.like[name], x=clean, cond=replace(batch.cond, mask=mask))


def _flow(name: str, leaf: Any) -> Flow:
    if not isinstance(leaf, Flow):
        raise TypeError(
            f"leaf {name!r} ({type(leaf).__name__}) has no ODE; use the ancestral sampler (posterior)"
        )
    return leaf


def _predictions(prediction: str, names: list[str]) -> Mapping[str, str]:
    if "=" not in prediction:
        return dict.fromkeys(names, prediction)
    pairs = dict(part.strip().split("=", 1) for part in prediction.split(","))
    if set(pairs) != set(names):
        raise ValueError(f"predictions are given for {sorted(pairs)}, the product has leaves {sorted(names)}")
    return pairs
