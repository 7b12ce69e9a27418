"""Teachers from the field: tiny random pipelines, loaded by diffusers, say and do what the pipelines themselves do."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.protocol import Batch, Denoiser, Key
from fewstep.samplers import ancestral, ddim

pytest.importorskip("diffusers", reason="needs fewstep[diffusers]")
pytest.importorskip("transformers", reason="needs fewstep[diffusers]")

from asking import KINDS, PROMPTS, SECONDS, Asked, Told, at

from fewstep_audio.pipelines.teachers import PipelineTeacher

# ---- what a teacher offers


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_alpha_times_the_clean_estimate_plus_sigma_times_the_noise_estimate(
    teacher: Callable[[str], PipelineTeacher], kind: str, asked: Asked
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
    teacher: Callable[[str], PipelineTeacher], asked: Asked
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
    teacher: Callable[[str], PipelineTeacher], kind: str, asked: Asked
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
    teacher: Callable[[str], PipelineTeacher], asked: Asked
) -> None:
    field = teacher("AceStepPipeline")
    batch, x = asked(field)
    scheduler = field.pipeline.scheduler
    scheduler.set_timesteps(sigmas=list(field.times(6)))
    times = field.times(6)[:2]
    found = field.denoiser(x, at(times[0]), batch.cond)
    theirs = scheduler.step(found.raw, scheduler.timesteps[0], x).prev_sample
    assert torch.allclose(field.process.jump(x, found, at(times[0]), at(times[1])), theirs, atol=1e-5)


def test_a_noisy_step_of_stable_audio_is_the_posterior(
    teacher: Callable[[str], PipelineTeacher], asked: Asked
) -> None:
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
    teacher: Callable[[str], PipelineTeacher], scale: float, asked: Asked
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


def test_many_steps_from_one_noise_are_musicldms_own(
    teacher: Callable[[str], PipelineTeacher], asked: Asked
) -> None:
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


def test_many_steps_from_one_noise_are_ace_steps_own(
    teacher: Callable[[str], PipelineTeacher], asked: Asked
) -> None:
    field = teacher("AceStepPipeline")
    batch, noise = asked(field)
    theirs = ace_step(field, noise, 6, 1.0)
    with torch.no_grad():
        *_, end = ddim(field.denoiser, noise, torch.tensor(field.times(6)), batch.cond)
    assert_same(end.x, theirs)


def test_guidance_of_ace_step_is_its_own_where_it_has_no_past(
    teacher: Callable[[str], PipelineTeacher], asked: Asked
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
    teacher: Callable[[str], PipelineTeacher],
    scale: float,
    monkeypatch: pytest.MonkeyPatch,
    asked: Asked,
    recorded: Told,
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
    model = Denoiser(field.denoiser.net, recorded(field, fresh), "v")
    guided = field.guided(model, scale)
    begin = field.process.corrupt(None, noise, at(field.process.t_max))
    times = field.process.grid(6)
    with torch.no_grad():
        *_, end = ancestral(guided, begin, times, batch.cond, key=Key(0))
    assert end.est is not None
    assert_same(end.est.x0, theirs)  # the state itself keeps a thousandth of noise
