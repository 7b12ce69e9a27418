"""Settings of the recipe ``3d/sds``."""

from __future__ import annotations

from typing import Literal

from fewstep.config import RecipeConfig, setting
from fewstep.config.objectives import AnyObjective


class SDSConfig(RecipeConfig):
    """A scene distilled from a camera-conditioned prior over its views."""

    prior: Literal["learned", "exact"] = setting(
        "learned",
        "learned: a small diffusion network, trained first on random views; exact: a Gaussian around each true view, "
        "whose score is known in closed form",
    )
    mesh: str = setting("", "path of the object (.ply, .obj, .glb, .off); empty = the bunny that comes along")
    size: int = setting(32, "image side", unit="pixels", ge=8, le=256)
    side: int = setting(32, "grid cells per axis", unit="cells", ge=8, le=256)
    cameras: int = setting(4, "views per update", unit="views", ge=1, le=256)
    steps: int = setting(400, "updates of the scene", unit="updates", ge=1)
    lr: float = setting(0.1, "Adam's learning rate for the scene", gt=0)
    smoothness: float = setting(0.0, "weight of the scene's total variation", ge=0)
    objective: AnyObjective = setting("sds", "how the scene learns from the prior", paper="Poole et al. 2023")
    teacher_steps: int = setting(500, "updates of the learned prior", unit="updates", ge=1)
    teacher_views: int = setting(160, "random views that it learns from", unit="views", ge=1)
    teacher_batch: int = setting(16, "views per update of the prior", unit="views", ge=1)
    teacher_width: int = setting(24, "channels of the prior at full resolution", ge=8, multiple_of=8)
    teacher_lr: float = setting(2e-3, "AdamW's learning rate for the prior", gt=0)
