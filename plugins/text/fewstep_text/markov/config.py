"""Settings of ``text/markov``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fewstep.config import RecipeConfig, Settings, setting
from fewstep.config.objectives import AnyObjective, RatioPolicyConfig

STATES = 100_000
"""Most states whose law is computed: a second or so per contender."""


class MarkovConfig(RecipeConfig):
    """Few-step sequences of a Markov chain: every law of this recipe is computed, not estimated."""

    objective: AnyObjective = setting(
        RatioPolicyConfig(corruption="coupled"),
        "how the student learns",
        paper="Zheng et al. 2025",
    )
    vocabulary: int = setting(4, "letters of the chain", unit="tokens", ge=2, le=8)
    length: int = setting(6, "letters of a sequence", unit="tokens", ge=2, le=8)
    concentration: float = setting(
        0.3, "of the Dirichlet law that the rows of the transition are drawn from", gt=0
    )
    chain: int = setting(0, "seed of that draw: which chain", ge=0)
    steps: int = setting(2, "network calls of the student", unit="calls", ge=1, le=64)
    teacher_steps: int = setting(16, "network calls of the teacher at evaluation", unit="calls", ge=1, le=256)
    width: int = setting(128, "hidden channels of every network", unit="channels", ge=8)
    teacher_updates: int = setting(800, "updates of the teacher", unit="updates", ge=1)
    teacher_rate: float = setting(3e-3, "learning rate of the teacher, falling linearly to 2 %", gt=0)
    updates: int = setting(3000, "updates of the student, head start included", unit="updates", ge=1)
    head_start: int = setting(
        100, "updates of the discriminator before the student moves", unit="updates", ge=0
    )
    rate: float = setting(1e-3, "learning rate of the student, falling linearly to 5 %", gt=0)
    critic_rate: float = setting(3e-3, "learning rate of the discriminator", gt=0)
    batch: int = setting(256, "sequences per update", unit="sequences", ge=2)
    average: float = setting(0.99, "decay of the student's running average", ge=0, lt=1)

    @model_validator(mode="after")
    def _countable(self) -> Self:
        states = (self.vocabulary + 1) ** self.length
        if states > STATES:
            raise ValueError(
                f"{self.vocabulary} letters in {self.length} places have {states} partly hidden states; at most "
                f"{STATES} can be computed exactly. Lower vocabulary or length."
            )
        return self


class MarkovRequest(Settings):
    """What ``fewstep sample`` may ask for."""

    text: str = setting("", "how every sequence begins; letters of the chain: a, b, c, ...")
