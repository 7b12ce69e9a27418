"""Teachers from the field: tiny random pipelines, saved, loaded by diffusers, compared with it, and written back."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.processes import edm
from fewstep.protocol import Batch, Cond, Denoiser, Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep.samplers import FewStep, ancestral, ddim

pytest.importorskip("diffusers", reason="needs fewstep[diffusers]")
pytest.importorskip("transformers", reason="needs fewstep[diffusers]")

from fewstep_audio.pipelines import recipe
from fewstep_audio.pipelines.adapters import load_teacher_pipeline
from fewstep_audio.pipelines.config import PipelineConfig
from fewstep_audio.pipelines.folder import write_pipeline
from fewstep_audio.pipelines.loading import load_pipeline
from fewstep_audio.pipelines.mels import MelTeacher
from fewstep_audio.pipelines.network import PipelineNetwork
from fewstep_audio.pipelines.product import PromptOptions, distance
from fewstep_audio.pipelines.sounds import encoded, prompts_of, recorded, tones
from fewstep_audio.pipelines.teachers import PipelineTeacher
from fewstep_audio.pipelines.tiny import TINY, tiny_pipeline

PROMPTS = ("a low tone", "a high pulse")
SECONDS = 0.3
KINDS = tuple(TINY)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="module")
def teacher(cache: Path) -> Callable[[str], PipelineTeacher]:
    """By class of the pipeline, from its folder; loaded once."""
    made: dict[str, PipelineTeacher] = {}

    def find(kind: str) -> PipelineTeacher:
        if kind not in made:
            made[kind] = load_teacher_pipeline(tiny_pipeline(kind, 0, cache))
        return made[kind]

    return find


def asked(teacher: PipelineTeacher) -> tuple[Batch, Tensor]:
    """Two prompts, and the noise for them."""
    shape = teacher.shape(SECONDS)
    batch = Batch(like=torch.zeros(2, *shape), cond=Cond(teacher.encode(PROMPTS, SECONDS)))
    return batch, Key(3).normal(batch.like)


def at(time: float) -> Tensor:
    return torch.full((2,), time, dtype=torch.float64)


# ---- what a teacher offers


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_alpha_times_the_clean_estimate_plus_sigma_times_the_noise_estimate(
    teacher: Callable[[str], PipelineTeacher], kind: str
) -> None:
    field = teacher(kind)
    batch, x = asked(field)
    process, model = field.process, field.guided(field.denoiser, 3.0)
    for time in process.grid(3)[:-1].tolist():
        found = model(x, at(time), batch.cond)
        noise = process.eps(x, found, at(time))
        again = float(process.alpha(at(time))[0]) * found.x0 + float(process.sigma(at(time))[0]) * noise
        assert torch.allclose(again, x, atol=1e-5 * float(found.x0.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_becomes_latents_and_latents_a_recording(
    teacher: Callable[[str], PipelineTeacher], kind: str
) -> None:
    field = teacher(kind)
    wave = 0.3 * torch.sin(torch.arange(int(SECONDS * field.rate)) * 0.3).expand(2, -1)
    latents = field.latents(wave)
    assert latents.shape == (2, *field.shape(SECONDS))
    heard = field.decode(latents, SECONDS)
    assert heard.ndim == 3
    assert heard.shape[-1] == pytest.approx(SECONDS * field.rate, abs=field.rate * 0.05)


def test_the_levels_of_stable_audio_are_those_of_its_scheduler_in_the_notation_of_karras(
    teacher: Callable[[str], PipelineTeacher],
) -> None:
    field = teacher("StableAudioPipeline")
    _, noise = asked(field)
    scheduler = cosine_scheduler(field)
    scheduler.set_timesteps(5)
    times = field.process.grid(5)[:-1]
    clean = torch.ones_like(noise)
    for time, level in zip(times.tolist(), scheduler.sigmas[:-1].tolist(), strict=True):
        x, sigma = field.edm(field.process.corrupt(clean, noise, at(time)), at(time))
        assert float(sigma[0]) == pytest.approx(level, rel=1e-5)
        assert torch.allclose(x, clean + level * noise, rtol=1e-5, atol=1e-5 * level)
    assert (float(scheduler.sigmas[0]), float(scheduler.sigmas[-2])) == pytest.approx((500, 0.3), rel=1e-5)


# ---- one step as the pipeline's own scheduler takes it


def cosine_module() -> Any:
    """The module of Stable Audio's scheduler. It imports torchsde, for noise that a test gives anyhow."""
    if "torchsde" not in sys.modules:
        sys.modules["torchsde"] = types.ModuleType("torchsde")
    from diffusers.schedulers import scheduling_cosine_dpmsolver_multistep

    return scheduling_cosine_dpmsolver_multistep


