"""The base that every recipe's configuration extends, and where its teacher comes from.

Write a field so that ``fewstep show`` can explain it::

    steps: int = setting(400, "updates of the student", unit="updates", ge=1)
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names. Every configuration class derives from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def setting(default: Any, description: str, *, unit: str = "", paper: str = "", **bounds: Any) -> Any:
    """A documented field.

    Args:
        default: its value when nothing is said; ``...`` if it must be given.
        description: one line.
        unit: as shown, "" if it has none.
        paper: citation and equation, "" if it has none.
        **bounds: pydantic's own: ge, gt, le, lt, min_length, ...
    """
    extra: dict[str, Any] = {name: text for name, text in (("unit", unit), ("paper", paper)) if text}
    return Field(default, description=description, json_schema_extra=extra or None, **bounds)


class TeacherConfig(Settings):
    """Where the teacher comes from. ``-s teacher=train`` is short for ``-s teacher.kind=train``."""

    kind: Literal["train", "checkpoint", "diffusers", "import"] = setting(
        "train",
        "train: the recipe's first stage makes a small one; checkpoint: weights from a file or an earlier "
        "run; diffusers: a local pipeline folder; import: your own code",
    )
    path: str | None = setting(
        None, "run folder, .safetensors or .pt file (checkpoint), or pipeline folder (diffusers)"
    )
    target: str | None = setting(None, "what to call, as 'module:callable' (import)")
    subfolder: str = setting("", "part of a pipeline folder, such as 'unet' (diffusers)")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind in ("checkpoint", "diffusers") and not self.path:
            raise ValueError(f"kind {self.kind!r} needs teacher.path, the file or folder with its weights")
        if self.kind == "import" and (not self.target or ":" not in self.target):
            raise ValueError("kind 'import' needs teacher.target as 'module:callable'")
        if self.kind in ("train", "import") and self.path:
            raise ValueError(
                f"teacher.path means nothing for kind {self.kind!r}; did you want kind 'checkpoint'?"
            )
        if self.kind != "import" and self.target:
            raise ValueError(
                f"teacher.target means nothing for kind {self.kind!r}; did you want kind 'import'?"
            )
        return self


class RecipeConfig(Settings):
    """What every recipe has. A recipe's own class adds its fields."""

    seed: int = setting(0, "root of all randomness of the run", ge=0, lt=2**31)
    teacher: TeacherConfig = setting(TeacherConfig(), "where the teacher comes from")
