"""Settings of ``protein/rouse``."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, SiDConfig
from fewstep.config.times import TimesConfig


class RouseConfig(RecipeConfig):
    """Few-step Gaussian chains: every number of this recipe has a closed form."""

    objective: AnyObjective = setting(
        SiDConfig(
            alpha=1.0, normalize=False, weight="one", critic_updates=2, times=TimesConfig(low=0.02, high=0.98)
        ),
        "how the student learns",
        paper="Zhou et al. 2024",
    )
    lengths: tuple[int, ...] = setting((12, 16), "beads of the chains", unit="beads", min_length=1)
    steps: int = setting(4, "network calls of the student", unit="calls", ge=1, le=64)
    finest: float = setting(0.01, "start time of the student's last step", unit="flow time", gt=0.001, lt=0.7)
    fake: Literal["per-step", "shared"] = setting(
        "per-step",
        "per-step: the fake knows which step made a sample; shared: one Gaussian for their mixture",
    )
    teacher_steps: int = setting(
        100, "network calls of the teacher at evaluation", unit="calls", ge=2, le=1000
    )
    updates: int = setting(1000, "updates of the student", unit="updates", ge=1)
    batch: int = setting(256, "chains per update", unit="chains", ge=1)
    rate: float = setting(0.02, "learning rate of the student's log variances, falling linearly to 2 %", gt=0)
    fake_rate: float = setting(
        0.05, "learning rate of the fake's log variances, falling linearly to 10 %", gt=0
    )
    samples: int = setting(8192, "chains drawn for the evaluation", unit="chains", ge=64)

    @field_validator("lengths")
    @classmethod
    def _possible(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [n for n in given if not 3 <= n <= 256]
        if wrong:
            raise ValueError(f"a chain has 3 to 256 beads, got {', '.join(map(str, wrong))}")
        return tuple(sorted(set(given)))


class RouseRequest(Settings):
    """What ``fewstep sample`` may ask for."""

    length: int | None = setting(
        None, "beads per chain, one of the lengths of the run; none = all of them in turn", ge=3
    )
