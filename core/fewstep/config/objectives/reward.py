"""Settings of rewards. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from fewstep.config.model import Settings, setting

if TYPE_CHECKING:
    from fewstep.objectives import Reward


class RewardConfig(Settings):
    """A reward beside distillation: ``tilt`` moves where it ends, ``weight`` says which samples matter more."""

    target: str | None = setting(
        None,
        "'module:callable' of your own code that returns a torch module (x, cond) -> (B,); none = the recipe's reward",
        pattern=r"^[\w.]+:\w+$",
    )
    tilt: float = setting(
        0.0, "lambda: distillation of p ends at p exp(lambda R)", ge=0, paper="Ren et al. 2024"
    )
    margin: float | None = setting(None, "samples whose reward has reached it are not tilted")
    cap: float | None = setting(
        None, "largest gradient of the tilt, as a share of the distillation's, sample by sample", gt=0
    )
    weight: float = setting(
        0.0, "beta: samples are weighted by exp(beta R)", ge=0, paper="Lu et al. 2025 eq. 9"
    )
    clip: float = setting(10.0, "largest weight of a sample", gt=1)
    least: float = setting(
        0.25, "effective share of the batch that must remain; beta is lowered until it does", gt=0, le=1
    )

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.tilt == 0 and self.weight == 0:
            raise ValueError("a reward needs a tilt or a weight above 0; without both it changes nothing")
        return self

    def build(self) -> Reward:
        """The reward's part of an objective."""
        from fewstep.config.teacher import attribute
        from fewstep.objectives import Reward

        make = None if self.target is None else attribute(self.target, "objective.reward.target")
        return Reward(**self.model_dump(exclude={"target"}), make=make)
