"""Objectives as settings: a union by ``kind``; ``objective=sid`` is short for ``objective.kind=sid``.

    class MyConfig(RecipeConfig):
        objective: AnyObjective = SiDConfig()

    config.objective.build(process)

One module per family. Importing this package does not import torch; ``build`` does.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BeforeValidator, Field

from fewstep.config.model import Settings
from fewstep.config.objectives.adversarial import LADDConfig
from fewstep.config.objectives.continuous import MeanFlowConfig, RCMConfig, SCMConfig
from fewstep.config.objectives.denoising import DenoisingConfig
from fewstep.config.objectives.flow_map import (
    ConsistencyConfig,
    CTMConfig,
    ECTConfig,
    LCMConfig,
    SCottConfig,
)
from fewstep.config.objectives.forgetting import SFDConfig
from fewstep.config.objectives.idempotent import SIGNConfig
from fewstep.config.objectives.identity import SiDConfig, SIMConfig, UniInstructConfig
from fewstep.config.objectives.pairs import GuidanceConfig, ODEPairsConfig, ProgressiveConfig
from fewstep.config.objectives.policy import RatioPolicyConfig
from fewstep.config.objectives.preference import PSOConfig
from fewstep.config.objectives.rounds import Round as Round
from fewstep.config.objectives.rounds import rounds as rounds
from fewstep.config.objectives.rounds import student_stages as student_stages
from fewstep.config.objectives.score import (
    DiffInstructConfig,
    DMD2Config,
    DMDConfig,
    FDistillConfig,
    SDSConfig,
    TDMConfig,
    VSDConfig,
)
from fewstep.config.objectives.segments import MLCMConfig, TSCDConfig
from fewstep.errors import nearest

_Union: TypeAlias = (
    DenoisingConfig
    | ConsistencyConfig
    | LCMConfig
    | ECTConfig
    | CTMConfig
    | TSCDConfig
    | MLCMConfig
    | SCottConfig
    | SCMConfig
    | RCMConfig
    | MeanFlowConfig
    | SDSConfig
    | VSDConfig
    | DiffInstructConfig
    | DMDConfig
    | DMD2Config
    | FDistillConfig
    | TDMConfig
    | LADDConfig
    | SiDConfig
    | SIMConfig
    | UniInstructConfig
    | SFDConfig
    | RatioPolicyConfig
    | ODEPairsConfig
    | ProgressiveConfig
    | GuidanceConfig
    | SIGNConfig
    | PSOConfig
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
