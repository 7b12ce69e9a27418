"""What the family of singing from scores offers: descriptors only."""

from __future__ import annotations

from fewstep.plugins import Gate, RecipeSpec

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
    gates=(
        Gate(
            metric="distance",
            control="teacher_1step",
            at_most=3.7,
            profiles=("default", "demo"),
            why="students 2.29 and 2.36 dB, controls 5.71 and 6.63 on seeds 0 and 1; 2.29 to 2.37, 5.96 to 6.40 on 2 to 5",
        ),
        Gate(
            metric="spread_gap",
            control="teacher_1step",
            at_most=0.18,
            profiles=("default", "demo"),
            why="students 0.07 and 0.09, controls 0.29 and 0.33 on seeds 0 and 1; 0.05 to 0.08, 0.26 to 0.34 on 2 to 5",
        ),
        Gate(
            metric="in_tune",
            control="wrong_notes",
            at_least=0.5,
            profiles=("default", "demo"),
            why="students 0.93 and 0.91, controls 0.00 on seeds 0 and 1; 0.83 to 0.92, 0.00 on 2 to 5",
        ),
        Gate(
            metric="distance",
            control="teacher_1step",
            at_most=4.2,
            profiles=("smoke",),
            why="students 2.07 to 2.45 dB, controls 7.68 to 8.29 on seeds 0 to 2; 2.31 to 2.75, 7.87 to 8.03 on 3 to 5",
        ),
        Gate(
            metric="in_tune",
            control="wrong_notes",
            at_least=0.1,
            profiles=("smoke",),
            why="students 0.29 to 0.49, controls below 0.01 on seeds 0 to 2; 0.29 to 0.47, below 0.01 on 3 to 5",
        ),
    ),
)
