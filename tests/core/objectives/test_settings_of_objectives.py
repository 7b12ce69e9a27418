"""Objectives as settings: shorthand, bounds, nearest names, and what they build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError

from fewstep.config.objectives import KINDS, AnyObjective, SiDConfig
from fewstep.config.times import TimesConfig
from fewstep.objectives import (
    SIM,
    Consistency,
    Denoising,
    RatioPolicy,
    ScoreDistillation,
    SiD,
    UniInstruct,
    weights,
)
from fewstep.processes import Masked, Uniform, ddpm, edm, flow, vp
from fewstep.protocol import Key, Objective, Step


class Recipe(BaseModel):
    objective: AnyObjective = SiDConfig()


def built(**settings: Any) -> Any:
    return Recipe(objective=settings).objective.build(edm())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("denoising", Denoising),
        ("consistency", Consistency),
        ("sds", ScoreDistillation),
        ("vsd", ScoreDistillation),
        ("diff-instruct", ScoreDistillation),
        ("dmd", ScoreDistillation),
        ("sid", SiD),
        ("sim", SIM),
        ("uni-instruct", UniInstruct),
        ("ratio-policy", RatioPolicy),
    ],
)
def test_a_bare_word_builds_its_family(kind: str, family: type) -> None:
    objective = Recipe(objective=kind).objective.build(edm())  # type: ignore[arg-type]
    assert type(objective) is family
    assert isinstance(objective, Objective)


def test_every_kind_is_documented() -> None:
    pages = Path(__file__).parents[3] / "docs" / "objectives"
    for kind, model in KINDS.items():
        assert all(info.description for info in model.model_fields.values()), kind
        assert (pages / f"{kind}.md").is_file(), kind


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'dmd'"):
        Recipe(objective="dmdd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "sid", "alpha": 3},
        {"kind": "dmd", "critic_updates": 0},
        {"kind": "dmd", "alpha": 1.2},
        {"kind": "consistency", "steps": 0},
        {"kind": "ratio-policy", "smoothing": 0.5},
        {"kind": "sid", "times": {"low": 0.9, "high": 0.1}},
        {"kind": "sid", "times": "listed"},
    ],
)
def test_values_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        built(**settings)


def test_settings_reach_the_objective() -> None:
    found = built(kind="dmd", critic_updates=5, guidance=7.5, penalties={"size": 0.1}, weight="min-snr")
    assert (found.critic_updates, found.guidance, found.penalties) == (5, 7.5, {"size": 0.1})
    assert found.normalize
    assert found.weight == weights.min_snr()
    assert [phase.name for phase in found.phases(0)] == ["critic"] * 5 + ["student"]
    guided = built(kind="consistency", guidance=2, guidance_to=14, teacher=True, target="self")
    assert guided.guidance == Uniform(2.0, 14.0)
    assert guided.target is None


@pytest.mark.parametrize("kind", ["lcm", "ect", "progressive", "guidance"])
def test_a_range_of_guidance_has_two_ends_in_order(kind: str) -> None:
    for low, high in ((None, 3.0), (3.0, 3.0), (4.0, 3.0)):
        with pytest.raises(ValidationError):
            KINDS[kind](guidance=low, guidance_to=high)
    assert KINDS[kind](guidance=2.0, guidance_to=3.0).scale() == Uniform(2.0, 3.0)  # type: ignore[attr-defined]


def test_a_recipe_fixes_what_belongs_to_it() -> None:
    assert Recipe().objective.build(flow(), share_rollout=True).share_rollout  # type: ignore[attr-defined]


def test_score_identity_leaves_out_the_noisiest_fifth_of_the_grid() -> None:
    process = edm()
    t = SiDConfig().times.build(process)((4000,), Step(0, 1, Key(0)), Key(0))
    edge = float(process.grid(5)[1])
    assert process.t_min <= float(t.min())
    assert 0.9 * edge < float(t.max()) < edge


@pytest.mark.parametrize("kind", ["natural", "lognormal", "logit-normal"])
@pytest.mark.parametrize("process", [edm(), flow(), Masked(4)])
def test_time_laws_stay_inside_their_process(kind: str, process: Any) -> None:
    law = TimesConfig.model_validate(kind).build(process)
    t = law((2000,), Step(0, 1, Key(0)), Key(1))
    assert t.dtype == torch.float64
    assert process.t_min <= float(t.min())
    assert float(t.max()) <= process.t_max


@pytest.mark.parametrize("kind", ["natural", "lognormal", "logit-normal"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_times_of_a_chain_are_whole(kind: Any, shift: float) -> None:
    law = TimesConfig(kind=kind, shift=shift)
    draw = lambda process: law.build(process)((2000,), Step(0, 1, Key(0)), Key(1))  # noqa: E731
    t = draw(ddpm())
    assert torch.equal(t, t.round())
    assert float(t.min()) >= 0.0
    assert float(t.max()) <= 999.0
    other = draw(vp())
    assert not torch.equal(other, other.round())


def test_the_customary_weight_follows_the_process() -> None:
    t = torch.tensor([0.5], dtype=torch.float64)
    assert float(weights.customary(edm(), t)) == pytest.approx((0.25 + 0.25) / 0.0625)
    assert float(weights.customary(Masked(3), t)) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="sigma"):
        weights.edm(Masked(3), t)


def test_weights_have_their_closed_forms() -> None:
    t = torch.tensor([0.25], dtype=torch.float64)
    ratio = (0.75 / 0.25) ** 2
    expected = {
        weights.one: 1.0,
        weights.snr: ratio,
        weights.score: ratio,
        weights.truncated_snr: ratio,
        weights.min_snr(5.0): 5.0,
        weights.dreamfusion: 0.75 * 0.25,
    }
    for weight, value in expected.items():
        assert float(weight(flow(), t)) == pytest.approx(value)


def test_reading_settings_does_not_import_torch() -> None:
    code = "import sys, fewstep.config.objectives as o; o.SiDConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
