"""A teacher may be trained, loaded or imported; a bad one is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fewstep.config import (
    RecipeConfig,
    TeacherConfig,
    check_teacher,
    given_stage,
    left_beside,
    load_teacher,
    resolve,
)
from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.processes import ddpm
from fewstep.protocol import Cond, Denoiser, Key, Plan, Site, Stage, Task


def make() -> nn.Module:
    return nn.Linear(2, 3)


def make_other() -> nn.Module:
    return nn.Linear(2, 4)


def seven() -> int:
    return 7


def test_a_teacher_to_be_trained_is_none() -> None:
    assert load_teacher(TeacherConfig(), make) is None


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_gives_its_weights_frozen(tmp_path: Path, suffix: str) -> None:
    weights = make().state_dict()
    file = tmp_path / f"teacher.{suffix}"
    save_file(weights, file) if suffix == "safetensors" else torch.save({"state_dict": weights}, file)
    teacher = load_teacher(TeacherConfig(kind="checkpoint", path=str(file)), make)
    assert teacher is not None
    assert all(torch.equal(weights[name], value) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_ready_teacher_is_on_the_shelf_like_a_trained_one_frozen(tmp_path: Path) -> None:
    seen = []

    class Look:
        def run(self, shelf: object, key: Key) -> dict[str, object]:
            return {"seen": seen}

    def look(shelf: Mapping[str, nn.Module]) -> Task:
        seen.append(shelf["teacher"])
        return Look()

    teacher = make().train()
    plan = Plan((given_stage(teacher), Stage("next", look)), product=None)  # type: ignore[arg-type]
    shelf = execute(plan, Site(Key(0), cache=tmp_path))
    assert seen == [teacher]
    assert shelf["teacher"] is teacher
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_run_folder_gives_its_exported_teacher(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    save_file(make().state_dict(), tmp_path / "export" / "teacher.safetensors")
    assert load_teacher(TeacherConfig(kind="checkpoint", path=str(tmp_path)), make) is not None


def test_what_else_the_stage_of_a_given_run_left_is_loaded_where_it_is(tmp_path: Path) -> None:
    given, left = TeacherConfig(kind="checkpoint", path=str(tmp_path)), tmp_path / "stages" / "teacher"
    left.mkdir(parents=True)
    save_file(weights := make().state_dict(), left / "weaker.safetensors")
    weaker = left_beside(given, "weaker", make)
    assert weaker is not None
    assert all(torch.equal(weights[name], value) for name, value in weaker.state_dict().items())
    assert not any(parameter.requires_grad for parameter in weaker.parameters())
    assert left_beside(given, "stronger", make) is None
    with pytest.raises(FewstepError, match="belong to another network"):
        left_beside(given, "weaker", make_other)


def test_an_absent_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="does not exist"):
        check_teacher(TeacherConfig(kind="checkpoint", path=str(tmp_path / "absent.safetensors")))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_corrupt_checkpoint_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"teacher.{suffix}"
    file.write_bytes(b"\x00\x01 not weights" * 9)
    with pytest.raises(FewstepError, match="cannot be read"):
        check_teacher(TeacherConfig(kind="checkpoint", path=str(file)))


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    save_file(make().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(FewstepError, match="cannot be read"):
        check_teacher(TeacherConfig(kind="checkpoint", path=str(file)))


def test_code_inside_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",)

    torch.save({"weight": Trap()}, tmp_path / "teacher.pt")
    with pytest.raises(FewstepError, match="cannot be read") as refused:
        check_teacher(TeacherConfig(kind="checkpoint", path=str(tmp_path / "teacher.pt")))
    assert "weights_only" not in str(refused.value)  # torch's text would advise to run the code
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_network_are_refused_by_name_and_shape(tmp_path: Path) -> None:
    save_file(make_other().state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(FewstepError, match=r"weight: shape \(4, 2\), the network has \(3, 2\)"):
        load_teacher(TeacherConfig(kind="checkpoint", path=str(tmp_path / "t.safetensors")), make)


def test_code_of_the_user_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_teacher.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Linear(1, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    teacher = load_teacher(TeacherConfig(kind="import", target="mine_teacher:net"), make)
    assert isinstance(teacher, nn.Linear)
    assert teacher.in_features == 1


@pytest.mark.parametrize("target", ["no_such_module:net", "math:no_such_name"])
def test_code_that_cannot_be_imported_is_refused(target: str) -> None:
    with pytest.raises(FewstepError, match=r"teacher\.target"):
        check_teacher(TeacherConfig(kind="import", target=target))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"no config\.json"):
        check_teacher(TeacherConfig(kind="diffusers", path=str(tmp_path)))


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["teacher=checkpoint"], "needs teacher.path"),
        (["teacher.kind=import", "teacher.target=math"], "module:callable"),
        (["teacher.path=x.pt"], "did you want kind 'checkpoint'"),
        (["teacher.target=a:b"], "did you want kind 'import'"),
    ],
)
def test_fields_that_do_not_belong_together_are_refused(sets: list[str], told: str) -> None:
    with pytest.raises(FewstepError, match=told):
        resolve(RecipeConfig, sets=sets)


def test_a_stock_network_of_diffusers_takes_its_inputs_by_name(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs fewstep[diffusers]")
    stock = diffusers.UNet2DModel(
        sample_size=4,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        layers_per_block=1,
        add_attention=False,
        num_class_embeds=3,
    ).eval()
    stock.save_pretrained(tmp_path / "unet")
    told = TeacherConfig(kind="diffusers", path=str(tmp_path), subfolder="unet")
    check_teacher(told)
    teacher = load_teacher(told, lambda: Denoiser(nn.Identity(), ddpm(), "eps"))
    assert isinstance(teacher, Denoiser)
    x, time, labels = torch.randn(2, 1, 4, 4), torch.tensor([3.0, 700.0]), torch.tensor([0, 2])
    found = teacher(x, time.double(), Cond({"class_labels": labels})).raw
    assert torch.equal(found, stock(x, time, class_labels=labels).sample)


def test_a_whole_pipeline_is_accepted_for_a_recipe_that_knows_its_parts_and_a_part_is_asked_of_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    told = TeacherConfig(kind="diffusers", path=str(tmp_path))
    check_teacher(told)
    with pytest.raises(FewstepError, match=r"teacher\.subfolder at the network"):
        load_teacher(told, make)
