"""Objectives as settings: a union by ``kind``; ``objective=sid`` is short for ``objective.kind=sid``.

    class MyConfig(RecipeConfig):
        objective: AnyObjective = SiDConfig()

    config.objective.build(process)

Importing this module does not import torch; ``build`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field

from fewstep.config.model import Settings, setting
from fewstep.config.times import TimesConfig
from fewstep.errors import nearest

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process

WeightName: TypeAlias = Literal[
    "customary", "one", "edm", "snr", "truncated-snr", "min-snr", "score", "dreamfusion", "inverse-hidden"
]


class DenoisingConfig(Settings):
    """Regress clean data from corrupted data."""

    kind: Literal["denoising"] = setting("denoising", "regress clean data from corrupted data")
    times: TimesConfig = setting(TimesConfig(), "law of the corruption times")
    weight: WeightName = setting(
        "customary", "weight of the loss in x0 units", paper="Karras et al. 2022 table 1"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective; ``fixed`` are settings that belong to the recipe (role, null, drop, ...)."""
        from fewstep.objectives import Denoising

        made: Objective = Denoising(self.times.build(process), **{"weight": _weight(self.weight), **fixed})
        return made


class ConsistencyConfig(Settings):
    """Neighbors on one trajectory are sent to the same place."""

    kind: Literal["consistency"] = setting("consistency", "neighbors on one trajectory go to the same place")
    steps: int = setting(
        18, "intervals of the time grid", unit="intervals", ge=1, paper="Song et al. 2023 table 3"
    )
    skip: int = setting(
        1, "intervals between the two points of a pair", unit="intervals", ge=1, paper="Luo et al. 2023"
    )
    solver: Literal["euler", "heun", "ddim"] = setting(
        "heun", "one step of the teacher", paper="Song et al. 2023"
    )
    distance: Literal["l2", "l1", "pseudo-huber"] = setting("l2", "distance of the two estimates")
    huber_c: float = setting(
        5.4e-4, "bend of the pseudo-Huber distance", gt=0, paper="Song & Dhariwal 2024 eq. 7"
    )
    weight: Literal["one", "inverse-gap"] = setting("one", "weight of a pair", paper="Geng et al. 2024")
    guidance: float | None = setting(None, "teacher's guidance scale g in u + g (c - u)", ge=0, le=100)
    guidance_to: float | None = setting(
        None, "if given, g is uniform in [guidance, guidance_to]", ge=0, le=100
    )
    teacher: bool = setting(True, "false = consistency training on data alone")
    target: Literal["average", "self"] = setting("average", "whose estimate is the target")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, GridPairs, flow_map
        from fewstep.objectives.weights import inverse_gap, pair_one

        settings = {
            "pairs": GridPairs(self.steps, self.skip),
            "solver": getattr(flow_map, self.solver),
            "distance": self._distance(),
            "weight": inverse_gap if self.weight == "inverse-gap" else pair_one,
            "guidance": self._guidance(),
            "teacher": "teacher" if self.teacher else None,
            "target": "target" if self.target == "average" else None,
        }
        made: Objective = Consistency(**{**settings, **fixed})
        return made

    def _distance(self) -> Any:
        from fewstep.objectives import distances

        if self.distance == "pseudo-huber":
            return distances.pseudo_huber(self.huber_c)
        return distances.l1 if self.distance == "l1" else distances.l2

    def _guidance(self) -> Any:
        from fewstep.processes import Uniform

        if self.guidance is None or self.guidance_to is None:
            return self.guidance
        return Uniform(self.guidance, self.guidance_to)


class _Judged(Settings):
    """What score distillation and the score identity share."""

    times: TimesConfig = setting(
        TimesConfig(low=0.02, high=0.98), "law of the times at which the student is judged"
    )
    weight: WeightName = setting("one", "w(t) in x0 units")
    guidance: float | None = setting(None, "teacher's guidance scale g in u + g (c - u)", ge=0, le=200)
    penalties: dict[str, float] = setting({}, "weights of the student's own penalties, by name")

    def _common(self, process: Process) -> dict[str, Any]:
        return {
            "times": self.times.build(process),
            "weight": _weight(self.weight),
            "guidance": self.guidance,
            "penalties": dict(self.penalties),
        }


class _Learned(_Judged):
    """Methods whose fake learns the student's law."""

    critic_updates: int = setting(
        3,
        "fake updates before each student update",
        unit="updates",
        ge=1,
        le=100,
        paper="Yin et al. 2024 DMD2",
    )
    fake_times: TimesConfig | None = setting(None, "the fake's own time law; none = the student's")
    fake_weight: WeightName = setting("customary", "weight of the fake's denoising loss")
    share_rollout: bool = setting(False, "critic and student of one cycle judge one sample, made once")

    def _common(self, process: Process) -> dict[str, Any]:
        return {
            **super()._common(process),
            "critic_updates": self.critic_updates,
            "fake_times": None if self.fake_times is None else self.fake_times.build(process),
            "fake_weight": _weight(self.fake_weight),
            "share_rollout": self.share_rollout,
        }


