"""Score distillation."""

from __future__ import annotations

from objective_cases import NATURAL, PROCESS, TIMES, UNIFORM, Pointwise, fill, points, tokens
from objective_toys import At, Height

from fewstep.objectives import (
    Adversary,
    DensityRatio,
    FeatureHead,
    Readout,
    Reward,
    Segment,
    diff_instruct,
    dmd,
    dmd2,
    f_distill,
    sds,
    segment_ends,
    tdm,
    vsd,
)
from fewstep.objectives.ratios import forward_kl, jensen_shannon
from fewstep.protocol import Denoiser

THROUGH = ("student",)
"""The discriminator's term runs through the judges whose features it reads."""


def head() -> FeatureHead:
    made = FeatureHead([8], width=4).double()
    fill(made, 5)
    return made


def readout() -> Readout:
    return Readout(Denoiser(Pointwise(4), PROCESS, "edm"))


READS_TEACHER = Adversary(weight=0.1, features_of="teacher", r1=0.1)
PLAIN = DensityRatio(jensen_shannon, clip=None, normalize="none")

CASES = {
    "sds": points(sds(NATURAL)),
    "vsd": points(vsd(NATURAL)),
    "diff-instruct": points(diff_instruct(NATURAL, critic_updates=2)),
    "diff-instruct of tokens": tokens(diff_instruct(UNIFORM), steps=1),
    "dmd": points(dmd(NATURAL)),
    "dmd with one rollout": points(dmd(NATURAL, share_rollout=True)),
    "dmd with a discriminator": points(dmd(NATURAL, adversary=Adversary(weight=0.1), ratio=PLAIN), THROUGH),
    "dmd of noised data": points(dmd(NATURAL, inputs="data")),
    "dmd with a tilt": points(
        dmd(NATURAL, reward=Reward(tilt=0.3, margin=2.0, cap=0.5)), extra={"reward": Height}
    ),
    "dmd with weights of a reward": points(
        dmd(NATURAL, reward=Reward(weight=1.0)), extra={"reward": Height}, coupled=THROUGH
    ),
    "dmd2": points(dmd2(NATURAL), THROUGH, extra={"disc": head}),
    "dmd2 that reads states": points(dmd2(NATURAL), THROUGH, extra={"disc": readout}),
    "dmd2 on features of the teacher": points(
        dmd2(NATURAL, adversary=READS_TEACHER), THROUGH, extra={"disc": head}
    ),
    "f-distill": points(f_distill(NATURAL), THROUGH, extra={"disc": head}, coupled=THROUGH),
    "f-distill whose ratio alone is read": points(
        f_distill(NATURAL, forward_kl, adversary=Adversary(weight=0.0), ratio=PLAIN), extra={"disc": readout}
    ),
    "tdm": points(tdm(NATURAL)),
    "tdm inside its segments": points(
        diff_instruct(At(1.0), corruption=Segment(segment_ends(TIMES, PROCESS), reach="segment", rho=7.0))
    ),
    # A student that draws tokens in several steps builds a graph in each, for logp; a pathwise objective reads the last.
    "dmd2 of tokens": tokens(dmd2(UNIFORM, adversary=Adversary(weight=0.0)), steps=1),
}
