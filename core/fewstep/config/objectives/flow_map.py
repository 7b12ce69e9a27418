"""Settings of discrete consistency and flow maps. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fewstep.config.model import setting
from fewstep.config.objectives.base import DistanceName, Guidable, distance_named
from fewstep.config.times import TimesConfig

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process

SolverName: TypeAlias = Literal["euler", "heun", "ddim"]
TargetName: TypeAlias = Literal["average", "self"]


class Paired(Guidable):
    """What all flow maps on pairs of times share."""

    distance: DistanceName = setting("l2", "distance of the two places")
    huber_c: float = setting(
        5.4e-4, "bend of the pseudo-Huber distance", gt=0, paper="Song & Dhariwal 2024 eq. 7"
    )
    target: TargetName = setting("average", "whose map is the target")

    def common(self) -> dict[str, Any]:
        """Keyword arguments of :class:`fewstep.objectives.Consistency` that they share."""
        return {
            "distance": distance_named(self.distance, self.huber_c),
            "guidance": self.scale(),
            "target": "target" if self.target == "average" else None,
        }


class Accompanied(Paired):
    """Flow maps that may have an adversarial term beside them."""

    adversarial: float = setting(
        0.0, "weight of an adversarial term on the student's samples; 0 = none", ge=0
    )
    adversarial_times: TimesConfig = setting(
        TimesConfig(low=0.02, high=0.98), "law of the times at which the discriminator judges"
    )

    def mixed(self, process: Process, **terms: tuple[float, Objective]) -> Objective:
        """The terms and the adversarial one, or a lone term as it is."""
        from fewstep.protocol import Mix

        if self.adversarial > 0:
            from fewstep.objectives import Adversarial

            judged = Adversarial(self.adversarial_times.build(process))
            terms = {**terms, "adversarial": (self.adversarial, judged)}
        if len(terms) > 1:
            return Mix(terms)
        return next(term for _, term in terms.values())


class ConsistencyConfig(Paired):
    """Neighbors on one trajectory are sent to the same place."""

    kind: Literal["consistency"] = setting(
        "consistency",
        "neighbors on one trajectory go to the same place",
        paper="Song et al. 2023 algorithms 2 and 3",
    )
    steps: int = setting(
        18, "intervals of the time grid", unit="intervals", ge=1, paper="Song et al. 2023 table 3"
    )
    skip: int = setting(
        1, "intervals between the two points of a pair", unit="intervals", ge=1, paper="Luo et al. 2023"
    )
    solver: SolverName = setting("heun", "one step of the teacher", paper="Song et al. 2023")
    weight: Literal["one", "inverse-gap"] = setting("one", "weight of a pair", paper="Geng et al. 2024")
    teacher: bool = setting(True, "false = consistency training on data alone")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, GridPairs, pair_solvers

        settings = {
            **self.common(),
            "pairs": GridPairs(self.steps, self.skip),
            "solver": getattr(pair_solvers, self.solver),
            "weight": _weight(self.weight),
            "teacher": "teacher" if self.teacher else None,
        }
        made: Objective = Consistency(**{**settings, **fixed})
        return made


class LCMConfig(Paired):
    """Latent consistency: big DDIM steps of a guided teacher."""

    kind: Literal["lcm"] = setting(
        "lcm", "consistency over big DDIM steps of a guided teacher", paper="Luo et al. 2023 algorithm 1"
    )
    steps: int = setting(
        1000, "intervals of the time grid", unit="intervals", ge=1, paper="Luo et al. 2023 sec. 5.1"
    )
    skip: int = setting(
        20,
        "intervals that a pair spans: the teacher's step",
        unit="intervals",
        ge=1,
        paper="Luo et al. 2023 sec. 4.3",
    )
    distance: DistanceName = setting("pseudo-huber", "distance of the two places")
    huber_c: float = setting(1e-3, "bend of the pseudo-Huber distance", gt=0, paper="the authors' code")
    guidance: float | None = setting(
        None,
        "teacher's guidance scale g in u + g (c - u); the paper draws g in [3, 15] (w in [2, 14], g = 1 + w)",
        ge=0,
        le=100,
        paper="Luo et al. 2023 eq. 14",
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, GridPairs, ddim

        # A chain has whole times only, and so an interval less than it has of them.
        most = int(process.t_max - process.t_min) if getattr(process, "whole", False) else self.steps
        pairs = GridPairs(min(self.steps, most), self.skip)
        settings = {**self.common(), "pairs": pairs, "solver": ddim}
        made: Objective = Consistency(**{**settings, **fixed})
        return made


class ECTConfig(Paired):
    """Easy consistency tuning: the gap between the two times closes in stages."""

    kind: Literal["ect"] = setting(
        "ect", "consistency tuning: the gap of a pair closes in stages", paper="Geng et al. 2024 sec. 3.2"
    )
    times: TimesConfig = setting(
        TimesConfig(kind="lognormal", mean=-1.1, std=2.0),
        "law of the noisier time",
        paper="Geng et al. 2024: P_mean, P_std",
    )
    stages: int = setting(
        10, "how often the gap halves, each for an equal share of the run", unit="stages", ge=1, le=10
    )
    boost: float = setting(
        8.0, "k of the gap t (1 - ratio) (1 + k sigmoid(-t))", ge=0, paper="Geng et al. 2024 sec. 3.2"
    )
    weight: Literal["one", "inverse-gap"] = setting(
        "inverse-gap", "weight of a pair", paper="Geng et al. 2024"
    )
    solver: SolverName = setting("euler", "one step of the teacher, if there is one")
    teacher: bool = setting(
        False, "true = the teacher leads from t to s; false = it gives its weights, and data do the rest"
    )
    target: TargetName = setting("self", "whose map is the target", paper="Geng et al. 2024")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, RatioPairs, Staircase, pair_solvers

        ratios = Staircase(tuple(min(1 - 0.5 ** (stage + 1), 0.999) for stage in range(self.stages)))
        settings = {
            **self.common(),
            "pairs": RatioPairs(self.times.build(process), ratios, self.boost),
            "solver": getattr(pair_solvers, self.solver),
            "weight": _weight(self.weight),
            "teacher": "teacher" if self.teacher else None,
            "origin": "teacher",
        }
        made: Objective = Consistency(**{**settings, **fixed})
        return made


class CTMConfig(Accompanied):
    """Consistency trajectory models: maps from any time to any earlier one. The network must accept ``to``."""

    kind: Literal["ctm"] = setting(
        "ctm", "maps from any time to any cleaner one", paper="Kim et al. 2024 eq. 10"
    )
    steps: int = setting(18, "intervals of the time grid", unit="intervals", ge=2, paper="Kim et al. 2024")
    reach: int = setting(
        3,
        "intervals that the teacher crosses at most; the paper takes 17",
        unit="intervals",
        ge=1,
        paper="Kim et al. 2024 sec. 3.2",
    )
    solver: SolverName = setting("heun", "each step of the teacher", paper="Kim et al. 2024")
    compare: Literal["landing", "clean"] = setting(
        "clean", "where the two maps are compared", paper="Kim et al. 2024 eq. 8"
    )
    denoising: float = setting(
        1.0, "weight of denoising, the map from t to t", ge=0, paper="Kim et al. 2024 eq. 11"
    )
    denoising_times: TimesConfig = setting(TimesConfig(), "law of its times")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective: consistency, denoising and perhaps an adversarial term."""
        from fewstep.objectives import Along, Consistency, Denoising, MapPairs, pair_solvers
        from fewstep.objectives.weights import customary

        settings = {
            **self.common(),
            "pairs": MapPairs(self.steps, self.reach),
            "solver": Along(getattr(pair_solvers, self.solver), self.steps),
            "compare": self.compare,
            "accompanied": self.adversarial > 0,
        }
        terms: dict[str, tuple[float, Objective]] = {"maps": (1.0, Consistency(**{**settings, **fixed}))}
        if self.denoising > 0:
            law = self.denoising_times.build(process)
            terms["denoising"] = (self.denoising, Denoising(law, customary))
        return self.mixed(process, **terms)


class SCottConfig(Accompanied):
    """Stochastic consistency: the teacher takes noisy steps, and an adversarial term fights the blur."""

    kind: Literal["scott"] = setting(
        "scott", "consistency over a stochastic solver", paper="Liu et al. 2024 SCott"
    )
    steps: int = setting(18, "intervals of the time grid", unit="intervals", ge=1)
    skip: int = setting(1, "intervals between the two points of a pair", unit="intervals", ge=1)
    eta: float = setting(
        0.2,
        "strength of the solver's noise: 0 = DDIM, 1 = ancestral, whose optimum is the denoiser",
        ge=0,
        le=1,
    )
    substeps: int = setting(2, "solver steps between the two points of a pair", unit="steps", ge=1)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, GridPairs, Sde

        settings = {
            **self.common(),
            "pairs": GridPairs(self.steps, self.skip),
            "solver": Sde(self.eta, self.substeps),
            "accompanied": self.adversarial > 0,
        }
        return self.mixed(process, maps=(1.0, Consistency(**{**settings, **fixed})))


def _weight(name: str) -> Any:
    from fewstep.objectives import weights

    return weights.inverse_gap if name == "inverse-gap" else weights.pair_one
