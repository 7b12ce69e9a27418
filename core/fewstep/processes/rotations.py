"""Rotation matrices (..., 3, 3): exponential and logarithm, the nearest rotation, uniform draws.

A tangent vector (..., 3) at x is in the body frame: it leads to x exp(v). Everything has a derivative where it exists,
at zero angle too. Quaternions are (..., 4), the real part first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def hat(v: Tensor) -> Tensor:
    """Skew matrices (..., 3, 3) of vectors (..., 3), whose product with y is the cross product of v and y."""
    zero = torch.zeros_like(v[..., 0])
    a, b, c = v.unbind(-1)
    return torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], -1).unflatten(-1, (3, 3))


def exp(v: Tensor) -> Tensor:
    """The rotation by |v| about v, through the half angle, which keeps small angles exact."""
    square = v.square().sum(-1, keepdim=True) / 4
    small = square < 1e-12
    half = torch.where(small, torch.ones_like(square), square).sqrt()
    ratio = torch.where(small, 1 - square / 6, half.sin() / half)
    real = torch.where(small, 1 - square / 2, half.cos())
    return from_quaternion(torch.cat([real, ratio * v / 2], -1))


def log(r: Tensor) -> Tensor:
    """The shortest tangent vector (..., 3) whose exponential is r; exact near zero and near pi."""
    q = to_quaternion(r)
    real, imaginary = q[..., :1], q[..., 1:]
    square = imaginary.square().sum(-1, keepdim=True)
    small = square < 1e-24
    size = torch.where(small, torch.ones_like(square), square).sqrt()
    return torch.where(small, 2 / real.clamp(min=0.5), 2 * torch.atan2(size, real) / size) * imaginary


def from_quaternion(q: Tensor) -> Tensor:
    """The rotation of a unit quaternion."""
    real, imaginary = q[..., :1, None], q[..., 1:]
    outer = imaginary.unsqueeze(-1) * imaginary.unsqueeze(-2)
    spin = real.square() - imaginary.square().sum(-1)[..., None, None]
    return spin * torch.eye(3, dtype=q.dtype, device=q.device) + 2 * outer + 2 * real * hat(imaginary)


def to_quaternion(r: Tensor) -> Tensor:
    """The unit quaternion with a positive real part: the largest row of 4 q q^T, which is linear in r."""
    a, b, c = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    x, y, z = (r[..., i, j] - r[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    p, q, s = (r[..., i, j] + r[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = [
        [1 + a + b + c, x, y, z],
        [x, 1 + a - b - c, p, q],
        [y, p, 1 - a + b - c, s],
        [z, q, s, 1 - a - b + c],
    ]
    table = torch.stack([torch.stack(row, -1) for row in rows], -2)
    best = table.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = table.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    unit = row / row.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def nearest(m: Tensor) -> Tensor:
    """The rotation nearest to any matrix (..., 3, 3).

    Its derivative does not come through singular vectors, which have none where singular values agree, as a rotation's
    do: with S = r^T m, a change of m turns r by (tr S - S)^-1 times the skew part of r^T dm.
    """
    r = _polar(m.detach())
    pull = r.mT @ m
    stretch = (pull + pull.mT).detach() / 2
    eye = torch.eye(3, dtype=m.dtype, device=m.device)
    trace = stretch.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    # A millionth keeps the derivative finite where the nearest rotation is not unique.
    inverse = torch.linalg.inv_ex((trace + 1e-6) * eye - stretch).inverse
    skew = torch.stack([pull[..., i, j] - pull[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    return r @ exp((inverse @ skew.unsqueeze(-1)).squeeze(-1))


def _polar(m: Tensor) -> Tensor:
    """The nearest rotation's value: what is one already, by Newton's steps what is almost one, else by singular vectors."""
    eye = torch.eye(3, dtype=m.dtype, device=m.device)
    right_handed = (torch.linalg.cross(m[..., 0], m[..., 1]) * m[..., 2]).sum(-1) > 0
    error = torch.where(right_handed, (m.mT @ m - eye).abs().amax((-2, -1)), torch.inf).max()
    if bool(error < 8 * torch.finfo(m.dtype).eps):
        return m
    if bool(error < 0.01):
        for _ in range(3):  # an error e becomes 3 / 4 e^2
            m = m @ (1.5 * eye - 0.5 * m.mT @ m)
        return m
    left, _, right = torch.linalg.svd(m)
    sign = torch.linalg.det(left @ right)
    return torch.cat([left[..., :2], left[..., 2:] * sign[..., None, None]], -1) @ right
