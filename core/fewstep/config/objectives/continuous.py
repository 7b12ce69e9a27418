"""Settings of flow maps in continuous time. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fewstep.config.model import Settings, setting
from fewstep.config.objectives.base import WeightName, weight_named
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process

DerivativeName: TypeAlias = Literal["forward", "difference", "semi"]


class Tangential(Settings):
    """What objectives with a derivative along the path share."""

    derivative: DerivativeName = setting(
        "forward",
        "of the network along the path; forward: exact, by dual numbers; difference: central, two plain passes; "
        "semi: exact in the state, a difference in time",
    )
    step: float | None = setting(
        None, "of a difference, in units of the path; none = by machine precision", gt=0, lt=1
    )
    warmup: int = setting(0, "until the derivative counts fully", unit="cycles", ge=0)
    guidance: float | None = setting(None, "guidance scale g in u + g (c - u)", ge=0, le=200)

    def derived(self) -> Any:
        """The derivative."""
        from fewstep.objectives import tangent

        if self.derivative == "forward":
            return tangent.forward
        if self.derivative == "difference":
            return tangent.Difference(self.step)
        return tangent.SemiContinuous(self.step)


class SCMConfig(Tangential):
    """Continuous-time consistency."""

    kind: Literal["scm"] = setting("scm", "consistency in continuous time", paper="Lu & Song 2025 eq. 8")
    times: TimesConfig = setting(
        TimesConfig(kind="lognormal", mean=-1.0, std=1.4),
        "law of the times",
        paper="Lu & Song 2025: tan(a) = e^n / sigma_data",
    )
    weight: Literal["inverse-sigma"] | WeightName = setting(
        "inverse-sigma", "w(t) of the loss on F", paper="Lu & Song 2025 sec. 4.2"
    )
    warmup: int = setting(
        10_000,
        "until the tangent counts fully; less for short runs",
        unit="cycles",
        ge=0,
        paper="Lu & Song 2025",
    )
    constant: float = setting(0.1, "c of g / (norm of g + c)", gt=0, paper="Lu & Song 2025 sec. 4.1")
    learn_variance: bool = setting(False, "a head learns the weight: exp(-l) L + l")
    teacher: bool = setting(True, "false = consistency training on data alone")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective; a head that learns the weight is the role "log_variance"."""
        from fewstep.objectives import SCM
        from fewstep.objectives.continuous import WarmUp
        from fewstep.objectives.scm import inverse_sigma

        settings = {
            "weight": inverse_sigma if self.weight == "inverse-sigma" else weight_named(self.weight, process),
            "ramp": WarmUp(self.warmup),
            "constant": self.constant,
            "derivative": self.derived(),
            "guidance": self.guidance,
            "log_variance": "log_variance" if self.learn_variance else None,
            "teacher": "teacher" if self.teacher else None,
        }
        made: Objective = SCM(self.times.build(process), **{**settings, **fixed})
        return made


class RCMConfig(Tangential):
    """Score-regularized consistency."""

    kind: Literal["rcm"] = setting(
        "rcm", "consistency in continuous time with distribution matching", paper="Zheng et al. 2025 rCM"
    )
    times: TimesConfig = setting(
        TimesConfig(kind="lognormal", mean=0.7, std=1.6), "law of the times of the tangent", paper="rCM code"
    )
    judged: TimesConfig = setting(
        TimesConfig(low=0.02, high=0.98), "law of the times at which the student's samples are judged"
    )
    form: Literal["continuous", "discrete"] = setting(
        "continuous", "discrete: neighbors on a grid, stable where tangents are not (small batches)"
    )
    steps: int = setting(50, "intervals of that grid (discrete)", unit="intervals", ge=2)
    warmup: int = setting(
        1000, "until the tangent counts fully and the scores join", unit="cycles", ge=0, paper="rCM code"
    )
    consistency: float = setting(100.0, "weight of the flow map", gt=0, paper="rCM code")
    scores: float = setting(
        2.0,
        "weight of distribution matching: half of a square, so 2 is the paper's 1",
        ge=0,
        paper="rCM code",
    )
    critic_updates: int = setting(
        4, "fake updates before each student update", unit="updates", ge=1, le=100, paper="rCM code"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The mixture of both."""
        from fewstep.objectives import rcm

        settings = {
            "form": self.form,
            "steps": self.steps,
            "warmup": self.warmup,
            "consistency": self.consistency,
            "scores": self.scores,
            "derivative": self.derived(),
            "guidance": self.guidance,
            "critic_updates": self.critic_updates,
        }
        made: Objective = rcm(self.times.build(process), self.judged.build(process), **{**settings, **fixed})
        return made


class MeanFlowConfig(Tangential):
    """Mean velocities between any two times."""

    kind: Literal["meanflow"] = setting(
        "meanflow", "mean velocities between any two times", paper="Geng et al. 2025 eq. 6-8"
    )
    times: TimesConfig = setting(
        TimesConfig(kind="lognormal", mean=-0.4, std=1.0),
        "law of both times; on rectified flow it is logit-normal",
        paper="Geng et al. 2025 table 4",
    )
    same: float = setting(
        0.75, "share of samples whose times are equal: flow matching", ge=0, lt=1, paper="Geng et al. 2025"
    )
    power: float = setting(
        1.0, "p of the weight 1 / (error + c)^p", ge=0, le=2, paper="Geng et al. 2025 eq. 22"
    )
    constant: float = setting(1e-3, "c of that weight", gt=0, paper="Geng et al. 2025 eq. 22")
    teacher: bool = setting(True, "false = training on data alone; guidance then needs the recipe's null")
    mix: float = setting(
        0.0, "kappa: the student's own velocity in the guided one (without teacher)", ge=0, le=1,
        paper="Geng et al. 2025 eq. 19",
    )  # fmt: skip

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective; ``null`` and ``drop`` belong to the recipe."""
        from fewstep.objectives import MeanFlow
        from fewstep.objectives.continuous import WarmUp

        settings = {
            "same": self.same,
            "ramp": WarmUp(self.warmup),
            "power": self.power,
            "constant": self.constant,
            "derivative": self.derived(),
            "guidance": self.guidance,
            "mix": self.mix,
            "teacher": "teacher" if self.teacher else None,
        }
        made: Objective = MeanFlow(self.times.build(process), **{**settings, **fixed})
        return made
