"""Settings of flow maps inside segments. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from fewstep.config.model import setting
from fewstep.config.objectives.base import DistanceName
from fewstep.config.objectives.flow_map import Accompanied, SolverName, TargetName
from fewstep.config.objectives.rounds import Round

if TYPE_CHECKING:
    from fewstep.objectives import SegmentPairs
    from fewstep.protocol import Objective, Process


class Segmented(Accompanied):
    """Consistency inside segments that merge."""

    steps: int = setting(16, "intervals of the time grid", unit="intervals", ge=1)
    segments: tuple[int, ...] = setting(
        (8, 4, 2, 1), "counts of segments, each for an equal share of the run", min_length=1
    )
    solver: SolverName = setting("ddim", "one step of the teacher")
    skip: int = setting(1, "intervals between the two points of a pair", unit="intervals", ge=1)
    fade: float = setting(0.0, "share of its weight that a pair loses that lands a segment away", ge=0, le=1)
    target: TargetName = setting("self", "whose map is the target")

    @model_validator(mode="after")
    def _merging(self) -> Self:
        falls = all(a > b for a, b in itertools.pairwise(self.segments))
        if not falls or not 1 <= min(self.segments) <= max(self.segments) <= self.steps:
            raise ValueError(
                f"segments must become fewer, between {self.steps} (steps) and 1: {self.segments}"
            )
        return self

    def pairs(self) -> SegmentPairs:
        """The law of times."""
        from fewstep.objectives import SegmentPairs, Staircase

        return SegmentPairs(self.steps, Staircase(self.segments), self.skip, self.fade)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Consistency, pair_solvers

        settings = {
            **self.common(),
            "pairs": self.pairs(),
            "solver": getattr(pair_solvers, self.solver),
            "accompanied": self.adversarial > 0,
            **self.sources(),
        }
        return self.mixed(process, maps=(1.0, Consistency(**{**settings, **fixed})))

    def sources(self) -> dict[str, Any]:
        """Where states come from."""
        return {}

    def rounds(self, process: Process, times: Sequence[float], **fixed: Any) -> tuple[Round, ...]:
        """One round that ends with a segment for each step of the student, whose steps begin where these do."""
        left = len(times)
        counts = (*(count for count in self.segments if count > left), left)
        ended = type(self).model_validate({**dict(self), "segments": counts, "steps": max(self.steps, left)})
        return (Round("student", ended.build(process, **fixed), ended.pairs().starts(process)),)


class TSCDConfig(Segmented):
    """Trajectory segmented consistency: maps to the end of each segment, and segments merge."""

    kind: Literal["tscd"] = setting(
        "tscd", "maps to the ends of segments that merge", paper="Ren et al. 2024 Hyper-SD sec. 3.1"
    )


class MLCMConfig(Segmented):
    """Multistep latent consistency: as segments, on the teacher's own states. Reads no data."""

    kind: Literal["mlcm"] = setting(
        "mlcm", "segmented consistency on the teacher's own states, without data", paper="Xie et al. 2024"
    )
    distance: DistanceName = setting("pseudo-huber", "distance of the two places")
    huber_c: float = setting(1e-3, "bend of the pseudo-Huber distance", gt=0, paper="Luo et al. 2023")

    walk: int | None = setting(
        None, "intervals of the teacher's way from noise to the cleanest time; none = steps", ge=1
    )

    def sources(self) -> dict[str, Any]:
        """The teacher's trajectories from pure noise."""
        from fewstep.objectives import FromTeacher, pair_solvers

        return {"states": FromTeacher(self.walk or self.steps, getattr(pair_solvers, self.solver))}
