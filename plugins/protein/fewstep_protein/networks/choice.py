"""Which network a recipe trains: its settings, and how it is built. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from fewstep.config import Settings, setting

if TYPE_CHECKING:
    from torch import nn


class NetworkConfig(Settings):
    """Kind and size of the network; teacher, student and fake share it."""

    kind: Literal["equivariant", "pair"] = setting(
        "equivariant",
        "equivariant: turns with its input by construction; pair: a transformer with pair bias that learns to",
        paper="pair: Geffner et al. 2025 (Proteina), arXiv:2503.00710, section 3.2",
    )
    width: int = setting(64, "channels (equivariant)", ge=8, le=1024)
    rounds: int = setting(2, "times the coordinates are read and moved (equivariant)", ge=1, le=12)
    layers: int = setting(2, "transformer layers per round (equivariant)", ge=1, le=24)
    heads: int = setting(4, "attention heads (equivariant)", ge=1, le=32)
    size: Literal["small", "medium", "large"] = setting(
        "small", "small: 1 million parameters; medium: 10; large: 60, as published (pair)"
    )
    distogram: bool = setting(False, "the teacher also learns to bin the distances of residues (pair)")
    self_conditioning: bool = setting(
        False, "the teacher is told its own estimate in half of its updates (pair); students never are"
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _one_kind_only(self) -> Self:
        if self.kind == "equivariant" and (self.distogram or self.self_conditioning):
            raise ValueError("distogram and self_conditioning need network.kind 'pair'")
        return self


def network(
    config: NetworkConfig,
    sigma_data: float,
    *,
    reads_index: bool = False,
    lands: bool = False,
    labels: tuple[int, ...] = (),
    teaches: bool = False,
) -> nn.Module:
    """A fresh network, called as ``net(x, time, cond, to=...)``.

    Args:
        config: its settings.
        sigma_data: standard deviation of the data in nanometers, as the process has it.
        reads_index: whether it is told the step of the student (``cond.index``).
        lands: whether it is told where a flow map lands.
        labels: number of classes at each level of ``cond.data["cath"]`` (B, levels), where 0 means not told.
        teaches: whether it is a teacher in training, which may have heads that nobody else needs.
    """
    if config.kind == "pair":
        from fewstep_protein.networks.pair import SIZES, PairNet

        distogram = teaches and config.distogram
        return PairNet(
            SIZES[config.size],
            sigma_data,
            reads_index=reads_index,
            lands=lands,
            labels=labels,
            distogram=distogram,
        )
    from fewstep_protein.networks.chain import ChainNet

    return ChainNet(
        config.width,
        config.rounds,
        config.layers,
        config.heads,
        sigma_data,
        reads_index=reads_index,
        lands=lands,
        labels=labels,
    )


def beside(
    teacher: nn.Module,
    config: NetworkConfig,
    sigma_data: float,
    *,
    reads_index: bool = False,
    lands: bool = False,
    labels: tuple[int, ...] = (),
) -> nn.Module:
    """The network of a student or fake: a copy of a teacher's that can be copied, else a fresh one.

    Args:
        teacher: the teacher's network; ``copied(reads_index, lands)`` returns one with its weights that may learn.
        config: as in :func:`network`.
        sigma_data: as in :func:`network`.
        reads_index: as in :func:`network`.
        lands: as in :func:`network`.
        labels: as in :func:`network`.
    """
    copied: Any = getattr(teacher, "copied", None)
    if copied is None:
        return network(config, sigma_data, reads_index=reads_index, lands=lands, labels=labels)
    made: nn.Module = copied(reads_index=reads_index, lands=lands)
    return made
