"""Settings of the recipe ``audio/comosvc``."""

from __future__ import annotations

from typing import Literal

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective
from fewstep_audio.settings import COMOSPEECH, NetworkConfig, NoiseConfig
from fewstep_audio.speech.sounding import Sounding


class SongConfig(Settings):
    """What is sung for training and evaluation. Vibrato, tuning, glides and vocal tract are hidden from the networks."""

    voices: tuple[str, ...] = setting(
        ("en-us+m3", "en-us+f2"), "espeak-ng voices that take turns", min_length=1
    )
    speakers: Literal["hidden", "told"] = setting(
        "hidden",
        "hidden: every sample finds a voice of its own; told: the networks are told who sings, and one may choose",
    )
    sentences: int = setting(80, "training sentences", unit="sentences", ge=1, le=80)
    takes: int = setting(2, "how often each is sung, every time to another tune", unit="takes", ge=1, le=100)
    held_out: int = setting(8, "songs kept for evaluation: new words, new tunes", unit="songs", ge=2, le=16)

    @property
    def told(self) -> tuple[str, ...]:
        """Voices that the networks are told apart; none if they are hidden."""
        return self.voices if self.speakers == "told" else ()


class CoMoSVCConfig(Sounding, RecipeConfig):
    """One-step singing by consistency distillation."""

    songs: SongConfig = setting(SongConfig(), "the corpus")
    network: NetworkConfig = setting(NetworkConfig(channels=96), "size of the denoiser")
    noise: NoiseConfig = setting(NoiseConfig(), "levels of noise")
    batch: int = setting(8, "crops per update", unit="crops", ge=1)
    crop: int = setting(64, "length of a crop", unit="frames of 11.6 ms", ge=8)
    teacher_updates: int = setting(900, "updates of the teacher", unit="updates", ge=1)
    teacher_lr: float = setting(2.5e-3, "AdamW's learning rate for teacher and durations", gt=0)
    teacher_steps: int = setting(
        18, "Heun steps of the teacher as it is compared", unit="steps", ge=1, le=1000
    )
    objective: AnyObjective = setting(
        "consistency", "how the student learns from the teacher", paper=COMOSPEECH
    )
    steps: int = setting(1, "network calls of the student", unit="calls", ge=1, le=100)
    updates: int = setting(500, "updates of the student", unit="updates", ge=1)
    lr: float = setting(1e-3, "AdamW's learning rate for the student and a fake, if any", gt=0)
    lr_left: float = setting(0.1, "share of each learning rate that is left at the end", ge=0, le=1)
    target_decay: float = setting(
        0.9,
        "decay of the average that sets the student's targets; the paper's 0.95 is too slow for few updates",
        ge=0,
        lt=1,
        paper=COMOSPEECH,
    )
    average: float = setting(0.99, "decay of the averages that are kept", ge=0, lt=1)
