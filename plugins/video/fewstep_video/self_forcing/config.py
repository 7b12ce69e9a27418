"""Settings of the recipe ``video/self-forcing``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, DMDConfig
from fewstep.config.times import TimesConfig


class ClipConfig(Settings):
    """What the clips are."""

    height: int = setting(
        8, "height of the canvas; 8 = digits move sideways only", unit="pixels", ge=8, le=64
    )
    width: int = setting(16, "width of the canvas", unit="pixels", ge=8, le=64)
    frames: int = setting(8, "length of a training clip", unit="frames", ge=2, le=128)
    stride: int = setting(4, "what a digit moves per frame along an axis", unit="pixels", ge=1, le=8)


class NetworkConfig(Settings):
    """How large the transformer is; teacher, fake and student have the same size."""

    patch: int = setting(4, "side of a patch", unit="pixels", ge=1)
    width: int = setting(64, "width of a token", ge=8)
    depth: int = setting(3, "layers", ge=1, le=64)
    heads: int = setting(4, "attention heads", ge=1)


class RollConfig(Settings):
    """How the student streams."""

    steps: int = setting(
        4, "network steps per block", unit="steps", ge=1, le=64, paper="Huang et al. 2025 sec. 4"
    )
    shift: float = setting(
        2.0, "warp of the step times towards noise", gt=0, paper="Esser et al. 2024 sec. 5.3.2"
    )
    block: int = setting(2, "frames made together", unit="frames", ge=1)
    window: int = setting(2, "past frames that a block sees beside the sink", unit="frames", ge=0)
    sink: int = setting(
        2, "first frames that every block sees", unit="frames", ge=0, paper="Xiao et al. 2024"
    )


class StageConfig(Settings):
    """How one network is trained."""

    steps: int = setting(
        ..., "updates (cycles of critic and student in the last stage)", unit="updates", ge=1
    )
    rows: int = setting(16, "clips per update", unit="clips", ge=1)
    lr: float = setting(2e-3, "AdamW's learning rate, falling to a tenth", gt=0, lt=1)


class SelfForcingConfig(RecipeConfig):
    """A bidirectional teacher of moving digits becomes a causal student that streams."""

    clip: ClipConfig = setting(ClipConfig(), "what the clips are")
    network: NetworkConfig = setting(NetworkConfig(), "how large the networks are")
    roll: RollConfig = setting(RollConfig(), "how the student streams")
    teaching: StageConfig = setting(StageConfig(steps=1000), "the teacher's training (teacher.kind train)")
    warming: StageConfig = setting(
        StageConfig(steps=150, lr=1e-3),
        "the student's start: regression with the clean past shown",
        paper="Huang et al. 2025 sec. 3.1 (teacher forcing)",
    )
    distilling: StageConfig = setting(StageConfig(steps=50, lr=1e-4), "self forcing")
    fake_lr: float = setting(1e-3, "AdamW's learning rate of the fake", gt=0, lt=1)
    objective: AnyObjective = setting(
        DMDConfig(times=TimesConfig(low=0.02, high=0.98), critic_updates=5),
        "how rollouts are judged",
        paper="Huang et al. 2025 sec. 3.3",
    )
    teacher_steps: int = setting(24, "Euler steps of the teacher in the comparison", unit="steps", ge=1)
    samples: int = setting(64, "clips in the comparison", unit="clips", ge=2)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.clip.height % self.network.patch or self.clip.width % self.network.patch:
            raise ValueError(
                f"network.patch {self.network.patch} does not tile a canvas of {self.clip.height} x "
                f"{self.clip.width}; choose a common divisor"
            )
        if self.network.width % (2 * self.network.heads):
            raise ValueError("network.width must be a multiple of twice network.heads")
        if self.roll.block > self.clip.frames:
            raise ValueError(
                f"roll.block {self.roll.block} is longer than a clip of {self.clip.frames} frames"
            )
        return self


class StreamOptions(Settings):
    """What ``fewstep sample`` may ask of a stream."""

    frames: int = setting(
        24, "length; the student streams, so it may be longer than it was trained", unit="frames", ge=1
    )
    digit: int | None = setting(None, "which digit; all in turn if not said", ge=0, le=9)
