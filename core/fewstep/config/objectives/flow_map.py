"""Settings of discrete consistency and flow maps. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import Settings, setting

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


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
