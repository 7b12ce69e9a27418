"""Settings of policy gradients and preferences. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import Settings, setting
from fewstep.config.objectives.base import ReferenceName, WeightName, field_of, weight_named
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class RatioPolicyConfig(Settings):
    """Policy gradient on a learned density ratio."""

    kind: Literal["ratio-policy"] = setting(
        "ratio-policy", "policy gradient on a learned density ratio", paper="Zheng et al. 2025"
    )
    times: TimesConfig = setting(
        TimesConfig(),
        "law of the times at which samples are judged, one draw for each group (corruption fresh)",
    )
    corruption: Literal["fresh", "coupled"] = setting(
        "coupled", "coupled: judge where the student passed through"
    )
    reference: ReferenceName = setting("data", "what the discriminator compares with")
    weight: WeightName = setting("one", "omega(t)")
    group: int = setting(0, "rows of one leave-one-out baseline; 0 = the batch", unit="rows", ge=0)
    whiten: bool = setting(False, "divide advantages by their group's standard deviation")
    reward_clip: float = setting(8.0, "largest |logit|", unit="nats", gt=0)
    advantage_clip: float | None = setting(None, "largest |advantage|", gt=0)
    smoothing: float = setting(0.0, "label smoothing of the discriminator", ge=0, lt=0.5)
    anchor: float = setting(0.0, "weight of KL(teacher | student) at visited states", ge=0)
    critic_updates: int = setting(
        1, "discriminator updates before each student update", unit="updates", ge=1, le=100
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Coupled, RatioPolicy, fresh
        from fewstep.processes import PerGroup

        named = ("group", "whiten", "reward_clip", "advantage_clip", "smoothing", "anchor", "critic_updates")
        settings = {
            **{name: getattr(self, name) for name in named},
            "times": PerGroup(self.times.build(process), self.group),
            "corruption": Coupled() if self.corruption == "coupled" else fresh,
            "reference": field_of(self.reference),
            "weight": weight_named(self.weight, process),
        }
        made: Objective = RatioPolicy(**{**settings, **fixed})
        return made
