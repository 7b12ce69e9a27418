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

    @property
    def calls(self) -> int:
        """Network calls for one sample."""
        return len(self.levels)


FAST = {"student": 4e-3, "fake": 4e-3, "disc": 2e-3}
CLEAN = {"prediction": "boundary", "rates": FAST, "average": 0.998}
"""Flow maps: the student is the identity at the cleanest time."""

_FLOW_MAPS: dict[str, Method] = {
    "ode-pairs": Method("ode-pairs", {"steps": 18}, 4000, rates=FAST),
    "progressive": Method("progressive", {"halvings": 4}, 8000, rates=FAST),
    "consistency": Method(
        "consistency", {"steps": 40, "distance": "pseudo-huber", "huber_c": 0.03}, 6000, **CLEAN
    ),
    "lcm": Method("lcm", {"steps": 160, "skip": 4, "huber_c": 0.03}, 6000, **CLEAN),
    "ect": Method(
        "ect",
        {"stages": 8, "times": {"kind": "natural"}, "distance": "pseudo-huber", "huber_c": 0.03},
        8000,
        **CLEAN,
    ),
    "ctm": Method("ctm", {"steps": 18, "reach": 2}, 2500, **CLEAN),
    "tscd": Method("tscd", {"steps": 32}, 6000, levels=(14.0, 0.5), **CLEAN),
    "mlcm": Method("mlcm", {"steps": 32, "huber_c": 0.03}, 2500, levels=(14.0, 0.5), **CLEAN),
    "scott": Method(
        "scott", {"steps": 40, "substeps": 1, "distance": "pseudo-huber", "huber_c": 0.03}, 6000, **CLEAN
    ),
    "scm": Method("scm", {"warmup": 1000}, 4000, **CLEAN),
    "rcm": Method("rcm", {"warmup": 0, "critic_updates": 1}, 2500, **CLEAN),
    "meanflow": Method("meanflow", updates=5000, **CLEAN),
}

_MATCHED = {"updates": 6000, "levels": (1.75,), "rates": FAST, "average": 0.998}
_ONCE = {"critic_updates": 1}

_DISTRIBUTIONS: dict[str, Method] = {
    "sds": Method("sds", updates=1000, levels=(1.75,)),
    "vsd": Method("vsd", _ONCE, **_MATCHED),
    "diff-instruct": Method("diff-instruct", _ONCE, **_MATCHED),
    "dmd": Method("dmd", _ONCE, **_MATCHED),
    "dmd2": Method("dmd2", {"critic_updates": 2}, **_MATCHED),
    "f-distill": Method("f-distill", {"critic_updates": 2}, **_MATCHED),
    "tdm": Method("tdm", **{**_MATCHED, "levels": (14.0, 0.5)}),
    "ladd": Method("ladd", **_MATCHED),
    "sid": Method("sid", {"alpha": 1.0}, **_MATCHED),
    "sim": Method("sim", **_MATCHED),
    "uni-instruct": Method("uni-instruct", **_MATCHED),
    "sign": Method("sign", _ONCE, **_MATCHED),
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
