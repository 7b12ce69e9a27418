"""Settings of forgetting. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from fewstep.config.model import setting
from fewstep.config.objectives.identity import WithAlpha

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class SFDConfig(WithAlpha):
    """Score forgetting distillation, by label."""

    kind: Literal["sfd"] = setting("sfd", "score forgetting distillation", paper="Chen et al. 2024")
    forget: int = setting(-1, "label to be forgotten; must be given", ge=-1)
    override: int = setting(-1, "label whose law takes its place; must be given", ge=-1)
    label_name: str = setting("label", "where the labels are, if the recipe's conditions have several parts")
    forget_weight: float = setting(0.01, "weight of the forgetting term", ge=0, paper="Chen et al. 2024")

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if min(self.forget, self.override) < 0:
            raise ValueError(
                "sfd must know what to forget: set objective.forget to a label and objective.override to the label "
                "whose law takes its place; the recipe's conditions must hold integer labels, one per sample"
            )
        if self.forget == self.override:
            raise ValueError(f"label {self.forget} cannot take its own place; choose another override")
        return self

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Forgetting, Labeled, SiD

        objective = SiD(**{**self.common(process), **fixed})
        forget, override = (Labeled(label, self.label_name) for label in (self.forget, self.override))
        return Forgetting(objective, forget, override, self.forget_weight)
