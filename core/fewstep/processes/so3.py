"""Rotations as states: their geometry, and the geodesic flow that teachers of frames are trained on.

Shape legend: B batch, ... any dimensions before the matrix. A mask (B, ..., 1, 1) says which rotations are real.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from fewstep.processes.rotations import exp, from_quaternion, hat, log, nearest
from fewstep.protocol import Batch, Estimate, Euclidean, Key, Sample, Tree, spread


@dataclass(frozen=True)
class SO3:
    """Rotation matrices (B, ..., 3, 3); tangents are vectors (B, ..., 3) in the body frame, padding is the identity.

    ``reduction`` is over the components of tangents: with "sum" a distance is the squared angle.
    """

    reduction: Literal["mean", "sum"] = "mean"
    mask: Tensor | None = None

    def on(self, mask: Tree) -> Self:
        """Bind a mask that broadcasts over states."""
        return replace(self, mask=mask)

    def project(self, x: Tensor) -> Tensor:
        """The nearest rotation; the identity where the mask is False."""
        found = nearest(x)
        if self.mask is None:
            return found
        return torch.where(self.mask.bool(), found, torch.eye(3, dtype=x.dtype, device=x.device))

    def difference(self, a: Estimate, b: Estimate, at: Tensor) -> Tensor:
        """(B, ..., 3) log_at(a) - log_at(b)."""
        gap = log(at.mT @ a.x0) - log(at.mT @ b.x0)
        return gap if self.mask is None else gap * self._tangents()

    def coordinates(self, sample: Sample) -> Tensor:
        """The sample itself."""
        x: Tensor = sample.x
        return x

    def inner(self, x: Tensor, direction: Tensor) -> Tensor:
        """(B,) inner product of a tangent and a direction, of two rotations, or the pairing of rotations with a direction.

        The pairing is zero, and its derivative is what is wanted: if x turns by v, it grows by <v, direction>.
        """
        if x.ndim == direction.ndim:
            paired = x * direction
            whole = self.mask is not None and paired.ndim > self._tangents().ndim
            return self.reduce(paired.sum(-1) if whole else paired)
        turned = x.detach() @ hat(direction)
        # <x hat(v), x hat(d)> = 2 <v, d>; spread over three components, which are then reduced like a tangent's.
        return self.reduce((x * turned).sum((-2, -1)).unsqueeze(-1).expand_as(direction) / 6)

    def distance(self, a: Estimate, b: Estimate) -> Tensor:
        """(B,) squared angle between the estimates."""
        return self.reduce(log(a.x0.mT @ b.x0).square())

    def nll(self, est: Estimate, x0: Tensor, at: Tree = None) -> Tensor:
        """(B,) squared angle to the clean state, or squared difference of the two seen from ``at``.

        Only the latter is least at the mean tangent, of which velocities are made (Chen & Lipman 2024 eq. 12); the
        angle is least at the mean rotation, which is another one where belief is spread out.
        """
        clean = Estimate(x0)
        return (
            self.distance(est, clean) if at is None else self.reduce(self.difference(est, clean, at).square())
        )

    def reduce(self, elements: Tensor) -> Tensor:
        """(B, ..., 3) -> (B,) over real rotations only."""
        return Euclidean(self.reduction, None if self.mask is None else self._tangents()).reduce(elements)

    def _tangents(self) -> Tensor:
        """The mask as it broadcasts over tangents."""
        mask: Tensor = self.mask  # type: ignore[assignment]
        return mask[..., 0]


@dataclass(frozen=True)
class GeodesicFlow:
    """x_t = x0 exp(t log(x0^T noise)): shortest paths from data (0) to uniform rotations (1), at constant speed.

    Chen & Lipman 2024 eq. 13; Yim et al. 2023 (FrameFlow) sec. 3. An estimate x0 at x_t stands for the mean of
    log_{x_t}(x0), which is what velocities are made of and networks learn; as in flat space jumps keep the noise.

    Args:
        t_min: cleanest time that networks are asked about.
        t_max: 1 = uniform.
        geometry: rotations, with the bound mask.
    """

    t_min: float = 1e-3
    t_max: float = 1.0
    geometry: SO3 = field(default_factory=SO3)

    def on(self, mask: Tree) -> Self:
        """This process with a batch's mask bound."""
        return self if mask is None else replace(self, geometry=self.geometry.on(mask))

    def grid(self, steps: int) -> Tensor:
        """(steps + 1,) uniform float64 times from t_max to t_min."""
        if steps < 1:
            raise ValueError(f"a time grid needs at least one step, got {steps}")
        return torch.linspace(self.t_max, self.t_min, steps + 1, dtype=torch.float64)

    def noise(self, batch: Batch, key: Key) -> Tensor:
        """Uniform rotations: normalized normal quaternions."""
        q = key.normal(batch.like[..., 0, :1].expand(*batch.like.shape[:-2], 4))
        return self.geometry.on(batch.mask).project(from_quaternion(q / q.norm(dim=-1, keepdim=True)))

    def corrupt(self, x: Tensor | None, noise: Tensor, t: Tensor, *, since: Tensor | None = None) -> Tensor:
        """The geodesic from x to the noise; with x = None the noise.

        Raises:
            ValueError: for ``since``: a path that is fixed by its end has no transition from the middle.
        """
        if since is not None:
            raise ValueError(
                "a geodesic flow has no Markov transition between two noisy times; corrupt clean states, or jump"
            )
        return noise if x is None else _turned(x, noise, t)

    def x0(self, raw: Tensor, xt: Tensor, t: Tensor, prediction: str) -> Tensor:
        """The clean rotation: "x0" any matrix (..., 3, 3); "tangent" (..., 3) from x_t to x0; "flow" (..., 3) velocity.

        "boundary" is the consistency form of "x0": the share 1 - t_min / t of the way from x_t to it.

        Raises:
            ValueError: for another prediction.
        """
        if prediction == "x0":
            return self.geometry.project(raw)
        if prediction == "boundary":
            return self.geometry.project(_turned(nearest(xt), nearest(raw), 1 - self.t_min / t.double()))
        if prediction not in ("tangent", "flow"):
            raise ValueError(
                f"unknown prediction {prediction!r} for rotations; one of x0, boundary, tangent, flow"
            )
        tangent = -spread(t.to(raw.dtype), raw) * raw if prediction == "flow" else raw
        return self.geometry.project(nearest(xt) @ exp(tangent))

    def posterior(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """x_s given x_t and x0: they fix the path, so it is the jump."""
        return self.jump(xt, est, t, s)

    def velocity(self, xt: Tensor, est: Estimate, t: Tensor) -> Tensor:
        """(..., 3, 3) dx/dt = x hat(-log(x^T x0) / t)."""
        x = nearest(xt)
        toward = log(x.mT @ est.x0)
        return x @ hat(-toward / spread(t.to(x.dtype), toward))

    def jump(self, xt: Tensor, est: Estimate, t: Tensor, s: Tensor) -> Tensor:
        """Along the geodesic toward x0, the share 1 - s / t of the way."""
        return _turned(nearest(xt), est.x0, 1 - s.double() / t.double())

    def network_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """Rotations as they are; what a solver left beside them is brought back."""
        return nearest(xt)

    def network_time(self, t: Tensor) -> Tensor:
        """1000 t, as for rectified flow."""
        return 1000 * t.double()


def _turned(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """The rotation ``share`` of the way from start to end."""
    way = log(start.mT @ end)
    return start @ exp(spread(share.to(way.dtype), way) * way)
