"""How a recipe is set: models, overrides, origins. Importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewstep.config.load import Resolved, resolve
from fewstep.config.model import RecipeConfig, Settings, TeacherConfig, setting

if TYPE_CHECKING:
    from fewstep.config.teacher import check_teacher, given_stage, left_beside, load_teacher

__all__ = [
    "RecipeConfig",
    "Resolved",
    "Settings",
    "TeacherConfig",
    "check_teacher",
    "given_stage",
    "left_beside",
    "load_teacher",
    "resolve",
    "setting",
]


def __getattr__(name: str) -> Any:
    """Teachers need torch, so they are imported when asked for."""
    if name in ("check_teacher", "given_stage", "left_beside", "load_teacher"):
        from fewstep.config import teacher

        return getattr(teacher, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
