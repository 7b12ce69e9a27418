"""Settings of the recipe ``audio/ditto2``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, ConsistencyConfig

PAPER = "Novack et al. 2024, arXiv:2405.20289"


class MusicConfig(Settings):
    """What is played for training and evaluation. Key, instrument and dynamics are hidden from the networks."""

    composer: str = setting("bach", "whose four-part scores of music21's collection are played", min_length=1)
    folder: str = setting("", "a folder of MIDI and MusicXML files to play instead; empty = none")
    skip_bad: bool = setting(False, "go on without files that cannot be read, instead of refusing the folder")
    tunes: int = setting(48, "scores to train on", unit="scores", ge=1)
    held_out: int = setting(16, "scores kept for evaluation", unit="scores", ge=1)
    seconds: float = setting(16.0, "how much of each score is played", unit="seconds", gt=1)
    quarter: float = setting(0.6, "length of a quarter note", unit="seconds", gt=0)
    programs: tuple[int, ...] = setting(
        (4,), "General MIDI instruments that take turns: 4 = electric piano, 73 = flute", min_length=1
    )
    transpositions: tuple[int, ...] = setting((0, -2, 3), "semitones that take turns", min_length=1)
    takes: int = setting(1, "how often each score is played, in other instruments and keys", ge=1, le=100)
    player: Literal["auto", "fluidsynth", "tinysoundfont"] = setting("auto", "who plays the scores")

    @model_validator(mode="after")
    def _playable(self) -> Self:
        strange = [program for program in self.programs if not 0 <= program <= 127]
        if strange:
            raise ValueError(f"music.programs are 0 to 127, got {', '.join(map(str, strange))}")
        return self


class NetworkConfig(Settings):
    """Size of the denoiser."""

    channels: int = setting(128, "width", unit="channels", ge=8, le=1024)
    dilations: tuple[int, ...] = setting(
        (1, 2, 4, 8, 16, 2), "one gated block each", unit="frames", min_length=1, max_length=40
    )


class NoiseConfig(Settings):
    """Levels of noise; clean mels have standard deviation 0.5 in every band."""

    lowest: float = setting(0.02, "cleanest level", gt=0)
    highest: float = setting(
        80.0, "noisiest level: more than the loudness of a whole crop varies, 52 along that direction", gt=0
    )
    mean: float = setting(0.2, "of ln sigma in teacher training", paper="Karras et al. 2022 table 1")
    std: float = setting(1.7, "of ln sigma in teacher training", gt=0, paper="Karras et al. 2022 table 1")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(
                f"noise.lowest must be below noise.highest, got {self.lowest} and {self.highest}"
            )
        return self


class SearchConfig(Settings):
    """How noise is optimised in the comparison; the command has options of its own."""

    iterations: int = setting(50, "steps of Adam at most", unit="steps", ge=1, paper=PAPER)
    lr: float = setting(0.05, "Adam's rate, in units of standard normal noise", gt=0)
    patience: int = setting(10, "steps without a better loss after which it stops", unit="steps", ge=1)
    prior: float = setting(10.0, "weight of (|z|^2 / D - 1)^2, which keeps the noise where noise lives", ge=0)
    decode_steps: int = setting(
        1, "deterministic steps of the decoder; one is the map that was optimised", unit="calls", ge=1, le=100
    )


class Ditto2Config(RecipeConfig):
    """Music that does what is asked, by optimising the noise of a one-step student."""

    music: MusicConfig = setting(MusicConfig(), "the corpus")
    network: NetworkConfig = setting(NetworkConfig(), "size of the denoiser")
    noise: NoiseConfig = setting(NoiseConfig(), "levels of noise")
    search: SearchConfig = setting(SearchConfig(), "how noise is optimised")
    batch: int = setting(6, "crops per update", unit="crops", ge=1)
    crop: int = setting(64, "length of a crop", unit="frames of 23 ms", ge=8)
    shown: int = setting(96, "length of the samples that are compared", unit="frames of 23 ms", ge=16)
    samples: int = setting(9, "samples in the comparison; controls take turns", unit="samples", ge=3)
    teacher_updates: int = setting(900, "updates of the teacher", unit="updates", ge=1)
    teacher_lr: float = setting(2e-3, "AdamW's learning rate for the teacher", gt=0)
    teacher_steps: int = setting(
        16, "Heun steps of the teacher as it is compared", unit="steps", ge=1, le=1000
    )
    objective: AnyObjective = setting(
        ConsistencyConfig(),
        "how the student learns from the teacher",
        paper=PAPER,
    )
    steps: int = setting(1, "network calls of the student", unit="calls", ge=1, le=100)
    updates: int = setting(400, "updates of the student", unit="updates", ge=1)
    lr: float = setting(1e-3, "AdamW's learning rate for the student and a fake, if any", gt=0)
    target_decay: float = setting(0.95, "decay of the average that sets the student's targets", ge=0, lt=1)
    average: float = setting(0.99, "decay of the averages that are kept", ge=0, lt=1)

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if max(self.crop, self.shown) * 512 / 22050 > self.music.seconds - 0.1:
            raise ValueError("crop and shown must be shorter than music.seconds (43 frames a second)")
        return self
