"""Settings of ``protein/sequence-didi``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, setting
from fewstep.config.objectives import AnyObjective, DiffInstructConfig


class SequenceConfig(RecipeConfig):
    """Few-step amino-acid sequences: a masked-diffusion student that learns a divergence integrated over all times."""

    objective: AnyObjective = setting(
        DiffInstructConfig(),
        "how the student learns; preset didi has the published estimator",
        paper="Luo et al. 2023; Zheng et al. 2025 for tokens",
    )
    data: Literal["dirichlet", "sharpened", "real"] = setting(
        "dirichlet",
        "dirichlet: a random chain over the 20 amino acids; sharpened: the chain of real neighbors, made certain; real: "
        "the sequences of the shipped structures. The teacher of a chain is exact and needs no training",
    )
    power: float = setting(8.0, "exponent of the counted rows (sharpened)", ge=1, le=32)
    chain: int = setting(0, "seed of the random rows (dirichlet)", ge=0, lt=2**32)
    path: str | None = setting(
        None,
        "structures that `fewstep protein harvest` wrote, whose sequences are read (sharpened, real); none: those shipped",
    )
    length: int = setting(32, "sequences of the evaluation", unit="residues", ge=6, le=512)
    window: int = setting(16, "sequences that the student is trained on", unit="residues", ge=4, le=512)
    steps: int = setting(2, "network calls of the student", unit="calls", ge=1, le=64)
    teacher_steps: int = setting(32, "network calls of the teacher at evaluation", unit="calls", ge=1, le=512)
    noise: int = setting(
        8, "noise channels that the student reads at every residue; 0 = none, as published", ge=0, le=256
    )
    width: int = setting(32, "channels of every network", unit="channels", ge=8, le=4096)
    dilations: tuple[int, ...] = setting((1, 1), "one convolution layer each", min_length=1)
    teacher_updates: int = setting(1500, "updates of the teacher (real)", unit="updates", ge=1)
    teacher_rate: float = setting(3e-3, "learning rate of the teacher, falling linearly to 5 % (real)", gt=0)
    teacher_window: int = setting(
        64, "sequences that the teacher is trained on (real)", unit="residues", ge=6, le=512
    )
    teacher_batch: int = setting(64, "windows per update of the teacher (real)", unit="sequences", ge=1)
    updates: int = setting(500, "updates of the student, head start included", unit="updates", ge=1)
    head_start: int = setting(
        50, "updates of fake or discriminator before the student moves", unit="updates", ge=0
    )
    batch: int = setting(128, "sequences per update of the student", unit="sequences", ge=2)
    rate: float = setting(1e-3, "learning rate of the student, falling linearly to 10 %", gt=0)
    critic_rate: float = setting(2e-3, "learning rate of fake and discriminator", gt=0)
    average: float = setting(0.99, "decay of the student's running average", ge=0, lt=1)
    samples: int = setting(1024, "sequences drawn for the evaluation", unit="sequences", ge=16)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.path is not None and self.data == "dirichlet":
            raise ValueError(
                "path means nothing for data 'dirichlet'; did you want data 'real' or 'sharpened'?"
            )
        return self
