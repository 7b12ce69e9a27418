"""The recipe of pipelines in its smallest size: taught or given, distilled, asked for sounds, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Denoiser, Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate

pytest.importorskip("diffusers", reason="needs fewstep[diffusers]")
pytest.importorskip("transformers", reason="needs fewstep[diffusers]")

from fewstep_audio.pipelines import recipe
from fewstep_audio.pipelines.config import PipelineConfig
from fewstep_audio.pipelines.mels import MelTeacher
from fewstep_audio.pipelines.product import PromptOptions, distance
from fewstep_audio.pipelines.sounds import encoded, prompts_of, recorded, tones
from fewstep_audio.pipelines.teachers import PipelineTeacher
from fewstep_audio.pipelines.tiny import tiny_pipeline

TINIEST = {"tones": 16, "teacher_updates": 2, "teacher_steps": 2, "updates": 2, "batch": 2, "held_out": 4}


def made(cache: Path, **settings: Any) -> tuple[Plan, Shelf]:
    config = PipelineConfig.model_validate({**TINIEST, "seconds": 0.25, **settings})
    site = Site(Key(config.seed), cache)
    plan = recipe.build(config, site)
    return plan, execute(plan, site)


@pytest.fixture(scope="module")
def plain(cache: Path) -> tuple[Plan, Shelf]:
    return made(cache)


def drawn(plan: Plan, shelf: Shelf, folder: Path, contender: str = "student", **asked: Any) -> list[Path]:
    batch = plan.product.request(PromptOptions(**asked), 1, Key(2))
    *_, last = plan.product.contenders[contender].fn(shelf, batch, Step.inference(Key(3)))
    return list(plan.product.write(last.x, batch, folder))


@pytest.mark.slow
def test_a_tiny_pipeline_is_taught_distilled_and_asked_for_a_sound(
    plain: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    plan, shelf = plain
    rows = {row.contender: row.evaluations for row in evaluate(plan.product, shelf, Key(1)).rows}
    assert rows == {"teacher": 6, "student": 1, "teacher_few": 2}
    (file,) = drawn(plan, shelf, tmp_path, text="A low tone!", seconds=0.5, guidance=4.0)
    assert file.name == "00-a-low-tone.wav"
    assert soundfile.info(file).duration == pytest.approx(0.5)
    with pytest.raises(FewstepError, match="guidance 6 was asked for"):
        drawn(plan, shelf, tmp_path, guidance=6.0)
    with pytest.raises(FewstepError, match=r"makes 1\.024 seconds of sound, and 3 were"):
        drawn(plan, shelf, tmp_path, seconds=3.0)


def test_an_edit_begins_with_the_recording_that_the_pipeline_itself_drowns_in_noise(
    plain: tuple[Plan, Shelf], teacher: Callable[[str], PipelineTeacher], tmp_path: Path
) -> None:
    plan, shelf = plain
    field = teacher("StableAudioPipeline")
    soundfile.write(tmp_path / "one.wav", tones(1, 8000, 0.5).waves[0].numpy(), 8000)
    asked = PromptOptions(text="a low tone", seconds=0.5, like=str(tmp_path / "one.wav"), strength=0.2)
    batch = plan.product.request(asked, 1, Key(2))
    recording = batch.extra["begin"]
    for contender in ("teacher", "student"):
        *_, last = plan.product.contenders[contender].fn(shelf, batch, Step.inference(Key(3)))
        assert alike(last.x, recording) > 0.3  # of a network that has learned nothing
    pipe, noise = field.pipeline, Key(3).normal(recording)
    theirs = pipe.prepare_latents(1, *recording.shape[1:], noise.dtype, noise.device, None, noise)
    assert abs(alike(theirs + recording, recording)) < 0.1


def alike(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.slow
def test_a_given_folder_is_distilled_from_its_own_samples_without_any_sound(
    cache: Path, teacher: Callable[[str], PipelineTeacher], tmp_path: Path
) -> None:
    folder = tiny_pipeline("AceStepPipeline", 0, cache)
    told = tmp_path / "prompts.txt"
    told.write_text("rain\n\nwind\n")
    plan, shelf = made(
        cache,
        teacher={"kind": "diffusers", "path": str(folder)},
        prompts=str(told),
        pairs=2,
        objective="ode-pairs",
        guidance=2.0,
    )
    assert [stage.name for stage in plan.stages] == ["samples", "student"]
    own = teacher("AceStepPipeline").denoiser.net.state_dict()
    mine = shelf["teacher"].net.state_dict()
    assert all(torch.equal(own[name], mine[name]) for name in own)
    assert not torch.equal(own["inner.norm_out.weight"], shelf["student"].net.inner.norm_out.weight)
    assert drawn(plan, shelf, tmp_path / "out", text="rain")[0].name == "00-rain.wav"
    with pytest.raises(FewstepError, match="a student that learned 2 alone"):
        drawn(plan, shelf, tmp_path / "out", guidance=3.0)


def test_recordings_are_cut_described_by_the_text_beside_them_and_encoded_once(
    cache: Path, teacher: Callable[[str], PipelineTeacher], tmp_path: Path
) -> None:
    field = teacher("StableAudioPipeline")
    wave = tones(1, 8000, 1.3).waves[0].numpy()
    soundfile.write(tmp_path / "one.wav", wave, 8000)
    soundfile.write(tmp_path / "two.wav", wave, 16_000)
    (tmp_path / "one.txt").write_text("a bell")
    sounds = recorded(tmp_path, field.rate, 0.5, ("a drum", "a drum again"))
    assert [sounds.prompts[which] for which in sounds.which.tolist()] == ["a bell", "a bell", "a drum again"]
    assert sounds.waves.shape == (3, 4000)
    first = encoded(sounds, field, tmp_path / "kept")
    files = list((tmp_path / "kept").iterdir())
    assert torch.equal(first, encoded(sounds, field, tmp_path / "kept"))
    assert list((tmp_path / "kept").iterdir()) == files
    with pytest.raises(FewstepError, match="lasts 2 seconds"):
        recorded(tmp_path, field.rate, 2.0, ("a drum",))


class Louder(nn.Module):
    """A denoiser of mels from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(80, 80, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, cond: Cond) -> Tensor:
        return self.layer(x)