class SDSConfig(_Judged):
    """Score distillation sampling; seeks one mode."""

    kind: Literal["sds"] = setting(
        "sds", "score distillation sampling: no fake, seeks a mode", paper="Poole et al. 2023"
    )
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Poole et al. 2023 eq. 3")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import sds

        made: Objective = sds(**{**self._common(process), **fixed})
        return made


class VSDConfig(_Learned):
    """Variational score distillation."""

    kind: Literal["vsd"] = setting("vsd", "variational score distillation", paper="Wang et al. 2023 eq. 9")
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Wang et al. 2023 eq. 9")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import vsd

        made: Objective = vsd(**{**self._common(process), **fixed})
        return made


class DiffInstructConfig(_Learned):
    """Diff-Instruct: reverse KL, averaged over times."""

    kind: Literal["diff-instruct"] = setting(
        "diff-instruct", "reverse KL over times", paper="Luo et al. 2023"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import diff_instruct

        made: Objective = diff_instruct(**{**self._common(process), **fixed})
        return made


class DMDConfig(_Learned):
    """Distribution matching distillation."""

    kind: Literal["dmd"] = setting(
        "dmd", "distribution matching, normalized per sample", paper="Yin et al. 2024 eq. 7-8"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import dmd

        made: Objective = dmd(**{**self._common(process), **fixed})
        return made


class SiDConfig(_Learned):
    """Score identity distillation."""

    kind: Literal["sid"] = setting("sid", "score identity distillation", paper="Zhou et al. 2024 eq. 23")
    times: TimesConfig = setting(
        TimesConfig(low=0.0, high=0.8),
        "law of the times at which the student is judged",
        paper="Zhou et al. 2024",
    )
    alpha: float = setting(1.2, "weight of the Fisher term; above 1 start from a narrow student", ge=0, le=2)
    normalize: bool = setting(True, "divide each sample by mean |x - D_teacher|")
    critic_updates: int = setting(1, "fake updates before each student update", unit="updates", ge=1, le=100)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import SiD

        settings = {**self._common(process), "alpha": self.alpha, "normalize": self.normalize}
        made: Objective = SiD(**{**settings, **fixed})
        return made


class RatioPolicyConfig(Settings):
    """Policy gradient on a learned density ratio."""

    kind: Literal["ratio-policy"] = setting(
        "ratio-policy", "policy gradient on a learned density ratio", paper="Zheng et al. 2025"
    )
    times: TimesConfig = setting(
        TimesConfig(), "law of the times at which samples are judged (corruption fresh)"
    )
    corruption: Literal["fresh", "coupled"] = setting(
        "coupled", "coupled: judge where the student passed through"
    )
    reference: Literal["data", "teacher"] = setting("data", "what the discriminator compares with")
    weight: WeightName = setting("one", "omega(t)")
    group: int = setting(0, "rows of one leave-one-out baseline; 0 = the batch", unit="rows", ge=0)
    whiten: bool = setting(False, "divide advantages by their group's standard deviation")
    reward_clip: float = setting(8.0, "largest |logit|", unit="nats", gt=0)
    advantage_clip: float | None = setting(None, "largest |advantage|", gt=0)
    smoothing: float = setting(0.0, "label smoothing of the discriminator", ge=0, lt=0.5)
    anchor: float = setting(0.0, "weight of KL(teacher | student) at visited states", ge=0)
    critic_updates: int = setting(
        1, "discriminator updates before each student update", unit="updates", ge=1, le=100
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Coupled, RatioPolicy, fresh

        named = ("group", "whiten", "reward_clip", "advantage_clip", "smoothing", "anchor", "critic_updates")
        settings = {
            **{name: getattr(self, name) for name in named},
            "times": self.times.build(process),
            "corruption": Coupled() if self.corruption == "coupled" else fresh,
            "reference": "x" if self.reference == "data" else "extra.teacher",
            "weight": _weight(self.weight),
        }
        made: Objective = RatioPolicy(**{**settings, **fixed})
        return made


_Union: TypeAlias = (
    DenoisingConfig
    | ConsistencyConfig
    | SDSConfig
    | VSDConfig
    | DiffInstructConfig
    | DMDConfig
    | SiDConfig
    | RatioPolicyConfig
)

KINDS: dict[str, type[Settings]] = {model.model_fields["kind"].default: model for model in get_args(_Union)}
"""Every kind and its settings."""


def _word(given: Any) -> Any:
    """A bare word is a kind; an unknown kind is answered with the nearest."""
    values = {"kind": given} if isinstance(given, str) else given
    kind = values.get("kind") if isinstance(values, dict) else None
    if isinstance(kind, str) and kind not in KINDS:
        raise ValueError(f"{kind!r} is no objective{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    return values


AnyObjective: TypeAlias = Annotated[_Union, Field(discriminator="kind"), BeforeValidator(_word)]
"""The type of a recipe's ``objective`` field."""


def _weight(name: str) -> Any:
    from fewstep.objectives import weights

    return weights.min_snr() if name == "min-snr" else getattr(weights, name.replace("-", "_"))
