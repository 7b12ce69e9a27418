"""Discriminators that any recipe can have: a head on the features of a judge, or a judge's network read as an energy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.protocol import (
    Batch,
    Cond,
    Denoiser,
    Estimate,
    Key,
    Roles,
    Sample,
    Tree,
    rows,
    spread,
    tensors,
    tree_map,
)


class FeatureHead(nn.Module):
    """One logit per sample from activations (B, ..., C): a small network at every position, then a mean over positions.

    Channels are the last dimension; the dimensions between batch and channels are positions. Where a mask is bound, the
    positions of a feature must be those of the mask, or none at all (B, C).

    Args:
        channels: C of every feature.
        width: of the hidden layer.
    """

    accepts = frozenset({"features"})

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        """One two-layer network per feature."""
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(c), Timed(c, width), nn.SiLU(), nn.Linear(width, 1)) for c in channels
        )

    def forward(self, features: tuple[Tensor, ...], t: Tensor, cond: Cond) -> Tensor:
        """(B,): mean over features and real positions."""
        each = [
            _pooled(head[3](head[2](head[1](head[0](f), t))).squeeze(-1), cond.mask)  # type: ignore[index]
            for head, f in zip(self.heads, features, strict=True)
        ]
        return torch.stack(each).mean(0)


class Timed(nn.Module):
    """A linear layer that also sees ln(t) / 4, which is of order one on every clock (Karras et al. 2022 table 1)."""

    def __init__(self, channels: int, width: int) -> None:
        """Two linear maps, added."""
        super().__init__()
        self.of_x, self.of_t = nn.Linear(channels, width), nn.Linear(1, width, bias=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, ..., C) and (B,) -> (B, ..., width)."""
        told = self.of_t((t.clamp(min=1e-6).log() / 4).to(x.dtype).unsqueeze(-1))
        found: Tensor = self.of_x(x) + told.reshape(len(x), *(1,) * (x.ndim - 2), -1)
        return found


class Readout(nn.Module):
    """A judge's network as an energy: logit = <what it is shown, what it answers> + bias, through the geometry.

    For an affine network this is every quadratic form, the log ratio of two Gaussians. Discrete leaves are paired with
    their own probabilities. Masks, trees and reductions are the geometry's.

    Args:
        judge: its network is copied, and the copy trains.
    """

    def __init__(self, judge: Denoiser) -> None:
        """Copy the network."""
        super().__init__()
        net = copy.deepcopy(judge.net).requires_grad_(True)
        self.judge = Denoiser(net, judge.process, judge.prediction)
        self.bias = nn.Parameter(torch.zeros(1, dtype=next(net.parameters()).dtype))  # FSDP2 refuses scalars

    def forward(self, xt: Tree, t: Tensor, cond: Cond) -> Tensor:
        """(B,) logits."""
        est = self.judge(xt, t, replace(cond, index=None))
        process = self.judge.process.on(cond.mask)
        choose = lambda x, raw, law: raw if x.dtype.is_floating_point else law  # noqa: E731
        answer = Estimate(tree_map(choose, xt, est.raw, est.x0))
        shown = process.geometry.coordinates(Sample(process.network_input(xt, t), cond, answer))
        return process.geometry.inner(shown, answer.x0) + self.bias


def default_disc(
    features_of: str | None, features: tuple[int, ...], origins: tuple[str, ...], roles: Roles, batch: Batch
) -> nn.Module:
    """A head where ``features_of`` offers features, else the first of ``origins`` with parameters as a :class:`Readout`.

    Raises:
        ValueError: if there is no network to read.
    """
    if features_of is not None and "features" in getattr(roles[features_of], "accepts", ()):
        return _head_for(roles[features_of], features, batch)
    for name in origins:
        judge = roles.get(name)
        if isinstance(judge, Denoiser) and next(judge.net.parameters(), None) is not None:
            return Readout(judge)
    raise ValueError(
        f"a discriminator cannot be made from {', '.join(origins)}: none is a denoiser with a network; offer one"
    )


@torch.no_grad()
def _head_for(judge: Any, features: tuple[int, ...], batch: Batch) -> FeatureHead:
    """Ask once what the features look like."""
    process = judge.process.on(batch.mask)
    noise = process.noise(batch, Key(0).at("probe"))
    t = torch.full((rows(batch.like),), process.t_max, dtype=torch.float64, device=tensors(noise)[0].device)
    found = judge(process.corrupt(None, noise, t), t, batch.cond, features=features).features
    return FeatureHead([f.shape[-1] for f in found]).to(found[0])


def _pooled(logits: Tensor, mask: Tree) -> Tensor:
    """(B,) mean over positions that are real.

    Raises:
        ValueError: if the positions are not those of the mask.
    """
    if logits.ndim == 1:
        return logits
    if mask is None:
        return logits.flatten(1).mean(1)
    real = _positions(mask, logits)
    return (logits * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)


def _positions(mask: Tree, logits: Tensor) -> Tensor:
    thin = (
        mask.flatten(logits.ndim).amax(-1) if isinstance(mask, Tensor) and mask.ndim > logits.ndim else mask
    )
    try:
        return spread(thin, logits).expand_as(logits).to(logits.dtype)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"features with positions {tuple(logits.shape[1:])} do not fit the mask of the state; let the network return "
            "features at the state's resolution, or pooled over real positions (B, C)"
        ) from error