def cosine_scheduler(field: PipelineTeacher) -> Any:
    """Stable Audio's scheduler with first-order steps, as every scheduler begins and this one ends."""
    made = cosine_module().CosineDPMSolverMultistepScheduler
    return made.from_config({**field.pipeline.scheduler.config, "solver_order": 1})


@pytest.mark.parametrize("kind", ["AudioLDM2Pipeline", "MusicLDMPipeline"])
def test_a_step_of_ddim_is_that_of_the_pipelines_scheduler(
    teacher: Callable[[str], PipelineTeacher], kind: str
) -> None:
    field = teacher(kind)
    batch, x = asked(field)
    scheduler = field.pipeline.scheduler
    scheduler.set_timesteps(10)
    times = [float(time) for time in scheduler.timesteps[3:5]]
    found = field.denoiser(x, at(times[0]), batch.cond)
    theirs = scheduler.step(found.raw, int(times[0]), x).prev_sample
    ours = field.process.jump(x, found, at(times[0]), at(times[1]))
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_a_step_along_the_flow_is_that_of_the_schedulers_euler(
    teacher: Callable[[str], PipelineTeacher],
) -> None:
    field = teacher("AceStepPipeline")
    batch, x = asked(field)
    scheduler = field.pipeline.scheduler
    scheduler.set_timesteps(sigmas=list(field.times(6)))
    times = field.times(6)[:2]
    found = field.denoiser(x, at(times[0]), batch.cond)
    theirs = scheduler.step(found.raw, scheduler.timesteps[0], x).prev_sample
    assert torch.allclose(field.process.jump(x, found, at(times[0]), at(times[1])), theirs, atol=1e-5)


def test_a_noisy_step_of_stable_audio_is_the_posterior(teacher: Callable[[str], PipelineTeacher]) -> None:
    field = teacher("StableAudioPipeline")
    batch, x = asked(field)
    noise = Key(4).normal(x)
    scheduler = cosine_scheduler(field)
    scheduler.set_timesteps(6)
    scheduler.noise_sampler = lambda one, two: noise
    now, then = (at(float(time)) for time in field.process.grid(6)[1:3])
    scheduler._step_index = 1
    found = field.denoiser(x, now, batch.cond)
    state, _ = field.edm(x, now)
    theirs = scheduler.step(found.raw, scheduler.timesteps[1], state).prev_sample
    ours, _ = field.edm(field.process.posterior(x, found, now, then, noise), then)
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


# ---- many steps as the pipeline takes them


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_many_steps_from_one_noise_are_audioldm2s_own(
    teacher: Callable[[str], PipelineTeacher], scale: float
) -> None:
    field = teacher("AudioLDM2Pipeline")
    batch, noise = asked(field)
    theirs = field.pipeline(
        list(PROMPTS),
        audio_length_in_s=SECONDS,
        num_inference_steps=4,
        guidance_scale=scale,
        latents=noise,
        output_type="latent",
    ).audios
    assert_same(along(field, scale, batch, noise), theirs)


def test_many_steps_from_one_noise_are_musicldms_own(teacher: Callable[[str], PipelineTeacher]) -> None:
    field = teacher("MusicLDMPipeline")
    batch, noise = asked(field)
    data = batch.cond.data
    theirs = field.pipeline(
        prompt_embeds=data["given"]["class_labels"],
        negative_prompt_embeds=data["null"]["class_labels"],
        audio_length_in_s=SECONDS,
        num_inference_steps=4,
        guidance_scale=3.5,
        latents=noise,
        output_type="latent",
    ).audios
    assert_same(along(field, 3.5, batch, noise), theirs)


def along(field: PipelineTeacher, scale: float, batch: Batch, noise: Tensor) -> Tensor:
    """DDIM over the scheduler's own times; its last step leads to the end of the chain, index -1."""
    times = torch.tensor([*field.pipeline.scheduler.timesteps.tolist(), -1], dtype=torch.float64)
    model = field.guided(field.denoiser, scale)
    with torch.no_grad():
        return list(itertools.islice(ddim(model, noise, times, batch.cond), 4))[-1].x


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_many_steps_from_one_noise_are_ace_steps_own(teacher: Callable[[str], PipelineTeacher]) -> None:
    field = teacher("AceStepPipeline")
    batch, noise = asked(field)
    theirs = ace_step(field, noise, 6, 1.0)
    with torch.no_grad():
        *_, end = ddim(field.denoiser, noise, torch.tensor(field.times(6)), batch.cond)
    assert_same(end.x, theirs)


