"""Settings of discriminators. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import Settings, setting
from fewstep.config.objectives.base import Judged, ReferenceName, field_of

if TYPE_CHECKING:
    from fewstep.objectives import Adversary
    from fewstep.protocol import Objective, Process


FEATURES = (
    "whose activations the discriminator reads, where that network offers features; none, or a network without: a copy "
    "of the teacher's network that reads states"
)


class AdversaryConfig(Settings):
    """A discriminator beside, or in place of, a fake."""

    features_of: Literal["teacher", "fake"] | None = setting(
        None,
        FEATURES,
    )
    features: tuple[int, ...] = setting((0,), "indices of those activations", min_length=1)
    weight: float = setting(1.0, "weight of the student's adversarial loss", ge=0)
    disc_weight: float = setting(1.0, "weight of the discriminator's loss beside the fake's", gt=0)
    loss: Literal["softplus", "saturating", "hinge"] = setting(
        "softplus", "softplus: non-saturating; saturating: its minimax form; hinge"
    )
    smoothing: float = setting(0.0, "label smoothing of the discriminator", ge=0, lt=0.5)
    r1: float = setting(
        0.0, "weight of the approximate gradient penalty on real samples", ge=0, paper="Lin et al. 2025 eq. 4"
    )
    r1_noise: float = setting(0.1, "size of its step", unit="data units", gt=0, paper="Lin et al. 2025")
    reference: ReferenceName = setting("data", "what the discriminator compares with")

    def build(self) -> Adversary:
        """The discriminator's part of an objective."""
        from fewstep.objectives import Adversary

        given = self.model_dump(exclude={"reference"})
        return Adversary(**given, reference=field_of(self.reference))


class BesideConfig(AdversaryConfig):
    """A discriminator beside a fake."""

    features_of: Literal["teacher", "fake"] | None = setting(
        "fake",
        FEATURES,
    )
    weight: float = setting(
        3e-3, "weight of the student's adversarial loss", ge=0, paper="Yin et al. 2024 DMD2"
    )
    disc_weight: float = setting(
        1e-2, "weight of the discriminator's loss beside the fake's", gt=0, paper="Yin et al. 2024 DMD2"
    )


class AloneConfig(AdversaryConfig):
    """A discriminator on a teacher's features, without a fake."""

    features_of: Literal["teacher"] | None = setting(
        "teacher",
        FEATURES,
    )


class LADDConfig(Judged):
    """A discriminator alone."""

    kind: Literal["ladd"] = setting(
        "ladd", "adversarial distillation on the features of a frozen teacher", paper="Sauer et al. 2024"
    )
    weight: Literal["one"] = setting("one", "has no meaning here: a discriminator weighs times by itself")
    guidance: None = setting(None, "has no meaning here: the teacher's estimate is not used")
    adversary: AloneConfig = setting(AloneConfig(), "the discriminator")
    critic_updates: int = setting(
        5, "discriminator updates before each student update", unit="updates", ge=1, le=100
    )
    inputs: Literal["roll", "data"] = setting(
        "roll", "roll: training steps see the student's own roll; data: noised data, as published"
    )
    share_rollout: bool = setting(False, "critic and student of one cycle judge one sample, made once")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Adversarial

        named = ("critic_updates", "inputs", "share_rollout")
        common = {
            key: value for key, value in self.common(process).items() if key not in ("weight", "guidance")
        }
        settings = {
            **common,
            **{name: getattr(self, name) for name in named},
            "adversary": self.adversary.build(),
        }
        made: Objective = Adversarial(**{**settings, **fixed})
        return made
