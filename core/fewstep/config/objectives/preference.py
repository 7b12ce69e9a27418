"""Settings of preferences between pairs. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import Settings, setting

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process

PAPER = "Miao et al. 2024"


class PSOConfig(Settings):
    """Pairwise sample optimization of a distilled student."""

    kind: Literal["pso"] = setting("pso", "tune a distilled student by pairs of samples", paper=PAPER)
    mode: Literal["online", "offline"] = setting(
        "online",
        "online: a reward compares two own samples; offline: targets of the batch against own samples",
    )
    beta: float | None = setting(
        None, "strength; none = 50 online, 200 offline", gt=0, le=10_000, paper=PAPER
    )
    target: str | None = setting(
        None,
        "online: 'module:callable' that returns a torch module (x, cond) -> (B,); none = the recipe's reward",
        pattern=r"^[\w.]+:\w+$",
    )
    clip: float | None = setting(
        0.1, "online: ratios beyond 1 -+ clip have no gradient", gt=0, lt=1, paper=PAPER
    )
    temperature: float = setting(0.0, "online: of the reward; 0 = the larger one wins", ge=0)
    discount: float = setting(0.1, "offline: how much the own sample counts", ge=0, le=1, paper=PAPER)
    reference: bool = setting(True, "offline: compare with the student as it started; false = hinge form")
    margin: float = setting(0.0, "offline without a reference: margin of the hinge", ge=0)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.config.teacher import attribute
        from fewstep.objectives import PairPolicy, PairTarget

        online = self.mode == "online"
        beta = self.beta or (50.0 if online else 200.0)
        settings: dict[str, Any] = {"beta": beta}
        if online:
            make = None if self.target is None else attribute(self.target, "objective.target")
            settings |= {"clip": self.clip, "temperature": self.temperature, "make": make}
        else:
            reference = "reference" if self.reference else None
            settings |= {"discount": self.discount, "margin": self.margin, "reference": reference}
        made: Objective = (PairPolicy if online else PairTarget)(**{**settings, **fixed})
        return made
