"""Settings of the recipe ``audio/comospeech``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective
from fewstep_audio.settings import COMOSPEECH, NetworkConfig, NoiseConfig
from fewstep_audio.speech.sounding import Sounding

PARTIAL = ("pso", "ratio-policy", "scott", "tdm")
"""Objectives that draw a part of the noise anew, or ask how probable it was: both know noise of mean zero only."""


class SpeechConfig(Settings):
    """What is spoken for training and evaluation. Pitch is hidden from the networks, and the voice unless it is told."""

    voices: tuple[str, ...] = setting(
        ("en-us+m3", "en-us+f2"),
        "voices that take turns: espeak-ng's, or flite's as flite:slt; with a folder, its speakers",
        min_length=1,
    )
    folder: str = setting(
        "",
        "recordings with their texts instead: metadata.csv and wavs/ as in LJSpeech, or name.wav beside name.txt",
    )
    pitches: tuple[int, ...] = setting((40, 60), "base pitches that take turns, 0 to 99", min_length=1)
    liveliness: int = setting(
        0,
        "range of the pitch: 0 is monotone, which a small network learns in minutes; 50 is lively",
        ge=0,
        le=99,
    )
    speakers: Literal["hidden", "told"] = setting(
        "hidden",
        "hidden: every sample finds a voice of its own; told: the networks are told who speaks, and one may choose",
    )
    sentences: int = setting(80, "training sentences", unit="sentences", ge=1, le=80)
    takes: int = setting(2, "how often each is spoken, in different voices", unit="takes", ge=1, le=100)
    held_out: int = setting(16, "sentences kept for evaluation", unit="sentences", ge=2, le=16)

    @property
    def told(self) -> tuple[str, ...]:
        """Voices that the networks are told apart; none if they are hidden."""
        return self.voices if self.speakers == "told" else ()

    @model_validator(mode="after")
    def _varied(self) -> Self:
        hidden = len(self.pitches) * (1 if self.told else len(self.voices))
        if hidden < 2 and not self.folder:  # a recorded voice never says the same thing twice
            raise ValueError(
                "nothing is hidden from the networks: rule-made speech is then a function of its phones, the mean over "
                "it is sharp, and no distillation can be told from none; give two pitches"
                + ("" if self.told else ", or two hidden voices")
            )
        return self


class PriorConfig(NoiseConfig):
    """Levels of noise, and its mean."""

    prior: Literal["zero", "mu"] = setting(
        "zero",
        "mean of the noise: zero, or the mel that the encoder expects",
        paper="Popov et al. 2021 Grad-TTS sec. 3.1",
    )


class CoMoSpeechConfig(Sounding, RecipeConfig):
    """One-step speech by consistency distillation."""

    speech: SpeechConfig = setting(SpeechConfig(), "the corpus")
    network: NetworkConfig = setting(NetworkConfig(), "size of the denoiser")
    noise: PriorConfig = setting(PriorConfig(), "levels of noise, and its mean")
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

    @model_validator(mode="after")
    def _whole_noise(self) -> Self:
        if self.noise.prior == "mu" and self.objective.kind in PARTIAL:
            raise ValueError(
                f"objective={self.objective.kind} draws parts of the noise anew, but noise around mu is drawn as a whole; "
                f"take noise.prior=zero, or another objective than {', '.join(PARTIAL)}"
            )
        return self
