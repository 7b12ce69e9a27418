"""What the settings of several families share. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from pydantic import model_validator

from fewstep.config.model import Settings, setting
from fewstep.config.objectives.reward import RewardConfig
from fewstep.config.times import TimesConfig
from fewstep.errors import FewstepError

if TYPE_CHECKING:
    from fewstep.protocol import Process

WeightName: TypeAlias = Literal[
    "customary", "one", "edm", "snr", "truncated-snr", "min-snr", "score", "dreamfusion", "inverse-hidden"
]

DistanceName: TypeAlias = Literal["l2", "l1", "pseudo-huber"]
ReferenceName: TypeAlias = Literal["data", "teacher"]


def field_of(reference: ReferenceName) -> str:
    """The batch field that holds what a student is compared with."""
    return "x" if reference == "data" else "extra.teacher"


def distance_named(name: DistanceName, bend: float = 5.4e-4) -> Any:
    """The distance of that name; ``bend`` is the pseudo-Huber's."""
    from fewstep.objectives import distances

    return distances.pseudo_huber(bend) if name == "pseudo-huber" else getattr(distances, name)


def weight_named(name: str, process: Process) -> Any:
    """The weight function of that name, tried once on this process.

    Raises:
        FewstepError: the process has not what the weight is made of.
    """
    import torch

    from fewstep.objectives import weights

    found = weights.min_snr() if name == "min-snr" else getattr(weights, name.replace("-", "_"))
    try:
        found(process, torch.tensor([(process.t_min + process.t_max) / 2], dtype=torch.float64))
    except ValueError as error:
        raise FewstepError(
            f"the weight {name!r} does not exist on a {type(process).__name__} process: {error}",
            "a weight of this process",
            "-s objective.weight=one",
        ) from error
    return found


class Guidable(Settings):
    """What may be told a guidance scale, or draws one."""

    guidance: float | None = setting(None, "teacher's guidance scale g in u + g (c - u)", ge=0, le=100)
    guidance_to: float | None = setting(
        None,
        "if given, g is uniform in [guidance, guidance_to], and a student that takes it is told",
        ge=0,
        le=100,
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.guidance, self.guidance_to
        if high is not None and (low is None or low >= high):
            raise ValueError(
                f"guidance_to is the upper end of a range: guidance is {low}, guidance_to {high}"
            )
        return self

    def scale(self) -> Any:
        """The scale: none, one number, or a uniform law."""
        from fewstep.processes import Uniform

        low, high = self.guidance, self.guidance_to
        return low if low is None or high is None else Uniform(low, high)


class Judged(Settings):
    """What score distillation and the score identity share."""

    times: TimesConfig = setting(
        TimesConfig(low=0.02, high=0.98), "law of the times at which the student is judged"
    )
    weight: WeightName = setting("one", "w(t) in x0 units")
    guidance: float | None = setting(None, "teacher's guidance scale g in u + g (c - u)", ge=0, le=200)
    penalties: dict[str, float] = setting({}, "weights of the student's own penalties, by name")
    reward: RewardConfig | None = setting(None, "a reward beside distillation; none by default")

    def common(self, process: Process) -> dict[str, Any]:
        """Keyword arguments that the members of the family share."""
        return {
            "times": self.times.build(process),
            "weight": weight_named(self.weight, process),
            "guidance": self.guidance,
            "penalties": dict(self.penalties),
            "reward": None if self.reward is None else self.reward.build(),
        }


class Learned(Judged):
    """Methods whose fake learns the student's law."""

    critic_updates: int = setting(
        3,
        "fake updates before each student update",
        unit="updates",
        ge=1,
        le=100,
        paper="Yin et al. 2024 DMD2",
    )
    fake_times: TimesConfig | None = setting(None, "the fake's own time law; none = the student's")
    fake_weight: WeightName = setting("customary", "weight of the fake's denoising loss")
    fake_knows: Literal["per-step", "shared"] = setting(
        "per-step",
        "per-step: the fake is told which step of the student made a sample; shared: one law for their mixture",
    )
    share_rollout: bool = setting(False, "critic and student of one cycle judge one sample, made once")

    def common(self, process: Process) -> dict[str, Any]:
        """Keyword arguments that the members of the family share."""
        return {
            **super().common(process),
            "critic_updates": self.critic_updates,
            "fake_times": None if self.fake_times is None else self.fake_times.build(process),
            "fake_weight": weight_named(self.fake_weight, process),
            "fake_knows": self.fake_knows,
            "share_rollout": self.share_rollout,
        }
