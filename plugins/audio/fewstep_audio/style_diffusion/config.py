"""Settings of the recipe ``audio/style-diffusion``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, ODEPairsConfig

PAPER = "Li et al. 2024 StyleTTS-ZS, arXiv:2409.10058"

VOICES = tuple(
    f"en-us+{name}"
    for name in (
        *("f1", "f3", "f5", "Alex", "m4", "m7", "m8", "Andy", "Jacky", "Lee", "Marco", "Reed"),
        *("belinda", "boris", "benjamin", "Hugo", "ed", "paul", "sandro", "anika", "victor", "grandma"),
        *("travis", "edward"),
    )
)
UNHEARD = tuple(
    f"en-us+{name}" for name in ("f4", "m3", "adam", "antonio", "aunty", "Denis", "Annie", "michel")
)


class SpeechConfig(Settings):
    """What is spoken. Rate, pitch and its range are drawn for every utterance and told to nobody."""

    voices: tuple[str, ...] = setting(VOICES, "espeak-ng voices of the training", min_length=2)
    unheard: tuple[str, ...] = setting(
        UNHEARD, "voices that only evaluation hears; one for each of its sentences", min_length=2
    )
    pitch: tuple[int, int] = setting((35, 75), "lowest and highest base pitch, 0 to 99")
    liveliness: tuple[int, int] = setting((0, 80), "smallest and largest range of the pitch, 0 to 99")
    rate: tuple[int, int] = setting((130, 230), "slowest and fastest speech", unit="words per minute")
    sentences: int = setting(80, "training sentences", unit="sentences", ge=1, le=80)
    takes: int = setting(6, "how often each is spoken, every time otherwise", unit="takes", ge=2, le=1000)
    held_out: int = setting(8, "sentences kept for evaluation", unit="sentences", ge=2, le=16)
    draws: int = setting(12, "how often each of them is spoken and drawn", unit="draws", ge=3, le=1000)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        told = [f"{name} is {pair}" for name, pair in self._ranges() if not 0 <= pair[0] < pair[1] <= 450]
        shared = sorted(set(self.voices) & set(self.unheard))
        told += [f"{', '.join(shared)} stands in voices and in unheard"] if shared else []
        if told:
            raise ValueError("; ".join(told) + "; a range rises, and an unheard voice is not trained on")
        return self

    def _ranges(self) -> tuple[tuple[str, tuple[int, int]], ...]:
        return ("pitch", self.pitch), ("liveliness", self.liveliness), ("rate", self.rate)


class CodeConfig(Settings):
    """The code: what diffusion samples."""

    tokens: int = setting(8, "K, places of the prosody; one token more holds the voice", ge=1, le=64)
    size: int = setting(16, "numbers in a token", ge=2, le=512)
    blur: float = setting(
        0.1, "noise on codes while their decoder learns, so that near codes sound alike", ge=0, le=1
    )
    quantise: bool = setting(
        False, "whether codes snap to a learned book of 256 vectors before they are decoded", paper=PAPER
    )


class NetworkConfig(Settings):
    """Widths."""

    channels: int = setting(64, "of text encoder, prosody networks and denoiser", ge=8, le=1024)
    blocks: int = setting(3, "transformer blocks of the denoiser", ge=1, le=24)
    heads: int = setting(4, "of attention", ge=1, le=16)
    acoustic: int = setting(80, "channels of the acoustic decoder", ge=8, le=1024)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"{self.heads} heads cannot share {self.channels} channels; give a divisor")
        return self


class StyleDiffusionConfig(RecipeConfig):
    """Text and a prompt to speech: a style code in one call, decoded by frozen networks."""

    speech: SpeechConfig = setting(SpeechConfig(), "the corpus")
    codes: CodeConfig = setting(CodeConfig(), "what is sampled")
    network: NetworkConfig = setting(NetworkConfig(), "sizes")
    decoder_updates: int = setting(500, "updates of autoencoder and acoustic decoder", unit="updates", ge=1)
    decoder_batch: int = setting(24, "utterances per update of them", unit="utterances", ge=2)
    decoder_lr: float = setting(2e-3, "AdamW's learning rate for them", gt=0)
    teacher_updates: int = setting(800, "updates of the teacher", unit="updates", ge=1)
    teacher_batch: int = setting(128, "codes per update of the teacher", unit="codes", ge=1)
    teacher_lr: float = setting(2e-3, "AdamW's learning rate for the teacher", gt=0)
    teacher_steps: int = setting(
        32, "DDIM steps of the teacher as it is compared", unit="steps", ge=1, le=1000
    )
    drop: float = setting(
        0.15, "share of training codes whose prompt is hidden, for guidance", ge=0, le=1, paper=PAPER
    )
    guidance: float = setting(
        1.0, "scale g in u + g (c - u) at which contenders are compared, 0 = no prompt", ge=0, le=20
    )
    pairs: int = setting(
        3072, "noises and their ends that the teacher makes for ode-pairs", unit="pairs", ge=1, paper=PAPER
    )
    objective: AnyObjective = setting(
        ODEPairsConfig(
            solver="ddim",
            steps=32,
            guidance=0.0,
            guidance_to=2.0,
            distance="l1",
            perceptual={"prosody": 1.0, "mel": 0.5},
        ),
        "how the student learns from the teacher",
        paper=PAPER,
    )
    steps: int = setting(1, "network calls of the student", unit="calls", ge=1, le=100)
    updates: int = setting(450, "updates of the student", unit="updates", ge=1)
    batch: int = setting(64, "codes per update of the student", unit="codes", ge=1)
    lr: float = setting(2e-3, "AdamW's learning rate for the student and a fake, if any", gt=0)
    average: float = setting(0.99, "decay of the averages that are kept", ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pairs < self.batch:
            raise ValueError(f"{self.pairs} pairs do not fill a batch of {self.batch}")
        return self