def test_guidance_of_ace_step_is_its_own_where_it_has_no_past(
    teacher: Callable[[str], PipelineTeacher],
) -> None:
    field = teacher("AceStepPipeline")
    batch, noise = asked(field)
    theirs = ace_step(field, noise, 1, 4.0)
    with torch.no_grad():
        ours = field.guided(field.denoiser, 4.0)(noise, at(1.0), batch.cond).x0
        plain = field.denoiser(noise, at(1.0), batch.cond).x0
    assert_same(ours, theirs)
    assert not torch.allclose(plain, theirs, atol=1e-2)


def ace_step(field: PipelineTeacher, noise: Tensor, steps: int, scale: float) -> Tensor:
    found: Tensor = field.pipeline(
        list(PROMPTS),
        lyrics=["", ""],
        audio_duration=SECONDS,
        num_inference_steps=steps,
        guidance_scale=scale,
        latents=noise,
        output_type="latent",
    ).audios
    return found


@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_many_noisy_steps_from_the_same_noises_are_stable_audios_own(
    teacher: Callable[[str], PipelineTeacher], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = teacher("StableAudioPipeline")
    batch, noise = asked(field)
    fresh = [Key(5).at(number).normal(noise) for number in range(6)]
    told = iter(fresh)
    monkeypatch.setattr(
        cosine_module(), "BrownianTreeNoiseSampler", lambda *_, **__: lambda one, two: next(told)
    )
    monkeypatch.setattr(field.pipeline, "scheduler", cosine_scheduler(field))
    theirs = field.pipeline(
        list(PROMPTS),
        audio_end_in_s=SECONDS,
        num_inference_steps=6,
        guidance_scale=scale,
        latents=noise,
        output_type="latent",
    ).audios
    model = Denoiser(field.denoiser.net, Recorded.of(field, fresh), "v")
    guided = field.guided(model, scale)
    begin = field.process.corrupt(None, noise, at(field.process.t_max))
    times = field.process.grid(6)
    with torch.no_grad():
        *_, end = ancestral(guided, begin, times, batch.cond, key=Key(0))
    assert end.est is not None
    assert_same(end.est.x0, theirs)  # the state itself keeps a thousandth of noise


class Recorded:
    """A process whose noises were written down."""

    def __init__(self, process: Any, noises: Iterator[Tensor]) -> None:
        self.process, self.noises = process, noises

    @classmethod
    def of(cls, field: PipelineTeacher, noises: Sequence[Tensor]) -> Recorded:
        return cls(field.process, iter(noises))

    def on(self, mask: Any) -> Recorded:
        return self

    def noise(self, batch: Batch, key: Key) -> Tensor:
        return next(self.noises)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)


# ---- guidance as an input of the student


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_is_told_a_scale_begins_as_its_teacher_and_a_settled_scale_is_the_told_one(
    teacher: Callable[[str], PipelineTeacher], kind: str
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
    teacher: Callable[[str], PipelineTeacher], tmp_path: Path
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
        recorded: Any = Recorded.of(field, fresh)
        known = FewStep(student.net, field.process, field.prediction, student.times, guidance=4.0)
        known.process = recorded
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


# ---- the recipe

TINIEST = {"tones": 16, "teacher_updates": 2, "teacher_steps": 2, "updates": 2, "batch": 2, "held_out": 4}


def made(cache: Path, **settings: Any) -> tuple[Plan, Shelf]:
    config = PipelineConfig.model_validate({**TINIEST, "seconds": 0.25, **settings})
    site = Site(Key(config.seed), cache)
    plan = recipe.build(config, site)
    return plan, execute(plan, site)


def drawn(plan: Plan, shelf: Shelf, folder: Path, contender: str = "student", **asked: Any) -> list[Path]:
    batch = plan.product.request(PromptOptions(**asked), 1, Key(2))
    *_, last = plan.product.contenders[contender].fn(shelf, batch, Step.inference(Key(3)))
    return list(plan.product.write(last.x, batch, folder))


@pytest.mark.slow
def test_a_tiny_pipeline_is_taught_distilled_and_asked_for_a_sound(cache: Path, tmp_path: Path) -> None:
    plan, shelf = made(cache)
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
    cache: Path, teacher: Callable[[str], PipelineTeacher], tmp_path: Path
) -> None:
    plan, shelf = made(cache)
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
