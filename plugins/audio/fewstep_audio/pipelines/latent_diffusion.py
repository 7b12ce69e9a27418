"""AudioLDM 2 (Liu et al. 2024, arXiv:2308.05734) and MusicLDM (Chen et al. 2024, arXiv:2308.01546).

Both are a chain of DDPM on latents of mel spectrograms, and a HiFi-GAN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.processes import Chain, Gaussian
from fewstep.protocol import Tree
from fewstep_audio.pipelines.network import Ask
from fewstep_audio.pipelines.teachers import PipelineTeacher, halves
from fewstep_audio.sound.mel import MelContract, log_mel

NAMES = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
"""Predictions as diffusers and as core call them."""


class LatentDiffusion(PipelineTeacher):
    """Latents (C, T, M): a fraction of a mel spectrogram's frames and bands."""

    network = "unet"
    clock = "time_embedding.linear_1"

    def __init__(self, pipeline: Any) -> None:
        """The scheduler says what the network predicts."""
        super().__init__(pipeline)
        self.prediction = NAMES[pipeline.scheduler.config.prediction_type]

    @property
    def process(self) -> Gaussian:
        """The scheduler's chain, value by value."""
        scheduler = self.pipeline.scheduler
        bars = tuple(scheduler.alphas_cumprod.double().tolist())
        final = 1.0 if getattr(scheduler.config, "set_alpha_to_one", True) else bars[0]
        return Gaussian(Chain(bars, final), 0.0, len(bars) - 1.0, whole=True)

    @property
    def rate(self) -> int:
        """Of the vocoder."""
        return int(self.pipeline.vocoder.config.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples per frame of the spectrogram."""
        return int(np.prod(self.pipeline.vocoder.config.upsample_rates))

    longest = 600.0
    """Seconds: no length is built in; beyond the ten seconds that they were trained on these networks get worse."""

    def shape(self, seconds: float) -> tuple[int, ...]:
        """(C, T, M); T is rounded up."""
        share = self.pipeline.vae_scale_factor
        frames = math.ceil(int(seconds * self.rate / self.hop) / share)
        bands = int(self.pipeline.vocoder.config.model_in_dim) // share
        return (int(self.pipeline.unet.config.in_channels), frames, bands)

    @torch.no_grad()
    def latents(self, wave: Tensor) -> Tensor:
        """Through a log-mel of the vocoder's rate, hop and bands, and the means of the autoencoder's posterior."""
        vae, share = self.pipeline.vae, self.pipeline.vae_scale_factor
        bands = int(self.pipeline.vocoder.config.model_in_dim)
        contract = MelContract(rate=self.rate, hop=self.hop, bands=bands, high=min(8000.0, self.rate / 2))
        mels = torch.stack([log_mel(one, contract).T for one in wave])[:, None]
        frames = self.shape(wave.shape[-1] / self.rate)[1] * share
        mels = torch.nn.functional.pad(mels, (0, 0, 0, max(0, frames - mels.shape[2])))[:, :, :frames]
        return vae.encode(mels).latent_dist.mode() * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor, seconds: float) -> Tensor:
        """Mel spectrogram, then waveform."""
        mels = self.pipeline.vae.decode(latents / self.pipeline.vae.config.scaling_factor).sample
        return self.pipeline.mel_spectrogram_to_waveform(mels)[:, None, : int(seconds * self.rate)]

    def times(self, steps: int) -> tuple[float, ...]:
        """The indices that LCM's scheduler takes."""
        return tuple(float(index) for index in self.scheduler(steps).timesteps.tolist())

    def scheduler(self, steps: int) -> Any:
        """LCM's, on the pipeline's own chain."""
        from diffusers import LCMScheduler

        told = {**self.pipeline.scheduler.config, "timestep_spacing": "leading"}
        made = LCMScheduler.from_config(told, clip_sample=False, thresholding=False)
        made.set_timesteps(steps)
        return made

    def call(self, seconds: float, steps: int) -> Mapping[str, Any]:
        """Guidance is in the weights."""
        return {"audio_length_in_s": seconds, "num_inference_steps": steps, "guidance_scale": 1.0}


class AudioLDM2(LatentDiffusion):
    """``AudioLDM2Pipeline``: the network hears T5's tokens and what a language model makes of them."""

    @property
    def ask(self) -> Ask:
        """As the pipeline does."""
        return _with_keywords

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """Prompts of one batch are padded to the longest."""
        seen, mask, made = self.pipeline.encode_prompt(list(prompts), self.pipeline.device, 1, True)
        return halves(
            {"encoder_hidden_states": made, "encoder_hidden_states_1": seen, "encoder_attention_mask_1": mask}
        )


class MusicLDM(LatentDiffusion):
    """``MusicLDMPipeline``: the network hears one vector of CLAP.

    With transformers 5 the pipeline's own text path fails (it expects a tensor where CLAP now returns an object); the
    same vectors are made here.
    """

    @property
    def ask(self) -> Ask:
        """As the pipeline does."""
        return _with_class_labels

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], seconds: float) -> Tree:
        """CLAP's vectors of the prompts, and of an empty one."""
        return {"given": self._heard(prompts), "null": self._heard([""] * len(prompts))}

    def _heard(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        pipe = self.pipeline
        told = pipe.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=pipe.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(pipe.device)
        found = pipe.text_encoder.get_text_features(told.input_ids, attention_mask=told.attention_mask)
        return {"class_labels": getattr(found, "pooler_output", found)}


def _with_keywords(network: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """(B, C, T, M), (B,) indices -> (B, C, T, M)."""
    out: Tensor = network(x, time, **given, return_dict=False)[0]
    return out


def _with_class_labels(network: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """The network of MusicLDM has no other input."""
    return _with_keywords(network, x, time, {"encoder_hidden_states": None, **given})  # type: ignore[dict-item]
