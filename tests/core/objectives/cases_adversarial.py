"""A discriminator alone."""

from __future__ import annotations

from cases_score import THROUGH, head, readout
from objective_cases import NATURAL, points
from objective_toys import Height

from fewstep.objectives import Adversarial, Adversary, Reward

FEATURES = Adversary(features_of="teacher", loss="hinge", r1=0.1)

CASES = {
    "ladd": points(Adversarial(NATURAL, FEATURES, inputs="data"), THROUGH, extra={"disc": head}),
    "adversarial": points(Adversarial(NATURAL, critic_updates=2), THROUGH),
    "adversarial without a teacher": points(
        Adversarial(NATURAL, Adversary(smoothing=0.1, r1=0.1), teacher=None), THROUGH, extra={"disc": readout}
    ),
    "adversarial with one rollout and a tilt": points(
        Adversarial(NATURAL, Adversary(loss="saturating"), share_rollout=True, reward=Reward(tilt=0.2)),
        THROUGH,
        extra={"reward": Height},
    ),
    "adversarial with a capped tilt": points(
        Adversarial(NATURAL, reward=Reward(tilt=0.2, cap=0.1)), THROUGH, extra={"reward": Height}
    ),
}
