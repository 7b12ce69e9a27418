"""Both recipes through the engine, and what users may ask of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from fewstep.engine import AssemblyError, execute
from fewstep.errors import FewstepError
from fewstep.plugins.specs import resolve
from fewstep.protocol import Key, Plan, Site, Step
from fewstep.runs.evaluation import draw
from fewstep_protein.designs.request import BackboneRequest
from fewstep_protein.metrics import hands, shares, sizes
from fewstep_protein.plugin import fewstep_recipes
from fewstep_protein.sid_backbone import recipe
from fewstep_protein.sid_backbone.config import BackboneConfig
from fewstep_protein.sid_backbone.parity import to_teacher
from fewstep_protein.structures import files, segments

TINY = {
    "shortest": 8,
    "longest": 12,
    "network": {"width": 16, "rounds": 1, "layers": 1, "heads": 2},
    "steps": 2,
    "teacher_updates": 2,
    "teacher_batch": 2,
    "teacher_steps": 3,
    "updates": 2,
    "batch": 2,
    "samples": 4,
}


def tiny(tmp_path: Path, **changes: object) -> tuple[Plan, Site]:
    config = BackboneConfig.model_validate({**TINY, **changes})
    site = Site(key=Key(config.seed), cache=tmp_path)
    return recipe.build(config, site), site


def test_a_backbone_student_calls_its_network_once_per_step(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    shelf, batch = execute(plan, site), plan.product.evaluation(2, Key(1))
    contenders = plan.product.contenders.items()
    assert plan.product.portable is not None
    calls = {name: draw(name, made, shelf, batch, Key(2)).evaluations for name, made in contenders}
    asked = {"asked_alpha": 2, "asked_beta": 2, "teacher_one_call": 1}
    assert calls == {"student": 2, "teacher": 3, "teacher_fewstep": 2, "teacher_ode": 2, **asked}
    (graph,) = plan.product.portable(shelf, Key(3)).graphs
    widths = [{tuple(x.shape[:2]) for x in given} for given, _ in graph.examples]
    assert widths == [{(2, 10)}, {(3, 11)}], "count and length are free where examples differ in them"


def test_progressive_students_teach_the_next_round_and_walk_as_they_were_taught(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective={"kind": "progressive", "halvings": 2})
    assert [stage.name for stage in plan.stages] == ["teacher", "student-4", "student"]
    shelf = execute(plan, site)
    last = plan.stages[-1].build(shelf)
    assert last.roles["teacher"] is shelf["student-4"]
    assert (len(shelf["student-4"].times), len(shelf["student"].times)) == (4, 2)
    assert shelf["student"].rule == "ddim"
    assert shelf["student-4"].times[::2] == shelf["student"].times


def test_samples_of_an_asked_length_become_files_of_that_length(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    student = execute(plan, site)["student"]
    batch = plan.product.request(BackboneRequest(length=17), 3, Key(2))
    made = student.sample(batch, Step.inference(Key(3))).x
    paths = plan.product.write(made, batch, tmp_path / "files")
    assert len(paths) == 6
    assert {len(files.read_chain(path)) for path in paths} == {17}


def test_a_student_puts_centered_chains_forward(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path)
    batch = plan.product.evaluation(4, Key(2))
    made = execute(plan, site)["student"].sample(batch, Step.inference(Key(3))).x
    torch.testing.assert_close(made.sum(1), torch.zeros(4, 3), atol=1e-4, rtol=0)
    assert float((made * ~batch.mask).abs().max()) == 0


@pytest.mark.parametrize("objective", ["dmd", "diff-instruct", "denoising"])
def test_another_objective_of_the_core_trains_the_same_student(objective: str, tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective=objective)
    assert "student" in execute(plan, site)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"kind": "sid", "guidance": 2.0}},
        {"objective": {"kind": "sid", "guidance": 2.0}, "autoguidance": 0.5},
        {"objective": {"kind": "dmd2", "guidance": 1.5}, "autoguidance": 1.0},
        {"fake_reset": 1, "restarts": 1},
        {"fake": "shared", "steps": 1},
    ],
)
def test_guided_teachers_renewed_fakes_and_single_steps_train(
    changes: dict[str, object], tmp_path: Path
) -> None:
    plan, site = tiny(tmp_path, **changes)
    assert "student" in execute(plan, site)


def test_a_given_run_brings_the_early_self_of_its_teacher_and_a_file_has_none(tmp_path: Path) -> None:
    shelf = execute(*tiny(tmp_path), tmp_path / "run")
    (tmp_path / "run" / "export").mkdir()
    exported = tmp_path / "run" / "export" / "teacher.safetensors"
    save_file(shelf["teacher"].state_dict(), exported)
    guided = {"objective": {"kind": "sid", "guidance": 2.0}, "autoguidance": 1.0}
    given = {"kind": "checkpoint", "path": str(tmp_path / "run")}
    again = execute(*tiny(tmp_path, teacher=given, **guided))
    for name in ("teacher", "early"):
        torch.testing.assert_close(again[name].state_dict(), shelf[name].state_dict())
    with pytest.raises(
        FewstepError, match=r"autoguidance needs an early checkpoint.*teacher.safetensors has none"
    ):
        tiny(tmp_path, teacher={**given, "path": str(exported)}, **guided)


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ((40, 40, 0), "no held-out segment"),
        ((40, 40, 7), "no held-out chain fits the settings: .* got 8 to 7"),
        ((11, 11, 40), "the longest here has 11"),
    ],
)
def test_data_that_cannot_be_measured_against_are_refused_before_a_training(
    lengths: tuple[int, int, int], told: str, tmp_path: Path
) -> None:
    real = [s for s in segments.structures() if len(s.coordinates) >= 40]
    some = [
        replace(s, coordinates=s.coordinates[:n], sequence=s.sequence[:n], backbone=None, held_out=side == 2)
        for side, (s, n) in enumerate(zip(real, lengths, strict=False))
        if n
    ]
    segments.save(tmp_path / "mine.npz", some)
    with pytest.raises(FewstepError, match=told):
        execute(*tiny(tmp_path, data={"path": str(tmp_path / "mine.npz")}))


def test_the_early_checkpoint_is_an_earlier_teacher(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, teacher_updates=8, early=0.5)
    shelf = execute(plan, site)
    early, late = (shelf[name].net.rounds[0].steer.weight for name in ("early", "teacher"))
    assert float(early.abs().sum()) > 0
    assert not torch.allclose(early, late)


@pytest.mark.parametrize("solver", ["sde", "ode", "proteina"])
def test_teachers_are_drawn_by_any_of_the_solvers_in_the_asked_calls(solver: str, tmp_path: Path) -> None:
    plan, _ = tiny(tmp_path, teacher_solver=solver, teacher_steps=7)
    shelf = {"teacher": recipe.make_teacher(BackboneConfig.model_validate(TINY))}
    found = draw(
        "teacher", plan.product.contenders["teacher"], shelf, plan.product.evaluation(2, Key(1)), Key(2)
    )
    assert found.evaluations == 7


def test_a_teacher_is_at_no_distance_from_itself_and_others_are_held_against_it() -> None:
    batch = recipe.evaluation(BackboneConfig.model_validate(TINY), 6, Key(1))
    teacher, mask = 1.2 * batch.x, batch.mask
    beside = replace(batch, extra={"drawn": {"teacher": teacher}})
    metrics = {
        metric.name: metric.fn for metric in to_teacher(sizes.metrics() + hands.metrics() + shares.metrics())
    }
    assert set(metrics) == {f"{name}_to_teacher" for name in ("rg", "pair", "dihedral", "secondary")}
    assert [fn(teacher * mask, beside, Key(2)).value for fn in metrics.values()] == pytest.approx([0] * 4)
    assert metrics["rg_to_teacher"](batch.x, beside, Key(2)).value > 0.5
    assert metrics["rg_to_teacher"](batch.x, batch, Key(2)).value == pytest.approx(0)


def test_an_objective_that_needs_a_reward_is_refused_before_training(tmp_path: Path) -> None:
    plan, site = tiny(tmp_path, objective="pso")
    with pytest.raises(AssemblyError, match="this recipe has no reward"):
        plan.stages[-1].build({"teacher": recipe.make_teacher(BackboneConfig.model_validate(TINY))})
    assert site.key == Key(0)


def test_every_preset_is_a_legal_configuration() -> None:
    for spec in fewstep_recipes():
        for preset in spec.presets.values():
            resolve(spec.config).model_validate(nested(preset))


def test_every_recipe_has_a_gate_in_its_default_and_smoke_profiles() -> None:
    for spec in fewstep_recipes():
        assert spec.gates_of("default")
        assert spec.gates_of("smoke")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shortest": 0},
        {"longest": -4},
        {"shortest": 30, "longest": 20},
        {"steps": 0},
        {"batch": 0},
        {"finest": 0.9},
    ],
)
def test_sizes_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BackboneConfig.model_validate(wrong)


@pytest.mark.parametrize("length", [0, -1, 5, 100_000])
def test_lengths_that_no_backbone_has_are_refused(length: int) -> None:
    with pytest.raises(ValidationError):
        BackboneRequest(length=length)


def test_a_width_that_the_heads_cannot_share_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValidationError, match="width 10 must be a multiple of heads 4"):
        BackboneConfig.model_validate({"network": {"width": 10}})


def nested(flat: object) -> dict[str, object]:
    """Dotted paths as nested mappings."""
    out: dict[str, object] = {}
    for path, value in dict(flat).items():  # type: ignore[call-overload]
        here = out
        *parents, last = path.split(".")
        for parent in parents:
            here = here.setdefault(parent, {})  # type: ignore[assignment]
        here[last] = value
    return out
