"""What the family of CoMoSpeech offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

SMOKE = {
    "speech.sentences": 20,
    "network.channels": 64,
    "network.dilations": (1, 2, 4, 1),
    "teacher_updates": 400,
    "updates": 250,
}

PAPER = {
    "speech.voices": ("en-us", "en-us+f2", "en-us+m3", "en-us+f4"),
    "speech.pitches": (35, 50, 65),
    "speech.liveliness": 50,
    "speech.takes": 12,
    "network.channels": 256,
    "network.dilations": (1, 2, 4, 8) * 5,
    "noise.lowest": 0.002,
    "noise.highest": 80.0,
    "noise.mean": -1.2,
    "noise.std": 1.2,
    "crop": 100,
    "objective.steps": 49,
    "objective.solver": "euler",
    "teacher_updates": 1_000_000,
    "teacher_lr": 1e-4,
    "teacher_steps": 50,
    "updates": 300_000,
    "lr": 1e-4,
    "lr_left": 1.0,
    "target_decay": 0.95,
    "batch": 16,
}
"""Levels, loss and rates of the released code; its corpus and its two-dimensional U-Net are not ours."""

RECIPE = RecipeSpec(
    name="audio/comospeech",
    summary="Speak text in one network call by consistency distillation",
    config="fewstep_audio.comospeech.config:CoMoSpeechConfig",
    build="fewstep_audio.comospeech.recipe:build",
    extra="audio",
    paper="Ye et al.: CoMoSpeech, 2023, arXiv:2305.06908",
    presets={"smoke": SMOKE, "demo": {}, "paper": PAPER},
    gates=(
        Gate(
            metric="distance",
            control="teacher_1step",
            at_most=3.6,
            profiles=("default", "demo"),
            why="students 2.77 to 2.91 dB, controls 4.98 to 5.36 on seeds 0 to 2; 2.85 to 2.95, 4.63 to 5.50 on 3 to 5",
        ),
        Gate(
            metric="detail_gap",
            control="teacher_1step",
            at_most=0.12,
            profiles=("default", "demo"),
            why="students 0.04 to 0.06, controls 0.20 to 0.33 on seeds 0 to 2; 0.03 to 0.05, 0.20 to 0.33 on 3 to 5",
        ),
        Gate(
            metric="distance",
            control="teacher_1step",
            at_most=4.4,
            profiles=("smoke",),
            why="students 2.84 to 3.13 dB, controls 5.86 to 6.49 on seeds 0 to 2; 2.96 to 3.14, 6.09 to 6.83 on 3 to 5",
        ),
    ),
)
