"""Settings of the recipe ``audio/pipeline``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, setting
from fewstep.config.objectives import AnyObjective


class PipelineConfig(RecipeConfig):
    """A pipeline of diffusers in few steps. Its folder is ``-s teacher.kind=diffusers -s teacher.path=FOLDER``."""

    pipeline: Literal["StableAudioPipeline", "AudioLDM2Pipeline", "MusicLDMPipeline", "AceStepPipeline"] = (
        setting(
            "StableAudioPipeline",
            "where no folder is given: class of a tiny pipeline that is made on the spot with random weights, saved, loaded "
            "back, and taught tones",
        )
    )
    prompts: str | None = setting(None, "text file, one prompt a line; none = four about tones")
    recordings: str | None = setting(
        None,
        "folder of recordings, each perhaps with a text file beside it; none = the teacher's own samples are learned "
        "from, no sound is needed",
    )
    seconds: float = setting(1.0, "length of what is learned", unit="s", gt=0, le=600)
    guidance: float = setting(
        3.0, "scale g in u + g (c - u) at which teacher and student are compared", ge=1, le=20
    )
    batch: int = setting(16, "latents per update", unit="latents", ge=1)
    tones: int = setting(256, "tones that a tiny pipeline is taught", unit="tones", ge=16)
    teacher_updates: int = setting(600, "updates of a tiny pipeline's network", unit="updates", ge=1)
    teacher_lr: float = setting(2e-3, "AdamW's learning rate for it", gt=0)
    teacher_steps: int = setting(
        40, "steps of the teacher as it is compared and imitated", unit="steps", ge=2, le=1000
    )
    pairs: int = setting(
        32, "batches of teacher's samples where there are no recordings", unit="batches", ge=1
    )
    objective: AnyObjective = setting(
        {"kind": "lcm", "guidance": 1.0, "guidance_to": 5.0, "steps": 20, "skip": 1},
        "how the student learns from the teacher; a range of guidance (guidance, guidance_to) becomes an input of its "
        "network, else it learns the one scale `guidance` above",
        paper="Luo et al. 2023, arXiv:2310.04378; Bai et al. 2024 (ConsistencyTTA), arXiv:2309.10740",
    )
    steps: int = setting(1, "network calls of the student", unit="calls", ge=1, le=50)
    updates: int = setting(800, "updates of the student", unit="updates", ge=1)
    lr: float = setting(3e-3, "AdamW's learning rate for the student and a fake, if any", gt=0)
    target_decay: float = setting(0.95, "decay of the average that sets targets", ge=0, lt=1)
    average: float = setting(0.99, "decay of the averages that are kept", ge=0, lt=1)
    held_out: int = setting(32, "samples in the evaluation", unit="samples", ge=4)

    @model_validator(mode="after")
    def _told_inside(self) -> Self:
        low, high = self.scales
        if low is not None and high is not None and not low <= self.guidance <= high:
            raise ValueError(
                f"guidance {self.guidance:g} is outside of what the student is told, {low:g} to {high:g}"
            )
        return self

    @property
    def scales(self) -> tuple[float | None, float | None]:
        """The range of guidance that the student's network is told, or (None, None)."""
        high = getattr(self.objective, "guidance_to", None)
        return (None, None) if high is None else (self.objective.guidance, high)  # type: ignore[union-attr]
