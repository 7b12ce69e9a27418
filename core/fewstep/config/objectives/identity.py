"""Settings of the score identity family. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.base import Learned
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class SiDConfig(Learned):
    """Score identity distillation."""

    kind: Literal["sid"] = setting("sid", "score identity distillation", paper="Zhou et al. 2024 eq. 23")
    times: TimesConfig = setting(
        TimesConfig(low=0.0, high=0.8),
        "law of the times at which the student is judged",
        paper="Zhou et al. 2024",
    )
    alpha: float = setting(1.2, "weight of the Fisher term; above 1 start from a narrow student", ge=0, le=2)
    normalize: bool = setting(True, "divide each sample by mean |x - D_teacher|")
    critic_updates: int = setting(1, "fake updates before each student update", unit="updates", ge=1, le=100)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import SiD

        settings = {**self.common(process), "alpha": self.alpha, "normalize": self.normalize}
        made: Objective = SiD(**{**settings, **fixed})
        return made
