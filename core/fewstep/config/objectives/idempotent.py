"""Settings of idempotent distillation. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.base import Learned, ReferenceName, field_of

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class SIGNConfig(Learned):
    """Score distillation of a student that keeps what is already data."""

    kind: Literal["sign"] = setting("sign", "score distillation of a student that maps data to itself")
    matching: float = setting(1.0, "weight of the score distillation", ge=0)
    idempotence: float = setting(1.0, "weight of |f(f(z)) - f(z)|^2", ge=0)
    reconstruction: float = setting(1.0, "weight of |f(x) - x|^2", ge=0)
    noise: float = setting(0.0, "standard deviation of noise added to f(z) before it is mapped again", ge=0)
    learns: Literal["both", "outer"] = setting("both", "which calls in f(f(z)) learn")
    at: int = setting(0, "the student's step that takes clean states; 0 = first, -1 = last", ge=-8, le=7)
    reference: ReferenceName = setting("data", "what is reconstructed")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective; ``fixed`` are settings of the score distillation."""
        from fewstep.objectives import sign

        named = ("idempotence", "reconstruction", "noise", "learns", "at")
        again = {
            **{name: getattr(self, name) for name in named},
            "reference": field_of(self.reference),
        }
        made: Objective = sign(**{**self.common(process), "matching": self.matching, "again": again, **fixed})
        return made