def make_mel_teacher() -> MelTeacher:
    return MelTeacher(Denoiser(Louder(), edm(), "edm"), longest=10.0, mean=-5.0, spread=4.0)


def test_a_denoiser_of_mels_from_anywhere_is_distilled_alike(cache: Path, tmp_path: Path) -> None:
    here = {"kind": "import", "target": f"{__name__}:make_mel_teacher"}
    plan, shelf = made(cache, teacher=here, pairs=2, objective="consistency", seconds=0.5)
    (file,) = drawn(plan, shelf, tmp_path, text="ignored")
    assert soundfile.info(file).samplerate == 22_050
    other = {"kind": "import", "target": "torch.nn:Identity"}
    with pytest.raises(FewstepError, match="returned Identity"):
        made(cache, teacher=other)


def test_a_prompt_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n \n")
    with pytest.raises(FewstepError, match="is empty"):
        prompts_of(str(tmp_path / "prompts.txt"))
    with pytest.raises(FewstepError, match="cannot be read"):
        prompts_of(str(tmp_path / "absent.txt"))


def test_a_scale_outside_of_what_the_student_hears_is_refused() -> None:
    with pytest.raises(ValidationError, match="guidance 9 is outside of what the student is told, 1 to 5"):
        PipelineConfig(guidance=9.0)


def test_distance_is_in_units_of_the_teachers_spread_and_needs_the_teachers_samples() -> None:
    theirs = Key(0).normal(torch.zeros(64, 5, 7))
    batch = Batch(torch.zeros(64, 5, 7), extra={"drawn": {"teacher": theirs}})
    assert distance().fn(theirs, batch, Key(1)).value == 0
    off = distance().fn(theirs + 2, batch, Key(1)).value
    assert off == pytest.approx(2 / float((theirs - theirs.mean(0)).square().mean().sqrt()), rel=1e-5)
    with pytest.raises(ValueError, match="teacher drew nothing"):
        distance().fn(theirs, Batch(torch.zeros(64, 5, 7)), Key(1))
