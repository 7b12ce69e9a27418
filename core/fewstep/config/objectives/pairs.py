"""Settings of pairs, progressive and guidance distillation. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.base import DistanceName, Guidable, WeightName, distance_named, weight_named
from fewstep.config.objectives.rounds import Round
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class ODEPairsConfig(Guidable):
    """The student repeats what the teacher's ODE makes of the same noise; pairs are solved as they are needed."""

    kind: Literal["ode-pairs"] = setting(
        "ode-pairs",
        "what the teacher's ODE makes of a noise, the student makes of it",
        paper="Luhman & Luhman 2021 eq. 6",
    )
    solver: Literal["heun", "euler", "ddim"] = setting("heun", "how the teacher's ODE is solved")
    steps: int = setting(
        18, "intervals of the teacher's time grid", unit="intervals", ge=1, paper="Karras et al. 2022 table 1"
    )
    distance: DistanceName = setting("l2", "distance of answer and target")
    penalties: dict[str, float] = setting({}, "weights of the student's own penalties, by name")
    perceptual: dict[str, float] = setting(
        {},
        "weights of what the recipe's frozen decoder sees in answer and target, by group of its activations",
    )

    def ode(self) -> Any:
        """How pairs are made."""
        from fewstep import samplers
        from fewstep.objectives import ODE

        return ODE(getattr(samplers, self.solver), self.steps, self.scale())

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective, with pairs made online; ``fixed`` may say ``online=None`` where a stage has recorded them."""
        from fewstep.objectives import Pairs

        settings = {
            "online": self.ode(),
            "distance": distance_named(self.distance),
            "penalties": dict(self.penalties),
            "perceptual": dict(self.perceptual),
        }
        made: Objective = Pairs(**{**settings, **fixed})
        return made


class Matched(Guidable):
    """Two estimates of the clean state, compared."""

    weight: WeightName = setting(
        "truncated-snr", "weight of the loss in x0 units", paper="Salimans & Ho 2022 sec. 4"
    )
    distance: DistanceName = setting("l2", "distance of the two estimates")


class ProgressiveConfig(Matched):
    """Two steps of the teacher in one, again and again."""

    kind: Literal["progressive"] = setting(
        "progressive", "two steps of the teacher in one, round by round", paper="Salimans & Ho 2022 alg. 2"
    )
    halvings: int = setting(
        3, "rounds; the first teacher takes 2^halvings steps for one of the last student", ge=1, le=12
    )
    states: Literal["data", "noise"] = setting(
        "data", "data: states are noised data; noise: the teacher's own steps from pure noise, without data"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """One round, for a student that knows its times or is given them (``times=``)."""
        from fewstep.objectives import Progressive

        settings = {
            "guidance": self.scale(),
            "weight": weight_named(self.weight, process),
            "distance": distance_named(self.distance),
            "states": self.states,
        }
        made: Objective = Progressive(**{**settings, **fixed})
        return made

    def rounds(self, process: Process, times: Sequence[float], **fixed: Any) -> tuple[Round, ...]:
        """Rounds whose students take ..., 4, 2 times the steps of the last, and then its own."""
        from fewstep.objectives import halved

        schedules = [tuple(times)]
        for _ in range(self.halvings - 1):
            schedules.insert(0, halved(process, schedules[0]))
        names = [*(f"student-{len(each)}" for each in schedules[:-1]), "student"]
        return tuple(
            Round(name, self.build(process, **{**fixed, "times": each}), each, before)
            for name, each, before in zip(names, schedules, [None, *names], strict=False)
        )


class GuidanceConfig(Matched):
    """One network for every guidance scale."""

    kind: Literal["guidance"] = setting(
        "guidance",
        "the guidance scale as an input: one call where the teacher needs two",
        paper="Meng et al. 2023 eq. 5",
    )
    times: TimesConfig = setting(TimesConfig(), "law of the corruption times")
    guidance: float = setting(1.0, "lowest scale g in u + g (c - u)", ge=0, le=100)
    guidance_to: float | None = setting(
        5.0, "highest scale; none = only `guidance`", ge=0, le=100, paper="Meng et al. 2023: w in [0, 4]"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import GuidanceDistillation

        settings = {
            "times": self.times.build(process),
            "scale": self.scale(),
            "weight": weight_named(self.weight, process),
            "distance": distance_named(self.distance),
        }
        made: Objective = GuidanceDistillation(**{**settings, **fixed})
        return made
