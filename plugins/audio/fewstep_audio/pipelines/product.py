"""What one gets: sounds for prompts, at a guidance scale, by teacher and student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.config import Settings, setting
from fewstep.errors import FewstepError
from fewstep.protocol import (
    Batch,
    Cond,
    Drawn,
    Key,
    Metric,
    Panel,
    Product,
    Roles,
    Sampler,
    Score,
    State,
    Step,
    Tree,
)
from fewstep.protocol.denoiser import View
from fewstep.runs import bootstrap
from fewstep.runs.media import columns, player
from fewstep.samplers import FewStep, ddim, solver_sampler, student_sampler
from fewstep_audio.pipelines.config import PipelineConfig
from fewstep_audio.pipelines.sounds import LONGEST_FILE, picked
from fewstep_audio.pipelines.teachers import AudioTeacher, fitted
from fewstep_audio.sound.files import named, wav_bytes
from fewstep_audio.sound.mel import MelContract

SHOWN = 2
REFERENCE = "teacher"


class PromptOptions(Settings):
    """What ``fewstep sample`` may ask for."""

    text: str = setting("a low tone", "what it should sound like", min_length=1, max_length=2000)
    seconds: float | None = setting(None, "how long; none = as long as the student learned", unit="s", gt=0)
    guidance: float | None = setting(
        None, "how closely the prompt is followed; none = as the run was compared", ge=1, le=20
    )
    like: str | None = setting(None, "a recording to begin with instead of pure noise")
    strength: float = setting(
        0.7, "how much of that recording is given up: at 1 nothing is left of it", gt=0, le=1
    )


def pipeline_product(
    config: PipelineConfig, field: Callable[[], AudioTeacher], prompts: Sequence[str], seconds: float
) -> Product:
    """The product of the recipe.

    Args:
        config: guidance and steps.
        field: the teacher with its encoders and decoders; called late.
        prompts: of the evaluation, in turn.
        seconds: length of the evaluation's samples.
    """

    def asked(texts: Sequence[str], length: float, guidance: float | None) -> Batch:
        teacher = field()
        own = list(dict.fromkeys(texts))
        which = torch.tensor([own.index(text) for text in texts])
        data = teacher.encode(own, length)
        like = torch.zeros(1).expand(len(texts), *teacher.shape(length))
        scale = torch.full((len(texts),), guidance or config.guidance, dtype=torch.float64)
        extra = {"texts": tuple(texts), "seconds": length, "guidance": scale}
        return Batch(like=like, cond=Cond(picked(data, which)), extra=extra)

    def evaluation(count: int, key: Key) -> Batch:
        return asked([prompts[number % len(prompts)] for number in range(count)], seconds, None)

    def request(options: PromptOptions, count: int, key: Key) -> Batch:
        length = options.seconds or seconds
        if length > field().longest + 1e-9:
            raise FewstepError(
                f"this model makes {field().longest:.4g} seconds of sound, and {length:g} were asked for",
                f"at most {field().longest:.4g} seconds",
                "ask for less with --seconds",
            )
        batch = asked([options.text] * count, length, options.guidance)
        return batch if options.like is None else _beginning(batch, field(), options, length)

    return Product(
        student="student",
        contenders={
            "teacher": _teacher(field, config, None),
            "student": _student(config, None),
            "teacher_few": _teacher(field, config, config.steps),
        },
        evaluation=evaluation,
        request=request,
        options=PromptOptions,
        write=lambda x, batch, folder: write_sounds(x, batch, folder, field()),
        metrics=(distance(),),
        panels=(Panel("Sounds", lambda drawn: _sounds(drawn, field())),),
        samples=config.held_out,
    )


def bare(denoiser: Any) -> Any:
    """Without guidance over it."""
    return denoiser.base if isinstance(denoiser, View) else denoiser


def _teacher(field: Callable[[], AudioTeacher], config: PipelineConfig, few: int | None) -> Sampler:
    """Guided, on its own grid; or forced to the times of a student of ``few`` steps."""

    def times(process: Any, steps: int) -> Tensor:
        return torch.tensor(field().times(steps), dtype=torch.float64)

    return _under_guidance(
        config,
        field,
        solver_sampler("teacher", ddim, config.teacher_steps)
        if few is None
        else solver_sampler("teacher", ddim, few, times),
    )


def _under_guidance(config: PipelineConfig, field: Callable[[], AudioTeacher], inner: Sampler) -> Sampler:
    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        model = field().guided(bare(roles["teacher"]), float(batch.extra["guidance"][0]))
        begun = _begun(model.process, model.process.grid(config.teacher_steps).tolist(), batch, step)
        if begun is None:
            yield from inner.fn({"teacher": model}, batch, step)
        else:
            x, times = begun
            yield from ddim(model, x, torch.tensor(times, dtype=torch.float64), batch.cond)

    again = inner.with_steps
    return Sampler(
        draw,
        ("teacher",),
        None if again is None else lambda count: _under_guidance(config, field, again(count)),
    )


def _student(config: PipelineConfig, steps: int | None) -> Sampler:
    """Told the scale where its network takes one.

    Raises:
        FewstepError: another scale than the only one it knows is asked for.
    """
    inner = student_sampler(steps=steps)

    def draw(roles: Roles, batch: Batch, step: Step) -> Iterator[State]:
        check_scale(config, float(batch.extra["guidance"][0]))
        student = roles["student"]
        begun = _begun(student.process, student.process.grid(config.teacher_steps).tolist(), batch, step)
        if begun is None:
            yield from inner.fn(roles, batch, step)
            return
        x, (first, *_) = begun
        rest = [time for time in student.schedule(steps) if time < first]
        student = FewStep(
            student.net,
            student.process,
            student.prediction,
            (first, *rest),
            "renoise",
            guidance=student.guidance,
        )
        sample = student.resume(batch, step, x, 0)
        yield State(sample.x, torch.zeros(len(sample.x), dtype=torch.float64), sample.est)

    return Sampler(draw, ("student",), lambda count: _student(config, count))


def _beginning(batch: Batch, teacher: AudioTeacher, options: PromptOptions, seconds: float) -> Batch:
    """The batch with the latents of a recording, cut or padded to the length that was asked for."""
    from fewstep_audio.sound.recordings import read_recording

    heard = read_recording(str(options.like), MelContract(rate=teacher.rate), LONGEST_FILE)
    latents = teacher.latents(fitted(heard, int(seconds * teacher.rate))[None])
    begin = latents.expand(len(batch.like), *latents.shape[1:])
    return replace(batch, extra={**batch.extra, "begin": begin, "strength": options.strength})


def _begun(process: Any, times: list[float], batch: Batch, step: Step) -> tuple[Tensor, list[float]] | None:
    """Where an edit begins, and the times from there on: alpha recording + sigma noise, at a time of the grid.

    The pipeline of Stable Audio adds the recording to noise of 500 times its size, whatever is asked (huggingface/diffusers
    #10861), which leaves nothing of it.
    """
    if "begin" not in batch.extra:
        return None
    left = times[min(round((1 - batch.extra["strength"]) * (len(times) - 1)), len(times) - 2) :]
    noise = process.noise(batch, step.key.at("noise"))
    t = torch.full((len(noise),), left[0], dtype=torch.float64, device=noise.device)
    return process.corrupt(batch.extra["begin"].to(noise), noise, t), left


def check_scale(config: PipelineConfig, scale: float) -> None:
    """Refuse a guidance scale that the student never learned.

    Raises:
        FewstepError: saying which it knows.
    """
    low, high = config.scales
    if low is not None and high is not None:
        if not low <= scale <= high:
            raise FewstepError(
                f"guidance {scale:g} was asked for", f"{low:g} to {high:g}, which the student has learned", ""
            )
    elif scale != config.guidance:
        raise FewstepError(
            f"guidance {scale:g} was asked of a student that learned {config.guidance:g} alone",
            f"{config.guidance:g}",
            "train one with a range: -s objective.guidance=1 -s objective.guidance_to=5",
        )


def distance() -> Metric:
    """Distance to what the many-step guided teacher makes of the same noise."""

    def measure(x: Tree, batch: Batch, key: Key) -> Score:
        drawn = batch.extra.get("drawn", {})
        if REFERENCE not in drawn:
            raise ValueError(f"the {REFERENCE} drew nothing, so there is nothing to be near to")
        other = drawn[REFERENCE]
        spread = (other - other.mean(0)).square().mean().sqrt().clamp(min=1e-12)
        return bootstrap((x - other).square().flatten(1).mean(1).sqrt() / spread, key)

    told = (
        "Root mean square difference from the latents that the many-step guided teacher makes of the same noise and prompt, "
        "in units of their spread. A student of several steps draws fresh noise in between and cannot be compared so."
    )
    return Metric("distance", "lower", measure, "", told)


def write_sounds(x: Tree, batch: Batch, folder: Path, teacher: AudioTeacher) -> Sequence[Path]:
    """One wav per sample, named by its number and first words."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, text in enumerate(batch.extra["texts"]):
        path = folder / f"{number:02d}-{named(text)}.wav"
        path.write_bytes(_wav(x[number], batch, teacher))
        written.append(path)
    return written


def _wav(latents: Tensor, batch: Batch, teacher: AudioTeacher) -> bytes:
    """Quieter where it would clip."""
    wave = teacher.decode(latents[None], float(batch.extra["seconds"]))[0]
    wave = wave * min(1.0, 0.99 / max(float(wave.abs().max()), 1e-9))
    return wav_bytes(wave.T, teacher.rate)


def _sounds(drawn: Mapping[str, Drawn], teacher: AudioTeacher) -> str:
    batch = next(iter(drawn.values())).batch
    return "".join(
        f"<h3>“{escape(text)}”</h3>"
        + columns(
            {
                name: player("audio/wav", _wav(item.x[i], batch, teacher), f"{name}: “{text}”")
                for name, item in drawn.items()
            }
        )
        for i, text in enumerate(batch.extra["texts"][:SHOWN])
    )
