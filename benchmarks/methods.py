"""Every method with its settings: a row of the tables, and nothing but data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Method:
    """How one kind is trained on a toy.

    Args:
        kind: of the objective, as in a configuration.
        settings: of that kind.
        updates: cycles.
        levels: start of every student step, as sigma / alpha in standard deviations of the data.
        prediction: what the student's network predicts.
        process: "edm", "trig" or "flow".
        teacher: the closed form, or the small network that was trained on data (methods that read features).
        rates: role -> first learning rate; it falls linearly to a fiftieth.
        momentum: first beta of Adam.
        average: decay of the student's running average, which is what is measured.
        target: decay of a target network.
        rule: what happens between the steps of a student.
        pick: which step a training sample comes from.
        fixed: what a recipe, and not a user, would say to the objective.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    updates: int = 4000
    levels: tuple[float, ...] = (14.0,)
    prediction: str = "edm"
    process: Literal["edm", "trig", "flow"] = "edm"
    teacher: Literal["exact", "network"] = "exact"
    rates: Mapping[str, float] = field(default_factory=lambda: {"student": 1e-3, "fake": 2e-3, "disc": 1e-3})
    momentum: float = 0.5
    average: float = 0.99
    target: float = 0.95
    rule: Literal["renoise", "ddim", "posterior"] = "renoise"
    pick: Literal["last", "random"] = "random"
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """Network calls for one sample."""
        return len(self.levels)


_FAST = {"student": 4e-3, "fake": 4e-3, "disc": 2e-3}
_MAP = {"prediction": "boundary", "rates": _FAST, "average": 0.998}
"""Flow maps: the student is the identity at the cleanest time."""
_HUBER = {"distance": "pseudo-huber", "huber_c": 0.03}
_TANGENT = {"times": "natural", "derivative": "difference", "warmup": 500}

_FLOW_MAPS: dict[str, Method] = {
    "ode-pairs": Method("ode-pairs", {"steps": 16}, 3000, rates=_FAST, average=0.998),
    "control: shuffled pairs": Method("ode-pairs", updates=3000, rates=_FAST, fixed={"online": None}),
    "progressive": Method("progressive", {"halvings": 4}, 10_000, rates=_FAST, average=0.998),
    "consistency": Method("consistency", {"steps": 18, **_HUBER}, 8000, **_MAP),
    "lcm": Method("lcm", {"steps": 80, "skip": 4, "huber_c": 0.03}, 8000, **_MAP),
    "ect": Method("ect", {"stages": 8, "times": "natural", **_HUBER}, 10_000, **_MAP),
    "ctm": Method("ctm", {"steps": 18, "reach": 3}, 4000, **_MAP),
    "tscd": Method("tscd", {"steps": 32}, 9000, levels=(14.0, 0.5), **_MAP),
    "mlcm": Method(
        "mlcm", {"steps": 16, "solver": "heun", "huber_c": 0.03}, 3500, levels=(14.0, 0.5), **_MAP
    ),
    "scott": Method("scott", {"steps": 18, **_HUBER}, 8000, **_MAP),
    "scm": Method("scm", {"weight": "one", **_TANGENT}, 5000, **_MAP),
    "rcm": Method("rcm", {"consistency": 10.0, "scores": 1.0, "critic_updates": 1, **_TANGENT}, 3000, **_MAP),
    "meanflow": Method("meanflow", {"same": 0.25, **_TANGENT, "warmup": 0}, 5000, **_MAP),
}

_MATCHED = {"updates": 6000, "levels": (1.75,), "rates": _FAST, "average": 0.998}
_ONCE = {"critic_updates": 1}
_JUDGED = {**_MATCHED, "updates": 3500}
"""Beside a discriminator: its calls cost updates."""

_DIVERGENCES = (
    "reverse-kl", "forward-kl", "jensen-shannon", "softened-reverse-kl", "hellinger", "jeffreys", "neyman", "pearson",
)  # fmt: skip

_DISTRIBUTIONS: dict[str, Method] = {
    "sds": Method("sds", updates=1000, levels=(1.75,)),
    "vsd": Method("vsd", _ONCE, **_MATCHED),
    "diff-instruct": Method("diff-instruct", _ONCE, **_MATCHED),
    "dmd": Method("dmd", _ONCE, **_MATCHED),
    "dmd 2 steps": Method("dmd", _ONCE, **{**_MATCHED, "levels": (1.75, 0.35)}),
    "dmd2": Method("dmd2", _ONCE, **_JUDGED),
    **{
        f"f-distill {name}": Method("f-distill", {"divergence": name, **_ONCE}, **_JUDGED)
        for name in _DIVERGENCES
    },
    "tdm": Method("tdm", **{**_MATCHED, "levels": (1.75, 0.35)}),
    "ladd": Method("ladd", _ONCE, teacher="network", **_JUDGED),
    "sid": Method("sid", {"alpha": 1.0}, **_MATCHED),
    "sim": Method("sim", **_MATCHED),
    "uni-instruct": Method("uni-instruct", **_MATCHED),
    "sign": Method("sign", _ONCE, **{**_MATCHED, "updates": 4000}),
}

METHODS: dict[str, Method] = {**_FLOW_MAPS, **_DISTRIBUTIONS}

WITHOUT_ROW: dict[str, str] = {
    "denoising": "trains teachers; the small network that students start from is its product",
    "guidance": "saves the second call of a guided teacher at every step; it does not lower the number of steps",
    "sfd": "forgets a label on purpose, so that a distance to all of the data says nothing",
    "ratio-policy": "its student draws from a discrete law, and these samples are vectors",
    "pso": "tunes a finished student after a reward, which no law gives",
}
"""Kinds that these tables cannot show, and why."""
