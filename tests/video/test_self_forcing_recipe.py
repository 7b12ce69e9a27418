"""The recipe from configuration to files, at a size of seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fewstep.engine import execute
from fewstep.protocol import Key, Site, Step
from fewstep_video.files import decode
from fewstep_video.plugin import PAPER, SMOKE, fewstep_recipes
from fewstep_video.self_forcing.config import SelfForcingConfig, StreamOptions
from fewstep_video.self_forcing.recipe import build

TINY = {
    "clip.width": 12,
    "clip.frames": 4,
    "network.width": 16,
    "network.depth": 1,
    "network.heads": 2,
    "roll.steps": 2,
    "teaching.steps": 2,
    "teaching.rows": 2,
    "warming.steps": 2,
    "warming.rows": 2,
    "distilling.steps": 2,
    "distilling.rows": 2,
    "teacher_steps": 2,
    "samples": 4,
}


def configured(changes: Mapping[str, Any]) -> SelfForcingConfig:
    """The default configuration with dotted changes."""
    values = SelfForcingConfig().model_dump()
    for dotted, value in changes.items():
        *groups, name = dotted.split(".")
        here = values
        for group in groups:
            here = here[group]
        here[name] = value
    return SelfForcingConfig.model_validate(values)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    site = Site(Key(0), tmp_path_factory.mktemp("cache"))
    plan = build(configured(TINY), site)
    return plan, execute(plan, site)


def test_every_contender_draws_clips_of_the_right_shape(tiny):
    plan, shelf = tiny
    batch = plan.product.evaluation(4, Key(1))
    for name, sampler in plan.product.contenders.items():
        roles = {role: shelf[role] for role in sampler.roles}
        with torch.no_grad():
            state = list(sampler.fn(roles, batch, Step.inference(Key(2))))[-1]
        assert state.x.shape == batch.x.shape, name


def test_the_student_streams_longer_than_it_was_trained_into_files(tiny, tmp_path):
    plan, shelf = tiny
    batch = plan.product.request(StreamOptions(frames=48, digit=7), 2, Key(0))
    x = shelf["student"].sample(batch, Step.inference(Key(0))).x
    written = plan.product.write(x, batch, tmp_path)
    assert [path.name for path in written] == ["00-digit-7.mp4", "01-digit-7.mp4"]
    assert decode(written[0]).shape[0] == 48


def test_the_last_stage_goes_on_from_the_warm_student_not_from_the_teacher(tmp_path):
    changes = {**TINY, "warming.lr": 0.5, "distilling.lr": 1e-12}
    site = Site(Key(0), tmp_path)
    shelf = execute(build(configured(changes), site), site)
    name = "net.read.weight"
    before, after, teacher = (shelf[role].state_dict()[name] for role in ("before", "student", "teacher"))
    assert torch.allclose(before, after, atol=1e-6)
    assert not torch.allclose(teacher, after, atol=1e-2)


def test_another_objective_takes_the_same_student(tmp_path):
    changes = {**TINY, "objective": {"kind": "sid", "critic_updates": 1}}
    site = Site(Key(0), tmp_path)
    assert "student" in execute(build(configured(changes), site), site)


def test_a_teacher_from_a_file_needs_no_teacher_stage(tiny, tmp_path):
    from safetensors.torch import save_file

    _, shelf = tiny
    save_file(shelf["teacher"].state_dict(), tmp_path / "teacher.safetensors")
    given = {"teacher": {"kind": "checkpoint", "path": str(tmp_path / "teacher.safetensors")}}
    site = Site(Key(0), tmp_path)
    plan = build(configured({**TINY, **given}), site)
    assert [stage.name for stage in plan.stages] == ["warm", "student"]
    assert torch.equal(
        execute(plan, site)["teacher"].state_dict()["net.read.weight"],
        shelf["teacher"].state_dict()["net.read.weight"],
    )


@pytest.mark.parametrize("preset", [SMOKE, PAPER])
def test_presets_build_without_weights(preset, tmp_path):
    config = configured(preset)
    with torch.device("meta"):
        from fewstep.processes import flow
        from fewstep_video.self_forcing.recipe import _teacher

        net = _teacher(config, flow()).net
    assert len(net.layers) == config.network.depth


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clip.width": 10}, "does not tile"),
        ({"network.width": 20, "network.heads": 4}, "multiple of twice"),
        ({"roll.block": 9}, "longer than a clip"),
        ({"clip.frames": 0}, "greater than or equal to 2"),
        ({"roll.steps": -1}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        configured(changes)


@pytest.mark.parametrize("options", [{"frames": 0}, {"frames": -3}, {"digit": 10}])
def test_requests_that_cannot_be_met_are_refused(options):
    with pytest.raises(ValidationError):
        StreamOptions(**options)


def test_every_gate_names_a_metric_and_contenders_of_the_product(tiny):
    plan, _ = tiny
    (spec,) = fewstep_recipes()
    for gate in spec.gates:
        assert gate.metric in [metric.name for metric in plan.product.metrics]
        assert {gate.of, gate.control} <= set(plan.product.contenders)
