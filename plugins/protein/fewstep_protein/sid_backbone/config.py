"""Settings of ``protein/sid-backbone``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, setting
from fewstep.config.objectives import AnyObjective, SiDConfig
from fewstep.config.times import TimesConfig
from fewstep_protein.networks.choice import NetworkConfig
from fewstep_protein.structures.segments import DataConfig
from fewstep_protein.teachers.outputs import Output, Unit


class BackboneConfig(RecipeConfig):
    """Few-step CA backbones by score identity distillation."""

    objective: AnyObjective = setting(
        SiDConfig(alpha=1.0, times=TimesConfig(low=0.2, high=0.995), share_rollout=True, critic_updates=2),
        "how the student learns",
        paper="Zhou et al. 2024; Xie et al. 2025 (distilled Proteina)",
    )
    data: DataConfig = setting(DataConfig(), "real structures")
    shortest: int = setting(32, "shortest chain", unit="residues", ge=6, le=512)
    longest: int = setting(64, "longest chain", unit="residues", ge=6, le=512)
    network: NetworkConfig = setting(NetworkConfig(), "size of the networks")
    steps: int = setting(
        16, "network calls of the student", unit="calls", ge=1, le=64, paper="Xie et al. 2025: 8, 16 or 20"
    )
    finest: float = setting(
        0.01,
        "start time of the student's last step",
        unit="flow time",
        gt=0.005,
        lt=0.7,
        paper="Xie et al. 2025",
    )
    fake: Literal["per-step", "shared"] = setting(
        "per-step",
        "per-step: the fake knows which step made a sample; shared: it models their mixture, as published",
    )
    teacher_output: Output | None = setting(
        None, "what a teacher that was trained elsewhere predicts; a published Proteina predicts v"
    )
    teacher_unit: Unit = setting("nm", "unit of the coordinates of a teacher that was trained elsewhere")
    teacher_labels: str | None = setting(
        None,
        "file with the numbers that a published Proteina gives to CATH codes; none = it is told no labels",
    )
    teacher_updates: int = setting(2500, "updates of the teacher", unit="updates", ge=1)
    teacher_batch: int = setting(16, "chains per update of the teacher", unit="chains", ge=1)
    teacher_rate: float = setting(2e-3, "learning rate of the teacher, falling linearly to 0", gt=0)
    teacher_steps: int = setting(
        400,
        "network calls of the teacher at evaluation",
        unit="calls",
        ge=2,
        le=1000,
        paper="Geffner et al. 2025",
    )
    teacher_solver: Literal["sde", "ode", "proteina"] = setting(
        "sde",
        "sde: reverse diffusion, exact while the estimate stands still; ode: the flow; proteina: its Euler-Maruyama "
        "scheme, whose last noises stretch bonds unless gamma is well below 1",
    )
    teacher_gamma: float = setting(
        0.45, "variance of the noise (proteina)", gt=0, le=1, paper="Geffner et al. 2025: 0.35 to 0.45"
    )
    autoguidance: float = setting(
        0.0,
        "share of the teacher's early checkpoint in what objective.guidance points away from; the rest is the "
        "teacher without labels",
        ge=0,
        le=1,
        paper="Geffner et al. 2025, eq. 6; Karras et al. 2024",
    )
    early: float = setting(
        0.125, "where the early checkpoint is taken, as a share of the teacher's updates", gt=0, lt=1
    )
    updates: int = setting(120, "updates of the student", unit="updates", ge=1)
    batch: int = setting(16, "chains per update of the student", unit="chains", ge=1)
    rate: float = setting(5e-4, "learning rate of the student", gt=0)
    fake_rate: float = setting(
        1e-3, "learning rate of the fake; a fake that lags lets the student swell", gt=0
    )
    fake_reset: int | None = setting(
        None,
        "updates of the student after which the fake begins again as its teacher, and learning rates with it",
        unit="updates",
        ge=1,
        paper="Xie et al. 2025: every 400,000 chains",
    )
    restarts: int | None = setting(
        None,
        "first period of cosine warm restarts of both learning rates, doubling; none = the student's falls linearly",
        unit="updates",
        ge=1,
        paper="Loshchilov & Hutter 2017; Xie et al. 2025: 1000",
    )
    curves: bool = setting(
        True, "also draw with other numbers of calls and noise scales, for the report's curves"
    )
    samples: int = setting(64, "chains drawn for the evaluation", unit="chains", ge=2)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}")
        return self
