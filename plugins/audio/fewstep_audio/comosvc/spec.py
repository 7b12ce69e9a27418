"""What the family of singing from scores offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import RecipeSpec

SMOKE = {
    "songs.sentences": 12,
    "songs.takes": 1,
    "songs.held_out": 3,
    "network.channels": 64,
    "network.dilations": (1, 2, 4, 1),
    "teacher_updates": 200,
    "updates": 120,
    "lr": 2e-3,
    "target_decay": 0.8,
    "average": 0.95,
    "crop": 48,
}

RECIPE = RecipeSpec(
    name="audio/comosvc",
    summary="Sing a score in one network call by consistency distillation",
    config="fewstep_audio.comosvc.config:CoMoSVCConfig",
    build="fewstep_audio.comosvc.recipe:build",
    extra="singing",
    paper="Ye et al.: CoMoSpeech, 2023, arXiv:2305.06908 (singing voice synthesis)",
    presets={"smoke": SMOKE, "demo": {}},
    gates=(),
)
