"""The score identity."""

from __future__ import annotations

from objective_cases import NATURAL, points

from fewstep.objectives import SIM, ElementHuber, Power, SiD, Squared, UniInstruct
from fewstep.objectives.identity_family import in_noise
from fewstep.objectives.ratios import forward_kl, jensen_shannon
from fewstep.objectives.weights import one

THROUGH = ("student",)

CASES = {
    "sid": points(SiD(NATURAL), through_judges=THROUGH),
    "sid with one rollout and a fake that knows no step": points(
        SiD(NATURAL, share_rollout=True, fake_knows="shared"), through_judges=THROUGH
    ),
    "sim": points(SIM(NATURAL, units=one), through_judges=THROUGH),
    "sim of noise estimates, element by element": points(
        SIM(NATURAL, distance=ElementHuber(0.1), units=in_noise, normalize=True), through_judges=THROUGH
    ),
    "sim with a squared distance": points(SIM(NATURAL, distance=Squared()), through_judges=THROUGH),
    "sim with a power": points(SIM(NATURAL, distance=Power(1.3)), through_judges=THROUGH),
    "uni-instruct": points(UniInstruct(NATURAL), through_judges=THROUGH),
    "uni-instruct, forward": points(UniInstruct(NATURAL, factor=forward_kl), through_judges=THROUGH),
    "uni-instruct between": points(UniInstruct(NATURAL, factor=jensen_shannon), through_judges=THROUGH),
}
