"""Settings of ``text/didi``."""

from __future__ import annotations

from typing import Literal

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, RatioPolicyConfig
from fewstep.config.times import TimesConfig
from fewstep_text.alphabet import ALPHABET


class DataConfig(Settings):
    """Which text, and how it is cut into tokens."""

    corpus: Literal["python-topics", "bible", "file"] = setting(
        "python-topics",
        "python-topics: the help texts in Python's standard library; bible: King James, from Debian's bible-kjv; "
        "file: your own",
    )
    path: str | None = setting(None, "text file in UTF-8 (corpus file)")
    alphabet: str = setting(ALPHABET, "characters that are kept; all others become spaces", min_length=2)
    vocabulary: int = setting(
        0, "0: one token per character; else size of a byte-pair vocabulary", unit="tokens", ge=0, le=4096
    )


class DidiConfig(RecipeConfig):
    """Few-step English: a masked-diffusion student by policy gradient on a learned density ratio."""

    objective: AnyObjective = setting(
        RatioPolicyConfig(corruption="fresh", times=TimesConfig(low=0.1, high=0.3), smoothing=0.05),
        "how the student learns",
        paper="Zheng et al. 2025",
    )
    data: DataConfig = setting(DataConfig(), "the corpus")
    steps: int = setting(2, "network calls of the student per block", unit="calls", ge=1, le=64)
    block: int = setting(8, "tokens that are written together", unit="tokens", ge=1, le=1024)
    context: int = setting(16, "tokens before a block that the networks read", unit="tokens", ge=0, le=4096)
    teacher_steps: int = setting(
        8, "network calls of the teacher per block at evaluation", unit="calls", ge=1, le=1024
    )
    width: int = setting(64, "channels of every network", unit="channels", ge=8)
    dilations: tuple[int, ...] = setting((1, 1, 2), "one convolution block each", min_length=1)
    teacher_length: int = setting(48, "tokens of the teacher's training windows", unit="tokens", ge=4)
    teacher_updates: int = setting(1500, "updates of the teacher", unit="updates", ge=1)
    teacher_batch: int = setting(64, "windows per update of the teacher", unit="windows", ge=1)
    teacher_rate: float = setting(3e-3, "learning rate of the teacher, falling linearly to 5 %", gt=0)
    updates: int = setting(700, "updates of the student, head start included", unit="updates", ge=1)
    head_start: int = setting(
        250, "updates of the discriminator before the student moves", unit="updates", ge=0
    )
    batch: int = setting(128, "windows per update of the student", unit="windows", ge=2)
    rate: float = setting(3e-4, "learning rate of the student, falling linearly to 10 %", gt=0)
    critic_rate: float = setting(1e-3, "learning rate of the discriminator", gt=0)
    average: float = setting(0.98, "decay of the student's running average", ge=0, lt=1)
    judge_order: int = setting(5, "n of the n-gram judge", ge=1, le=8)
    samples: int = setting(2048, "continuations written for the evaluation", unit="texts", ge=16)


class DidiRequest(Settings):
    """What ``fewstep sample`` may ask for."""

    text: str = setting("", "how the text begins; it is kept")
    length: int = setting(
        128, "tokens of the whole text, its beginning included", unit="tokens", ge=1, le=65536
    )
