"""Settings of score distillation. Importing this module does not import torch; ``build`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fewstep.config.model import setting
from fewstep.config.objectives.adversarial import BesideConfig
from fewstep.config.objectives.base import Judged, Learned, WeightName

if TYPE_CHECKING:
    from fewstep.protocol import Objective, Process


class SDSConfig(Judged):
    """Score distillation sampling; seeks one mode."""

    kind: Literal["sds"] = setting(
        "sds", "score distillation sampling: no fake, seeks a mode", paper="Poole et al. 2023"
    )
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Poole et al. 2023 eq. 3")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import sds

        made: Objective = sds(**{**self.common(process), **fixed})
        return made


class VSDConfig(Learned):
    """Variational score distillation."""

    kind: Literal["vsd"] = setting("vsd", "variational score distillation", paper="Wang et al. 2023 eq. 9")
    weight: WeightName = setting("dreamfusion", "w(t) in x0 units", paper="Wang et al. 2023 eq. 9")

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import vsd

        made: Objective = vsd(**{**self.common(process), **fixed})
        return made


class DiffInstructConfig(Learned):
    """Diff-Instruct: reverse KL, averaged over times."""

    kind: Literal["diff-instruct"] = setting(
        "diff-instruct", "reverse KL over times", paper="Luo et al. 2023"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import diff_instruct

        made: Objective = diff_instruct(**{**self.common(process), **fixed})
        return made


class DMDConfig(Learned):
    """Distribution matching distillation."""

    kind: Literal["dmd"] = setting(
        "dmd", "distribution matching, normalized per sample", paper="Yin et al. 2024 eq. 7-8"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import dmd

        made: Objective = dmd(**{**self.common(process), **fixed})
        return made


INPUTS = "roll: training steps see the student's own roll; data: noised data"


class DMD2Config(Learned):
    """Distribution matching with a discriminator, critics on a faster clock."""

    kind: Literal["dmd2"] = setting(
        "dmd2", "distribution matching with a discriminator", paper="Yin et al. 2024 DMD2 sec. 4"
    )
    critic_updates: int = setting(
        5,
        "critic updates before each student update",
        unit="updates",
        ge=1,
        le=100,
        paper="Yin et al. 2024 DMD2",
    )
    adversary: BesideConfig | None = setting(
        BesideConfig(),
        "the discriminator; none = the two time scales alone",
        paper="Yin et al. 2024 DMD2 eq. 4",
    )
    inputs: Literal["roll", "data"] = setting("roll", INPUTS, paper="Yin et al. 2024 DMD2 sec. 4.5")

    def common(self, process: Process) -> dict[str, Any]:
        """Keyword arguments that the members of the family share."""
        adversary = None if self.adversary is None else self.adversary.build()
        return {**super().common(process), "adversary": adversary, "inputs": self.inputs}

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import dmd2

        made: Objective = dmd2(**{**self.common(process), **fixed})
        return made


class FDistillConfig(DMD2Config):
    """Distribution matching under any f-divergence."""

    kind: Literal["f-distill"] = setting(  # type: ignore[assignment]
        "f-distill", "distribution matching under any f-divergence", paper="Xu et al. 2025 eq. 6"
    )
    adversary: BesideConfig = setting(
        BesideConfig(),
        "the discriminator, whose logit is the density ratio",
    )
    divergence: Literal[
        "reverse-kl",
        "forward-kl",
        "jensen-shannon",
        "softened-reverse-kl",
        "hellinger",
        "jeffreys",
        "neyman",
        "pearson",
    ] = setting("jensen-shannon", "which divergence is descended", paper="Xu et al. 2025 table 1")
    clip: tuple[float, float] | None = setting(
        (0.1, 20.0), "bounds of the density ratio; none = exp(+-10) alone"
    )
    ratio_normalize: Literal["none", "batch", "bins"] = setting(
        "bins",
        "what h(r) is divided by: its mean over the batch, or in each bin of times",
        paper="Xu et al. 2025 sec. 4.2",
    )
    bins: int = setting(10, "bins of times", unit="bins", ge=1)

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import DensityRatio, dmd2, ratios

        factor = getattr(ratios, self.divergence.replace("-", "_"))
        ratio = DensityRatio(factor, self.clip, self.ratio_normalize, self.bins)
        made: Objective = dmd2(**{**self.common(process), "ratio": ratio, **fixed})
        return made


class TDMConfig(Learned):
    """Trajectory distribution matching."""

    kind: Literal["tdm"] = setting(
        "tdm", "the marginals of a deterministic path, segment by segment", paper="Luo et al. 2025"
    )
    critic_updates: int = setting(1, "fake updates before each student update", unit="updates", ge=1, le=100)
    fake_weight: WeightName = setting(
        "min-snr", "weight of the fake's denoising loss", paper="Luo et al. 2025"
    )
    reach: Literal["process", "segment"] = setting(
        "process", "process: samples are judged up to the noisiest time; segment: inside their own segment"
    )

    def build(self, process: Process, **fixed: Any) -> Objective:
        """The objective."""
        from fewstep.objectives import Segment, tdm

        made: Objective = tdm(**{**self.common(process), "corruption": Segment(reach=self.reach), **fixed})
        return made
