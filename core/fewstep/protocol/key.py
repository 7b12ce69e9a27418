"""Randomness as a value: pure, counter-based keys.

A key is a seed and a path of names. Drawing from it never changes it and never touches the global generator,
so adding a logger, killing and resuming, or changing the number of phases shifts nobody's noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewstep.errors import FewstepError


@dataclass(frozen=True)
class Key:
    """A pure random key.

    Args:
        seed: the run's seed.
        path: names and counters that lead to this key.
        shard: (rank, world). Rows follow the *global* sample index: the rows of all ranks, put one after the
            other, are the rows that one process would draw. The price is that each rank draws ``world`` times its
            rows, which is cheap next to any network.
    """

    seed: int
    path: tuple[str | int, ...] = ()
    shard: tuple[int, int] = (0, 1)

    def at(self, *names: str | int) -> Key:
        """The key below this one; different names give independent numbers."""
        return replace(self, path=self.path + names)

    def whole(self) -> Key:
        """The same key as one process would see it: all ranks draw the same numbers."""
        return replace(self, shard=(0, 1))

    def share(self, size: int) -> int:
        """This rank's rows of a batch of ``size`` rows over all ranks.

        Raises:
            FewstepError: if the rows cannot be shared equally.
        """
        world = self.shard[1]
        if size < 1 or size % world:
            raise FewstepError(
                f"a batch of {size} rows cannot be shared by {world} processes",
                f"a multiple of {world}",
                "change the batch size or the number of processes",
            )
        return size // world

    def integer(self, high: int) -> int:
        """One Python integer in [0, high), the same on every rank: decisions that shape the step."""
        if high < 1:
            raise ValueError(f"cannot choose among {high} things; need at least one")
        return int(self.whole().integers((1,), high).item())

    def seed64(self) -> int:
        """A 63-bit integer made from seed and path by BLAKE2b: stable across processes and versions."""
        text = repr((self.seed, self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape, device and floating dtype of ``like``."""
        full, generator = self._prepare(like.shape, like.device)
        drawn = torch.randn(full, generator=generator, device=like.device, dtype=_working(like.dtype))
        return self._mine(drawn, like.shape).to(_floating(like.dtype))

    def uniform(
        self,
        shape: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Numbers in [0, 1). The default float64 is what time laws need."""
        full, generator = self._prepare(shape, device)
        return self._mine(torch.rand(full, generator=generator, device=device, dtype=dtype), shape)

    def integers(self, shape: Sequence[int], high: int, *, device: torch.device | str = "cpu") -> Tensor:
        """Integers in [0, high) as int64."""
        full, generator = self._prepare(shape, device)
        return self._mine(torch.randint(high, full, generator=generator, device=device), shape)

    def permutation(self, length: int) -> Tensor:
        """A permutation of range(length), the same on every rank."""
        generator = torch.Generator().manual_seed(self.seed64())
        return torch.randperm(length, generator=generator)

    def _prepare(self, shape: Sequence[int], device: torch.device | str) -> tuple[list[int], torch.Generator]:
        generator = torch.Generator(device=device).manual_seed(self.seed64())
        head = [int(shape[0]) * self.shard[1]] if len(shape) else []
        return head + [int(n) for n in shape[1:]], generator

    def _mine(self, drawn: Tensor, shape: Sequence[int]) -> Tensor:
        rank, world = self.shard
        return drawn if world == 1 or not len(shape) else drawn[rank * shape[0] : (rank + 1) * shape[0]]


def _working(dtype: torch.dtype) -> torch.dtype:
    """Half precision draws happen in float32 and are rounded once; integers ask for float32 noise."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32
