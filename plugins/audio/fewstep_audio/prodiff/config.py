"""Settings of the recipe ``audio/prodiff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective
from fewstep_audio.speech.sounding import Sounding

if TYPE_CHECKING:
    from fewstep.processes import Gaussian

PAPER = "Huang et al. 2022, arXiv:2207.06389"


class SpeechConfig(Settings):
    """What is spoken for training and evaluation, and what the networks are told about it."""

    voices: tuple[str, ...] = setting(
        ("en-us+m3", "en-us+f2"), "espeak-ng voices that take turns", min_length=1
    )
    pitches: tuple[int, ...] = setting(
        (50, 70, 90), "base pitches that take turns, 0 to 99: networks learn to follow pitch", min_length=1
    )
    liveliness: int = setting(50, "range of the pitch within a sentence; 0 is monotone", ge=0, le=99)
    sentences: int = setting(80, "training sentences", unit="sentences", ge=1, le=80)
    takes: int = setting(2, "how often each is spoken, in different voices", unit="takes", ge=1, le=100)
    held_out: int = setting(16, "sentences kept for evaluation", unit="sentences", ge=2, le=16)
    loudness: float = setting(
        6.0,
        "training speech is up to this much louder or softer: networks learn to follow energy",
        unit="dB",
        ge=0,
        le=20,
    )
    speakers: Literal["told", "hidden"] = setting(
        "told", "told: the networks know who speaks, and one may choose; hidden: they do not", paper=PAPER
    )

    @property
    def told(self) -> tuple[str, ...]:
        """Voices that the networks are told apart; none if they are hidden."""
        return self.voices if self.speakers == "told" else ()


class NetworkConfig(Settings):
    """Size of the denoiser."""

    channels: int = setting(96, "width of encoder and decoder", unit="channels", ge=8, le=1024)
    dilations: tuple[int, ...] = setting(
        (1, 2, 4, 8, 1), "one gated block each", unit="frames", min_length=1, max_length=40
    )


class CosineConfig(Settings):
    """Signal cos, noise sin, steps of equal angle: ends where noise is nearly gone, so it can sample."""

    kind: Literal["cosine"] = setting(
        "cosine", "noise levels of equal angle", paper="Salimans & Ho 2022 sec. 3"
    )

    def build(self, steps: int) -> Gaussian:
        """The process, for any number of steps."""
        from fewstep.processes import cosine

        return cosine()


class EDMConfig(Settings):
    """Noise added to clean data, dense where little is left."""

    kind: Literal["edm"] = setting("edm", "noise levels of EDM", paper="Karras et al. 2022 eq. 5")
    lowest: float = setting(0.02, "cleanest level; data have 0.5", gt=0)
    highest: float = setting(20.0, "noisiest level", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(
                f"schedule.lowest must be below schedule.highest, got {self.lowest} and {self.highest}"
            )
        return self

    def build(self, steps: int) -> Gaussian:
        """The process, for any number of steps."""
        from fewstep.processes import edm

        return edm(sigma_min=self.lowest, sigma_max=self.highest)


class VPSDEConfig(Settings):
    """The released code's chain: as many levels as steps, the cleanest of which is still noisy where they are few."""

    kind: Literal["vpsde"] = setting("vpsde", "the chain of the released code", paper=PAPER)
    beta_min: float = setting(0.1, "slowest rate of noise", gt=0)
    beta_max: float = setting(40.0, "fastest rate of noise", gt=0)

    def build(self, steps: int) -> Gaussian:
        """The chain of a teacher of that many steps."""
        from fewstep_audio.prodiff.process import vpsde

        return vpsde(steps, self.beta_min, self.beta_max)


def _kind(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


AnySchedule: TypeAlias = Annotated[
    CosineConfig | EDMConfig | VPSDEConfig, Field(discriminator="kind"), BeforeValidator(_kind)
]


class LossConfig(Settings):
    """How the teacher's clean prediction is compared with the truth: a weighted sum."""

    l2: float = setting(
        1.0, "weight of the squared difference; its optimum is the mean, so a sampler is exact", ge=0
    )
    l1: float = setting(0.0, "weight of the absolute difference; the paper takes 0.5", ge=0, paper=PAPER)
    ssim: float = setting(0.0, "weight of 1 - SSIM; the paper takes 0.5", ge=0, paper=PAPER)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.l1 or self.l2 or self.ssim):
            raise ValueError("all weights of the teacher's loss are 0; give one of l1, l2 and ssim")
        return self


class ProDiffConfig(Sounding, RecipeConfig):
    """Two-step speech by progressive distillation."""

    speech: SpeechConfig = setting(SpeechConfig(), "the corpus")
    network: NetworkConfig = setting(NetworkConfig(), "size of the denoiser")
    schedule: AnySchedule = setting(CosineConfig(), "levels of noise: cosine, edm or vpsde")
    loss: LossConfig = setting(LossConfig(), "of the teacher's prediction")
    batch: int = setting(8, "crops per update", unit="crops", ge=1)
    crop: int = setting(64, "length of a crop; SSIM needs 11", unit="frames of 11.6 ms", ge=11)
    teacher_updates: int = setting(900, "updates of the teacher", unit="updates", ge=1)
    teacher_lr: float = setting(2.5e-3, "AdamW's learning rate for the teacher, durations and prosody", gt=0)
    teacher_steps: int = setting(16, "network calls of the teacher", unit="calls", ge=2, le=1024)
    objective: AnyObjective = setting("progressive", "how the student learns from the teacher", paper=PAPER)
    steps: int = setting(2, "network calls of the student", unit="calls", ge=1, le=100)
    updates: int = setting(150, "updates of each round", unit="updates", ge=1)
    lr: float = setting(1e-3, "AdamW's learning rate for the student and a fake, if any", gt=0)
    average: float = setting(0.99, "decay of the averages that are kept", ge=0, lt=1)

    @model_validator(mode="after")
    def _rounds(self) -> Self:
        halvings = getattr(self.objective, "halvings", None)
        if halvings is not None and self.steps * 2**halvings != self.teacher_steps:
            raise ValueError(
                f"{halvings} rounds of halving lead from {self.steps * 2**halvings} calls to steps = {self.steps}, but "
                f"teacher_steps = {self.teacher_steps}; make teacher_steps = steps * 2^objective.halvings"
            )
        return self
