"""ACE-Step 1.5 (Gong et al. 2025, arXiv:2506.00045): a rectified flow on latents, guided by the projected difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewstep.processes import Gaussian, RectifiedFlow
from fewstep.protocol import Cond, Denoiser, Estimate, Guided, Tree, spread
from fewstep_audio.pipelines.network import Ask
from fewstep_audio.pipelines.teachers import PipelineTeacher, fitted, stereo, untold

SHIFT = 3.0
"""The pipeline's own default; its sampler shifts times itself, the scheduler does not."""

REFERENCE = 30
"""Seconds of silence that stand for a reference recording."""

THRESHOLD = 2.5
"""Largest norm over time of the difference that guides."""


@dataclass(frozen=True)
class Straight(Gaussian):
    """Straight lines, whose network sees states as they are and counts time from 0 to 1."""

    def network_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """The state."""
        return xt

    def network_time(self, t: Tensor) -> Tensor:
        """The time."""
        return t.double()


class AceStep(PipelineTeacher):
    """``AceStepPipeline``: latents (T, C), music from a description; no lyrics, no reference recording."""

    clock = "time_embed.linear_1"
    prediction = "flow"

    @property
    def process(self) -> Gaussian:
        """Straight lines; grids are shifted toward noise."""
        return Straight(RectifiedFlow(), 1e-3, 1.0, shift=SHIFT)

    @property
    def ask(self) -> Ask:
        """As the pipeline does."""
        return ask

    @property
    def rate(self) -> int:
        """Of the autoencoder."""
        return int(self.pipeline.sample_rate)

    @property
    def longest(self) -> float:
        """As long as the silence that is shipped with it."""
        return float(
            self.pipeline.condition_encoder.silence_latent.shape[1] / self.pipeline.latents_per_second
        )

    def shape(self, seconds: float) -> tuple[int, ...]:
        """(T, C)."""
        frames = math.ceil(seconds * self.pipeline.latents_per_second)
        return (frames, int(self.pipeline.transformer.config.audio_acoustic_hidden_dim))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """Description, no lyrics, silence for a reference; without a prompt, the vector that was learned for it."""
        pipe, many = self.pipeline, len(prompts)
        text, text_mask, lyrics, lyrics_mask = pipe.encode_prompt(
            list(prompts), [""] * many, pipe.device, audio_duration=seconds
        )
        listener, dtype = pipe.condition_encoder, pipe.transformer.dtype
        silence = listener.silence_latent[:, : math.ceil(REFERENCE * pipe.latents_per_second)].to(dtype)
        seen, _ = listener(
            text_hidden_states=text,
            text_attention_mask=text_mask,
            lyric_hidden_states=lyrics,
            lyric_attention_mask=lyrics_mask,
            refer_audio_acoustic_hidden_states_packed=silence.expand(many, -1, -1).contiguous(),
            refer_audio_order_mask=torch.arange(many, device=pipe.device),
        )
        frames, width = self.shape(seconds)
        source, _ = pipe.prepare_src_latents(pipe.device, dtype, many, latent_length=frames)
        given = {
            "encoder_hidden_states": seen,
            "context_latents": torch.cat([source, torch.ones_like(source[..., :width])], -1),
        }
        null = listener.null_condition_emb.to(seen).expand_as(seen).contiguous()
        return {"given": given, "null": {**given, "encoder_hidden_states": null}}

    @torch.no_grad()
    def latents(self, wave: Tensor) -> Tensor:
        """The means of the autoencoder's posterior."""
        vae, frames = self.pipeline.vae, self.shape(wave.shape[-1] / self.rate)[0]
        whole = fitted(wave, round(frames * self.rate / self.pipeline.latents_per_second))
        found = vae.encode(stereo(whole, vae.config.audio_channels)).latent_dist.mode()
        return found.transpose(1, 2)[:, :frames].contiguous()

    @torch.no_grad()
    def decode(self, latents: Tensor, seconds: float) -> Tensor:
        """With the peak at -1 dB of full scale, as the pipeline leaves it."""
        wave = self.pipeline.vae.decode(latents.transpose(1, 2)).sample[..., : int(seconds * self.rate)]
        peak = wave.abs().amax((1, 2), keepdim=True).clamp(min=1e-6)
        return wave * (10 ** (-1 / 20) / peak)

    def guided(self, denoiser: Denoiser, scale: float) -> Denoiser:
        """As the pipeline, but for the momentum that it carries from step to step."""
        return Projected(denoiser, scale, untold)

    def times(self, steps: int) -> tuple[float, ...]:
        """The pipeline's shifted times."""
        even = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
        return tuple((SHIFT * even / (1 + (SHIFT - 1) * even)).tolist())

    def scheduler(self, steps: int) -> Any:
        """Euler's, with fresh noise between steps; one step needs none."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        told = self.pipeline.scheduler.config
        return FlowMatchEulerDiscreteScheduler.from_config(told, stochastic_sampling=True)

    def clocked(self, network: Any) -> Any:
        """Marked as one that has its guidance in its weights, so that the pipeline never guides it again."""
        copy = deepcopy(network)
        copy.register_to_config(is_turbo=True)
        return copy

    def call(self, seconds: float, steps: int) -> Mapping[str, Any]:
        """Guidance is in the weights."""
        told = {"audio_duration": seconds, "num_inference_steps": steps, "guidance_scale": 1.0}
        return {**told, "shift": SHIFT}


class Projected(Guided):
    """Guidance along the part of c - u that is orthogonal to c (Sadat et al. 2024, APG, arXiv:2410.02416), in velocities.

    c + (g - 1) orthogonal(c - u), the difference cut to a norm over time. The pipeline also subtracts 0.75 of the
    differences of earlier steps, which is no function of a state and its time, so no student could learn it.
    """

    def forward(
        self,
        xt: Tree,
        t: Tensor,
        cond: Cond | None = None,
        *,
        to: Tensor | None = None,
        guidance: Tensor | None = None,
        features: tuple[int, ...] = (),
    ) -> Estimate:
        """One call where the scale is 1, else two."""
        from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

        cond = cond or Cond()
        given = self.base(xt, t, cond, to=to, features=features)
        if guidance is None and self.scale == 1.0:
            return given
        free = self.base(xt, t, self.null(cond), to=to)
        raw: Any = given.raw
        pushed = normalized_guidance(
            raw,
            free.raw,
            spread((self._scale(t, guidance) - 1).to(raw.dtype), raw),  # type: ignore[arg-type]
            eta=0.0,
            norm_threshold=THRESHOLD,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        x0 = self.process.on(cond.mask).x0(pushed, xt, t, self.prediction)
        return replace(given, x0=x0, raw=pushed)


def ask(network: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """(B, T, C) latents, (B,) times from 0, clean, to 1 -> (B, T, C) velocities."""
    out: Tensor = network(hidden_states=x, timestep=time, timestep_r=time, **given, return_dict=False)[0]
    return out
