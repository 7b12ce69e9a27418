"""Pipelines of the size of a thumbnail, with random weights: the machinery is shown on them where nobody has a model.

Each has every part that its large namesake has, tokenizers included, and is made on the spot: nothing is downloaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from fewstep.protocol import Key
from fewstep_audio.pipelines.adapters import adapted
from fewstep_audio.pipelines.loading import quiet
from fewstep_audio.pipelines.sounds import tones
from fewstep_audio.pipelines.teachers import PipelineTeacher
from fewstep_audio.sound.cache import content

LETTERS = "▁abcdefghijklmnopqrstuvwxyz0123456789.,'-"
HEADS: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}


def tiny_pipeline(kind: str, seed: int, cache: Path) -> Path:
    """The folder of a tiny pipeline, written by ``save_pretrained`` when it is not there yet.

    Args:
        kind: name of the pipeline's class, one of ``TINY``.
        seed: of its weights.
        cache: where such folders lie.
    """
    folder = cache / f"{kind}-{content([kind, seed], Path(__file__).read_bytes())}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with quiet(), torch.random.fork_rng(devices=()), tempfile.TemporaryDirectory(dir=cache) as draft:
            torch.manual_seed(Key(seed).at("tiny", kind).seed64())
            pipeline = TINY[kind]()
            _calibrate(pipeline, adapted(pipeline, kind))
            pipeline.save_pretrained(draft, safe_serialization=True)
            if kind == "StableAudioPipeline":
                _named_like_the_large_one(Path(draft))
            Path(draft).rename(folder)
            Path(draft).mkdir()  # the context removes a folder of this name
    return folder


def _stable_audio() -> Any:
    from diffusers import (
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )

    return StableAudioPipeline(
        vae=_oobleck(channels=16),
        text_encoder=_t5(),
        tokenizer=_letters(),
        projection_model=StableAudioProjectionModel(
            text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32
        ),
        transformer=StableAudioDiTModel(
            sample_size=32,
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=4,
            num_key_value_attention_heads=2,
            out_channels=16,
            cross_attention_dim=16,
            cross_attention_input_dim=16,
            time_proj_dim=16,
            global_states_input_dim=32,
        ),
        scheduler=EDMDPMSolverMultistepScheduler(
            solver_order=2,
            prediction_type="v_prediction",
            sigma_data=1.0,
            sigma_schedule="exponential",
            sigma_min=0.3,
            sigma_max=500.0,
        ),
    )


def _named_like_the_large_one(folder: Path) -> None:
    """The scheduler of Stable Audio, whose class cannot be made without torchsde; its settings have the same names."""
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("EDMDPMSolver", "CosineDPMSolver"))


def _audioldm2() -> Any:
    from diffusers import AudioLDM2Pipeline, AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel
    from transformers import ClapFeatureExtractor, GPT2Config, GPT2LMHeadModel

    words: Any = {"n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": 8, "max_new_tokens": 4}
    return AudioLDM2Pipeline(
        vae=_mel_vae(),
        text_encoder=_clap(),
        text_encoder_2=_t5(),
        projection_model=AudioLDM2ProjectionModel(
            text_encoder_dim=16, text_encoder_1_dim=16, langauge_model_dim=16
        ),
        language_model=GPT2LMHeadModel(GPT2Config(**words)).eval(),
        tokenizer=_bytes(),
        tokenizer_2=_letters(),
        feature_extractor=ClapFeatureExtractor(),
        unet=AudioLDM2UNet2DConditionModel(
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=(32, 8),
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=(16, 16),
        ),
        scheduler=_chain(),
        vocoder=_hifigan(),
    )


def _musicldm() -> Any:
    from diffusers import MusicLDMPipeline, UNet2DConditionModel
    from transformers import ClapFeatureExtractor

    return MusicLDMPipeline(
        vae=_mel_vae(),
        text_encoder=_clap(),
        tokenizer=_bytes(),
        feature_extractor=ClapFeatureExtractor(),
        unet=UNet2DConditionModel(
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=(32, 8),
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=(16, 32),
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=16,
            class_embeddings_concat=True,
        ),
        scheduler=_chain(),
        vocoder=_hifigan(),
    )


def _ace_step() -> Any:
    from diffusers import AceStepPipeline, AceStepTransformer1DModel, FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ace_step import AceStepConditionEncoder
    from transformers import Qwen3Config, Qwen3Model

    words = _pieces(Qwen=True)
    listener: Any = AceStepConditionEncoder(
        hidden_size=16,
        intermediate_size=32,
        text_hidden_dim=16,
        timbre_hidden_dim=8,
        num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    listener.silence_latent.normal_()
    return AceStepPipeline(
        vae=_oobleck(channels=8),
        text_encoder=Qwen3Model(
            Qwen3Config(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                max_position_embeddings=4096,
                **HEADS,
            )
        ).eval(),
        tokenizer=words,
        transformer=AceStepTransformer1DModel(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            in_channels=24,
            audio_acoustic_hidden_dim=8,
            encoder_hidden_size=16,
            **HEADS,
        ),
        condition_encoder=listener,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


TINY: Mapping[str, Callable[[], Any]] = {
    "StableAudioPipeline": _stable_audio,
    "AudioLDM2Pipeline": _audioldm2,
    "MusicLDMPipeline": _musicldm,
    "AceStepPipeline": _ace_step,
}
"""Class of a pipeline -> one of that class."""


@torch.no_grad()
def _calibrate(pipeline: Any, teacher: PipelineTeacher) -> None:
    """Give each latent of our tones mean 0 and spread 1, as a trained autoencoder has: its last layer is scaled."""
    found = teacher.latents(tones(64, teacher.rate, teacher.longest if teacher.longest < 2 else 1.0).waves)
    if type(pipeline).__name__ == "AceStepPipeline":
        found = found.transpose(1, 2)  # channels last there
    flat = found.transpose(0, 1).flatten(1)
    mean, std, channels = flat.mean(1), flat.std(1), len(flat)
    layer = getattr(pipeline.vae, "quant_conv", None) or pipeline.vae.encoder.conv2
    gain = layer.weight_g if hasattr(layer, "weight_g") else layer.weight
    gain[:channels] /= std.reshape(-1, *[1] * (gain.ndim - 1))
    layer.bias[:channels] = (layer.bias[:channels] - mean) / std


def _oobleck(channels: int) -> Any:
    from diffusers import AutoencoderOobleck

    made: Any = AutoencoderOobleck(
        encoder_hidden_size=2 * channels,  # means and widths
        downsampling_ratios=[4, 8, 8],
        channel_multiples=[1, 1, 1],
        decoder_channels=4,
        decoder_input_channels=channels,
        audio_channels=2,
        sampling_rate=8000,
    )
    return made.eval()


def _mel_vae() -> Any:
    from diffusers import AutoencoderKL

    made: Any = AutoencoderKL(
        block_out_channels=(8, 16),
        in_channels=1,
        out_channels=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        scaling_factor=1.0,
    )
    return made.eval()


def _hifigan() -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=16,
            sampling_rate=16_000,
            upsample_initial_channel=16,
            upsample_rates=[5, 4, 4, 2],
            upsample_kernel_sizes=[15, 8, 8, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    ).eval()


def _chain() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    told = T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=3 + len(LETTERS))
    return T5EncoderModel(told).eval()


def _clap() -> Any:
    from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        vocab_size=len(_bytes()),
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
        projection_dim=16,
        pad_token_id=1,
    )
    audio = ClapAudioConfig(
        spec_size=64,
        window_size=8,
        num_mel_bins=64,
        hidden_size=32,
        depths=[2, 2],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        patch_embeds_hidden_size=16,
        projection_dim=16,
    )
    return ClapModel(
        ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=16)
    ).eval()


def _letters() -> Any:
    """Text to letters, as a tokenizer of T5."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((letter, -3.0) for letter in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=48)


def _bytes() -> Any:
    """Text to bytes, as a tokenizer of RoBERTa."""
    return _pieces(Qwen=False)


def _pieces(*, Qwen: bool) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer, RobertaTokenizer

    special = ["<|endoftext|>"] if Qwen else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {piece: number for number, piece in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    kind = Qwen2Tokenizer if Qwen else RobertaTokenizer
    return kind(vocab=vocabulary, merges=[], model_max_length=4096 if Qwen else 64)
