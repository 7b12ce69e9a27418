"""Settings of the denoising loss. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import Settings, setting
from fewstep.config.objectives.base import WeightName, weight_named
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class DenoisingConfig(Settings):
    """Regress clean data from corrupted data."""

    kind: Literal["denoising"] = setting(
        "denoising", "regress clean data from corrupted data", paper="Vincent 2011 eq. 11; Karras et al. 2022"
    )
    times: TimesConfig = setting(TimesConfig(), "law of the corruption times")
    weight: WeightName = setting(
        "customary", "weight of the loss in x0 units", paper="Karras et al. 2022 table 1"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective; ``fixed`` are settings that belong to the recipe (role, null, drop, ...)."""
        from fewstep.objectives import Denoising

        made: Objective = Denoising(
            self.times.build(process), **{"weight": weight_named(self.weight, process), **fixed}
        )
        return made
