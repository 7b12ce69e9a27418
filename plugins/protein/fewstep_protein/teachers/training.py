"""How the teacher of a pair network is trained: on turned chains, and with what Proteina's teachers learn beside.

Geffner et al. 2025 (arXiv:2503.00710), section 3.2 and appendix: random rotations of the data in place of equivariance, an
auxiliary cross-entropy of binned distances at little noise, self-conditioning in half of the updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fewstep.objectives import Denoising
from fewstep.objectives.corruption import draw_times
from fewstep.objectives.denoising import weighted_nll
from fewstep.processes.rotations import from_quaternion
from fewstep.protocol import Batch, Cond, Key, Loss, Objective, Phase, Role, Roles, Source, Step
from fewstep_protein.networks.choice import NetworkConfig
from fewstep_protein.networks.pair import BUCKETS, DISTOGRAM_REACH

QUIET = 0.7
"""Distances are binned below this time only; above it they cannot be known."""


@dataclass(frozen=True)
class Turned:
    """Chains of another source, each turned by a uniform rotation. Never mirrored: proteins have a hand."""

    source: Source

    def batch(self, index: int, key: Key) -> Batch:
        """Chains x (B, N, 3) as they come, turned."""
        batch = self.source.batch(index, key)
        normal = key.at("turns", index).normal(batch.x.new_zeros(len(batch.x), 4))
        turn = from_quaternion(F.normalize(normal, dim=-1))
        return replace(batch, x=batch.x @ turn.mT)


@dataclass(frozen=True)
class PairDenoising:
    """Denoising of a teacher whose network is a pair network.

    Args:
        base: times, weight and role.
        distogram: add the cross-entropy of binned distances.
        self_conditioning: in half of the updates, show the network its own estimate.
    """

    base: Denoising
    distogram: bool
    self_conditioning: bool

    @property
    def roles(self) -> Mapping[str, Role]:
        """The denoiser alone."""
        return self.base.roles

    @property
    def reads(self) -> frozenset[str]:
        """Clean chains."""
        return self.base.reads

    def phases(self, index: int) -> Sequence[Phase]:
        """One update."""
        return self.base.phases(index)

    def loss(self, phase: Phase, roles: Roles, batch: Batch, step: Step) -> Loss:
        """Weighted squared error, and the cross-entropy where it is asked for."""
        model: Any = roles[self.base.role]
        process = model.process.on(batch.mask)
        t = draw_times(self.base.times, batch.x, step, step.key.at("time"))
        xt = process.corrupt(batch.x, process.noise(batch, step.key.at("noise")), t)
        cond = batch.cond
        if self.self_conditioning and step.key.at("guess").integer(2):
            with torch.no_grad():
                cond = guessed(cond, model(xt, t, cond).x0)
        last = (len(model.net.layers) - 1,) if self.distogram else ()
        est = model(xt, t, cond, features=last)
        total = weighted_nll(process.geometry, est, batch.x, self.base.weight(process, t)).mean()
        logs = {"loss": total.detach()}
        if self.distogram:
            binned = distogram_loss(model.net.distogram(est.features[0]), batch.x, batch.mask, t)
            logs["distogram"] = binned.detach()
            total = total + binned
        return Loss(total, logs)


def distogram_loss(logits: Tensor, x: Tensor, mask: Tensor | None, t: Tensor) -> Tensor:
    """Mean over chains of the cross-entropy (B, N, N, BUCKETS) of binned distances; zero for a chain later than QUIET."""
    edges = torch.linspace(0.0, DISTOGRAM_REACH, BUCKETS - 1, device=x.device)
    bins = torch.bucketize(torch.cdist(x, x), edges)
    real = torch.ones_like(x[..., 0]) if mask is None else mask[..., 0].to(x.dtype)
    pairs = real[:, :, None] * real[:, None]
    each = F.cross_entropy(logits.permute(0, 3, 1, 2), bins, reduction="none")
    mean = (each * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
    return (mean * (t < QUIET)).mean()


def guessed(cond: Cond, estimate: Tensor) -> Cond:
    """The condition with an estimate (B, N, 3) in nanometers beside what it holds."""
    return replace(cond, data={**(cond.data or {}), "guess": estimate})


def taught(objective: Denoising, network: NetworkConfig) -> Objective:
    """The objective of a teacher with this network."""
    if not (network.distogram or network.self_conditioning):
        return objective
    return PairDenoising(objective, network.distogram, network.self_conditioning)


def turned(source: Source, network: NetworkConfig) -> Source:
    """The data of a teacher with this network: turned, unless it turns by construction."""
    return Turned(source) if network.kind == "pair" else source
