"""Stable Audio (Evans et al. 2024, arXiv:2404.10301): velocities of latents, on noise levels from 0.3 to 500.

Its scheduler writes x0 + sigma eps and shrinks what the network sees by 1 / sqrt(1 + sigma^2). With sigma = tan t that is
cos(t) x0 + sin(t) eps, and the network's output is the velocity of that circle, cos(t) eps - sin(t) x0: the process here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.processes import Gaussian
from fewstep.processes.laws import Trigonometric
from fewstep.protocol import Tree
from fewstep_audio.pipelines.network import Ask
from fewstep_audio.pipelines.teachers import PipelineTeacher, fitted, stereo

CLEAN = 1e-3
"""Angle at which a state counts as clean: the scheduler's last step goes from its lowest level to no noise at all."""

INDICES = 1000
"""Times of the chain that stands for the circle in an exported pipeline."""


@dataclass(frozen=True)
class Circle(Gaussian):
    """The circle, with the scheduler's grid: levels from the highest to the lowest, then clean.

    Args:
        quietest: the lowest level, sigma / alpha, at which the scheduler asks the network.
        bend: rho of Karras et al. 2022 eq. 5 between the two; infinity is the limit, even in the logarithm.
    """

    quietest: float = 0.3
    bend: float = math.inf

    def grid(self, steps: int) -> Tensor:
        """(steps + 1,) decreasing float64 angles."""
        if steps < 1:
            raise ValueError(f"a time grid needs at least one step, got {steps}")
        share = torch.linspace(0, 1, steps, dtype=torch.float64)
        high, low = self.ratios()[1], self.quietest
        levels = (
            high * (low / high) ** share
            if math.isinf(self.bend)
            else (high ** (1 / self.bend) + share * (low ** (1 / self.bend) - high ** (1 / self.bend)))
            ** self.bend
        )
        angles = torch.atan(levels)
        angles[0] = self.t_max
        return torch.cat([angles, torch.tensor([self.t_min], dtype=torch.float64)])


class StableAudio(PipelineTeacher):
    """``StableAudioPipeline``: latents (C, T) of a fixed length; a sample is cut to the seconds that were asked for."""

    clock = "timestep_proj.0"
    prediction = "v"

    @property
    def process(self) -> Gaussian:
        """From the settings of the scheduler."""
        told = self.pipeline.scheduler.config
        bend = math.inf if told.sigma_schedule == "exponential" else float(told.rho)
        highest = math.atan(told.sigma_max)
        return Circle(Trigonometric(1.0), CLEAN, highest, quietest=float(told.sigma_min), bend=bend)

    @property
    def ask(self) -> Ask:
        """As the pipeline does; it counts time from 0 to 1 where we have an angle."""
        return ask

    @property
    def rate(self) -> int:
        """Of the autoencoder."""
        return int(self.pipeline.vae.config.sampling_rate)

    @property
    def longest(self) -> float:
        """The network's one length."""
        return float(self.pipeline.transformer.config.sample_size * self.pipeline.vae.hop_length / self.rate)

    def shape(self, seconds: float) -> tuple[int, ...]:
        """(C, T), whatever the seconds."""
        told = self.pipeline.transformer.config
        return (told.in_channels, told.sample_size)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """Text and length; without a prompt the network sees zeros, but is told the length (as the pipeline does)."""
        pipe, device = self.pipeline, self.pipeline.device
        text = pipe.encode_prompt(list(prompts), device, do_classifier_free_guidance=False)
        start, end = pipe.encode_duration(0.0, seconds, device, False, len(prompts))
        seen, length = torch.cat([text, start, end], 1), torch.cat([start, end], 2)
        given = {"encoder_hidden_states": seen, "global_hidden_states": length}
        return {"given": given, "null": {**given, "encoder_hidden_states": torch.zeros_like(seen)}}

    @torch.no_grad()
    def latents(self, wave: Tensor) -> Tensor:
        """The means of the autoencoder's posterior."""
        vae = self.pipeline.vae
        samples = self.shape(0.0)[1] * vae.hop_length
        return vae.encode(stereo(fitted(wave, samples), vae.config.audio_channels)).latent_dist.mode()

    @torch.no_grad()
    def decode(self, latents: Tensor, seconds: float) -> Tensor:
        """Cut to the seconds."""
        return self.pipeline.vae.decode(latents).sample[..., : int(seconds * self.rate)]

    def times(self, steps: int) -> tuple[float, ...]:
        """The indices that LCM's scheduler takes, as angles."""
        indices = _chain(self.process, steps).timesteps.tolist()
        return tuple(self.process.t_max * index / (INDICES - 1) for index in indices)

    def scheduler(self, steps: int) -> Any:
        """LCM's, on a chain whose n-th alpha is cos(n / 999 of the highest angle): the circle, index by index."""
        return _chain(self.process, steps)

    def clocked(self, network: Any) -> Any:
        """The pipeline will pass an index where it passed 2 / pi of an angle; the sinusoids' rates absorb that."""
        copy = deepcopy(network)
        with torch.no_grad():
            copy.time_proj.weight *= self.process.t_max * 2 / math.pi / (INDICES - 1)
        return copy

    def call(self, seconds: float, steps: int) -> Mapping[str, Any]:
        """Guidance is in the weights."""
        return {"audio_end_in_s": seconds, "num_inference_steps": steps, "guidance_scale": 1.0}


def ask(network: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """(B, C, T) scaled latents, (B,) angles -> (B, C, T) velocities."""
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    rotary = get_1d_rotary_pos_embed(
        network.config.attention_head_dim // 2, x.shape[2] + 1, use_real=True, repeat_interleave_real=False
    )
    rotary = tuple(part.to(x) for part in rotary)
    out: Tensor = network(x, time * 2 / math.pi, **given, rotary_embedding=rotary, return_dict=False)[0]
    return out


def _chain(process: Gaussian, steps: int) -> Any:
    """LCM's scheduler with so many steps set, its betas from the angles."""
    from diffusers import LCMScheduler

    angles = process.t_max * torch.arange(INDICES, dtype=torch.float64) / (INDICES - 1)
    squares = angles.cos().square()
    betas = 1 - squares / torch.cat([torch.ones(1, dtype=torch.float64), squares[:-1]])
    made: Any = LCMScheduler(
        num_train_timesteps=INDICES,
        trained_betas=betas.tolist(),
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    made.set_timesteps(steps)
    return made
