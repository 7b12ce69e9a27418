"""Settings of the score identity family. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.base import Learned
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class Identity(Learned):
    """What the members of the family share."""

    times: TimesConfig = setting(
        TimesConfig(low=0.0, high=0.8),
        "law of the times at which the student is judged",
        paper="Zhou et al. 2024",
    )
    normalize: bool = setting(True, "divide each sample by mean |x - D_teacher|")
    critic_updates: int = setting(1, "fake updates before each student update", unit="updates", ge=1, le=100)

    def common(self, process: Process) -> dict[str, Any]:
        """Keyword arguments that the members of the family share."""
        return {**super().common(process), "normalize": self.normalize}


class WithAlpha(Identity):
    """Methods made of SiD's loss."""

    alpha: float = setting(1.2, "weight of the Fisher term; above 1 start from a narrow student", ge=0, le=2)
    alpha_warmup: float = setting(
        0.0, "share of the stage over which alpha rises from 1, for students that begin wide", ge=0, le=1
    )

    def common(self, process: Process) -> dict[str, Any]:
        """Keyword arguments that the members of the family share."""
        from fewstep.protocol import Linear

        alpha = Linear(1.0, self.alpha, self.alpha_warmup) if self.alpha_warmup else self.alpha
        return {**super().common(process), "alpha": alpha}


class SiDConfig(WithAlpha):
    """Score identity distillation."""

    kind: Literal["sid"] = setting("sid", "score identity distillation", paper="Zhou et al. 2024 eq. 23")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import SiD

        made: Objective = SiD(**{**self.common(process), **fixed})
        return made


class SIMConfig(Identity):
    """Score implicit matching: any distance of the scores."""

    kind: Literal["sim"] = setting("sim", "score implicit matching", paper="Luo et al. 2024 eq. 3.7")
    normalize: bool = setting(
        False, "divide each sample by mean |x - D_teacher|; a Huber distance needs it not"
    )
    distance: Literal["huber", "squared", "element-huber", "power"] = setting(
        "huber", "distance of the two scores: of whole events, or (element-huber) of each element"
    )
    units: Literal["x0", "noise", "score"] = setting(
        "x0", "in which the distance measures the gap: says where a Huber distance bends; published: score"
    )
    huber_c: float = setting(1.0, "gap at which a Huber distance bends, in these units", gt=0)
    power: float = setting(1.5, "exponent of the power distance", ge=1, le=4)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import SIM, ElementHuber, Huber, Power, Squared
        from fewstep.objectives.identity_family import in_noise, in_scores
        from fewstep.objectives.weights import one

        distances = {
            "huber": Huber(self.huber_c),
            "squared": Squared(),
            "element-huber": ElementHuber(self.huber_c),
            "power": Power(self.power),
        }
        units = {"x0": one, "noise": in_noise, "score": in_scores}[self.units]
        settings = {**self.common(process), "distance": distances[self.distance], "units": units}
        made: Objective = SIM(**{**settings, **fixed})
        return made


class UniInstructConfig(Identity):
    """Uni-Instruct: an f-divergence through ratio-weighted Fisher divergences."""

    kind: Literal["uni-instruct"] = setting(
        "uni-instruct", "f-divergence by its diffusion expansion", paper="Wang et al. 2025 theorem 3.1"
    )
    divergence: Literal[
        "reverse-kl", "forward-kl", "jensen-shannon", "softened-reverse-kl", "hellinger", "jeffreys"
    ] = setting("reverse-kl", "what is minimized; all but reverse-kl train a discriminator on data")
    ratio_limit: float = setting(3.0, "limit of |log p / q|", gt=0, le=20)
    smoothing: float = setting(0.0, "label smoothing of the discriminator", ge=0, lt=0.5)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import UniInstruct, ratios

        named = self.divergence.replace("-", "_")
        settings = {
            **self.common(process),
            "factor": None if named == "reverse_kl" else getattr(ratios, named),
            "limit": self.ratio_limit,
            "smoothing": self.smoothing,
        }
        made: Objective = UniInstruct(**{**settings, **fixed})
        return made
