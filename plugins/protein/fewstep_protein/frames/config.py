"""Settings of ``protein/frames`` and ``protein/frames-oracle``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, SiDConfig
from fewstep.config.times import TimesConfig


class FrameNetworkConfig(Settings):
    """Size of the frame network; teacher, student and fake share it."""

    width: int = setting(64, "channels", ge=8, le=1024)
    rounds: int = setting(3, "times the frames are read and moved", ge=1, le=16)
    layers: int = setting(1, "attention layers per round", ge=1, le=8)
    heads: int = setting(4, "attention heads", ge=1, le=32)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class FramesConfig(RecipeConfig):
    """Few-step backbones as frames: rotations and translations through the product process."""

    objective: AnyObjective = setting(
        SiDConfig(alpha=1.0, times=TimesConfig(low=0.1, high=0.99), share_rollout=True, critic_updates=2),
        "how the student learns",
        paper="Zhou et al. 2024",
    )
    shortest: int = setting(24, "shortest chain", unit="residues", ge=6, le=512)
    longest: int = setting(40, "longest chain", unit="residues", ge=6, le=512)
    network: FrameNetworkConfig = setting(FrameNetworkConfig(), "size of the networks")
    steps: int = setting(4, "network calls of the student", unit="calls", ge=1, le=64)
    finest: float = setting(0.03, "start time of the student's last step", unit="flow time", gt=0.01, lt=0.7)
    fake: Literal["per-step", "shared"] = setting(
        "per-step", "per-step: the fake knows which step made a sample; shared: it models their mixture"
    )
    atoms: float = setting(
        1.0,
        "weight of the teacher's errors of atom distances near the data; 0 = velocities alone",
        ge=0,
        paper="Yim et al. 2023 (FrameDiff) sec. 4.2",
    )
    teacher_updates: int = setting(500, "updates of the teacher", unit="updates", ge=1)
    teacher_batch: int = setting(16, "chains per update of the teacher", unit="chains", ge=1)
    teacher_rate: float = setting(2e-3, "learning rate of the teacher, falling linearly to 5 %", gt=0)
    teacher_steps: int = setting(
        50, "network calls of the teacher at evaluation", unit="calls", ge=2, le=1000
    )
    updates: int = setting(70, "updates of the student", unit="updates", ge=1)
    batch: int = setting(16, "chains per update of the student", unit="chains", ge=1)
    rate: float = setting(3e-4, "learning rate of the student, falling linearly to 10 %", gt=0)
    fake_rate: float = setting(1e-3, "learning rate of the fake", gt=0)
    samples: int = setting(64, "chains drawn for the evaluation", unit="chains", ge=2)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}")
        return self


class FramesRequest(Settings):
    """What ``fewstep sample`` may ask for."""

    length: int = setting(32, "residues per chain", unit="residues", ge=6, le=512)


class OracleConfig(RecipeConfig):
    """Frames of a known law: teacher, best student and distances have closed forms."""

    objective: AnyObjective = setting(
        SiDConfig(
            alpha=1.0,
            normalize=False,
            weight="one",
            share_rollout=True,
            times=TimesConfig(low=0.03, high=0.95),
        ),
        "how the student learns",
        paper="Zhou et al. 2024",
    )
    residues: int = setting(8, "residues of every chain", unit="residues", ge=3, le=64)
    steps: int = setting(4, "network calls of the student", unit="calls", ge=1, le=16)
    start: float = setting(0.9, "start time of the student's first step", unit="flow time", gt=0.1, le=1)
    finest: float = setting(0.05, "start time of its last step", unit="flow time", gt=0.01, lt=0.7)
    teacher_steps: int = setting(
        50, "network calls of the teacher at evaluation", unit="calls", ge=2, le=1000
    )
    updates: int = setting(200, "updates of the student", unit="updates", ge=1)
    batch: int = setting(48, "chains per update", unit="chains", ge=1)
    rate: float = setting(0.1, "learning rate of the student's tables, falling linearly to 2 %", gt=0)
    fake_rate: float = setting(0.2, "learning rate of the fake's tables, falling linearly to 10 %", gt=0)
    samples: int = setting(1024, "chains drawn for the evaluation", unit="chains", ge=64)
