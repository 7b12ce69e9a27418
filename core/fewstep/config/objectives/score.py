"""Settings of score distillation. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.base import Judged, Learned, WeightName

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class SDSConfig(Judged):
    """Score distillation sampling; seeks one mode."""

    kind: Literal["sds"] = setting(
        "sds", "score distillation sampling: no fake, seeks a mode", paper="Poole et al. 2023"
    )
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Poole et al. 2023 eq. 3")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import sds

        made: Objective = sds(**{**self.common(process), **fixed})
        return made


class VSDConfig(Learned):
    """Variational score distillation."""

    kind: Literal["vsd"] = setting("vsd", "variational score distillation", paper="Wang et al. 2023 eq. 9")
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Wang et al. 2023 eq. 9")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import vsd

        made: Objective = vsd(**{**self.common(process), **fixed})
        return made


class DiffInstructConfig(Learned):
    """Diff-Instruct: reverse KL, averaged over times."""

    kind: Literal["diff-instruct"] = setting(
        "diff-instruct", "reverse KL over times", paper="Luo et al. 2023"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import diff_instruct

        made: Objective = diff_instruct(**{**self.common(process), **fixed})
        return made


class DMDConfig(Learned):
    """Distribution matching distillation."""

    kind: Literal["dmd"] = setting(
        "dmd", "distribution matching, normalized per sample", paper="Yin et al. 2024 eq. 7-8"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import dmd

        made: Objective = dmd(**{**self.common(process), **fixed})
        return made
