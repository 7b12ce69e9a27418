"""Students of pipelines: they are told guidance, are written back as pipelines, and run there without fewstep."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Denoiser, Key, Step
from fewstep.samplers import FewStep

pytest.importorskip("diffusers", reason="needs fewstep[diffusers]")
pytest.importorskip("transformers", reason="needs fewstep[diffusers]")

from asking import KINDS, SECONDS, Asked, Told, at

from fewstep_audio.pipelines.adapters import load_teacher_pipeline
from fewstep_audio.pipelines.folder import write_pipeline
from fewstep_audio.pipelines.loading import load_pipeline
from fewstep_audio.pipelines.network import PipelineNetwork
from fewstep_audio.pipelines.teachers import PipelineTeacher
from fewstep_audio.pipelines.tiny import tiny_pipeline

# ---- guidance as an input of the student


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_is_told_a_scale_begins_as_its_teacher_and_a_settled_scale_is_the_told_one(
    teacher: Callable[[str], PipelineTeacher], kind: str, asked: Asked
) -> None:
    field = teacher(kind)
    batch, x = asked(field)
    student = told_student(field, steps=1)
    plain = Denoiser(copied(field), field.process, field.prediction)
    time, scale = at(field.times(2)[1]), torch.full((2,), 4.0)
    with torch.no_grad():
        taught = field.denoiser(x, time, batch.cond).x0
        begun = plain(x, time, batch.cond, guidance=scale).x0
        assert torch.allclose(begun, taught, atol=1e-5 * float(taught.abs().max()))
        told = student(x, time, batch.cond, guidance=scale).raw
        other = student(x, time, batch.cond, guidance=scale + 1).raw
        assert isinstance(student.net, PipelineNetwork)
        settled = PipelineNetwork(student.net.settled(4.0), field.ask, field.clock)
        alone = Denoiser(settled, field.process, field.prediction)(x, time, batch.cond).raw
    assert torch.allclose(told, alone, atol=1e-5)
    assert not torch.allclose(told, other, atol=1e-3)


def told_student(field: PipelineTeacher, steps: int) -> FewStep:
    """A student that has learned something, whatever it is, and is told guidance."""
    net = copied(field)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.add_(0.05 * Key(9).at(name).normal(weight))
    return FewStep(net.eval(), field.process, field.prediction, field.times(steps), guidance=4.0)


def copied(field: PipelineTeacher) -> PipelineNetwork:
    net = field.denoiser.net
    assert isinstance(net, PipelineNetwork)
    return net.copied(told=True)


# ---- back into a pipeline


ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
import diffusers
from safetensors.torch import load_file, save_file
found = {}
for place in sys.argv[1:]:
    folder = Path(place)
    told = json.loads((folder / "fewstep.json").read_text())
    given = load_file(folder.parent / (folder.name + ".inputs.safetensors"))
    pipe = getattr(diffusers, told["pipeline"]).from_pretrained(folder, local_files_only=True)
    call = dict(told["call"])
    embeds = {name: value for name, value in given.items() if name == "prompt_embeds"}
    prompt = {} if embeds else {"prompt": ["a low tone", "a high pulse"]}
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    if told["pipeline"] == "AceStepPipeline":
        call["lyrics"] = ["", ""]  # its own default fits one prompt only
    found[folder.name] = pipe(
        **prompt, **embeds, **call, latents=given["noise"], generator=generator, output_type="latent"
    ).audios
assert "fewstep" not in sys.modules and "fewstep_audio" not in sys.modules
save_file(found, Path(sys.argv[1]).parent / "found.safetensors")
"""


@pytest.mark.slow
def test_students_run_in_their_pipelines_without_fewstep_and_make_the_same_latents(
    teacher: Callable[[str], PipelineTeacher], tmp_path: Path, asked: Asked, recorded: Told
) -> None:
    ours: dict[str, Tensor] = {}
    for kind, steps in itertools.product(KINDS, (1, 3)):
        field, name = teacher(kind), f"{kind}-{steps}"
        batch, noise = asked(field)
        student = told_student(field, steps)
        write_pipeline(student, field, tmp_path / name, 4.0, SECONDS)
        given = {"noise": noise}
        if kind == "MusicLDMPipeline":
            given["prompt_embeds"] = batch.cond.data["given"]["class_labels"].contiguous()
        save_file(given, tmp_path / f"{name}.inputs.safetensors")
        torch.manual_seed(7)
        fresh = [torch.randn(noise.shape) for _ in range(steps)]
        known = FewStep(student.net, field.process, field.prediction, student.times, guidance=4.0)
        known.process = recorded(field, fresh)
        with torch.no_grad():
            ours[name] = known.sample(batch, Step.inference(Key(0)), noise=noise).x
    folders = [str(tmp_path / name) for name in ours]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = load_file(tmp_path / "found.safetensors")
    apart = {name: float((ours[name] - theirs[name]).abs().max() / ours[name].abs().max()) for name in ours}
    assert max(apart.values()) < 1e-4, apart


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"times": (1.4, 0.7)}, "its steps begin at 1.4, 0.7"),
        ({"rule": "ddim"}, "it follows the rule 'ddim'"),
        ({"prediction": "x0"}, "its network predicts 'x0'"),
    ],
)
def test_a_student_whose_steps_no_scheduler_takes_is_not_written(
    teacher: Callable[[str], PipelineTeacher], tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    field = teacher("StableAudioPipeline")
    student = told_student(field, steps=2)
    for name, value in change.items():
        setattr(student, name, value)
    with pytest.raises(FewstepError, match=told):
        write_pipeline(student, field, tmp_path / "there", 4.0, SECONDS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_seen_half_written(
    teacher: Callable[[str], PipelineTeacher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, seen = teacher("StableAudioPipeline"), []

    def watched(self: Path, target: Path) -> Path:
        seen.append((self / "fewstep.json").is_file() and not target.exists())
        raise OSError("killed")

    monkeypatch.setattr(Path, "rename", watched)
    with pytest.raises(OSError, match="killed"):
        write_pipeline(told_student(field, steps=1), field, tmp_path / "there", 4.0, SECONDS)
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []


# ---- folders


def test_a_folder_without_a_pipeline_and_a_pipeline_without_an_adapter_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match=r"is no pipeline: model_index\.json is missing"):
        load_teacher_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(FewstepError, match="holds a FluxPipeline, for which there is no adapter"):
        load_teacher_pipeline(tmp_path)


def test_a_pipeline_whose_weights_are_gone_is_refused(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(tiny_pipeline("StableAudioPipeline", 0, cache), folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FewstepError, match="diffusers cannot load the StableAudioPipeline"):
        load_pipeline(folder)
