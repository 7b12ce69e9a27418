"""What the text plugin offers: descriptors only, so that this module imports in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.plugins import Gate, RecipeSpec, hookimpl

PROTOCOL = (0, 1)

PAPER = "Zheng et al., Ultra-Fast Language Generation via Discrete Diffusion Divergence Instruct, 2025, arXiv:2509.25035"

STUDY = "three seeds; the table stands in the plugin's README"


DIDI_SMOKE = {
    "width": 32,
    "context": 12,  # no feature sees further than 12 tokens: three kernels of 7, the last one dilated by 2
    "teacher_updates": 500,
    "updates": 380,
    "head_start": 200,
    "rate": 6e-4,
}
DIDI_SMOKE_SURPRISE = (
    "students 5.27 to 5.30, controls 5.41 to 5.48 on seeds 0 to 2; 5.24 to 5.25, 5.39 on 3 and 4"
)
DIDI_SMOKE_DISTANCE = (
    "students 0.227 to 0.231, controls 0.31 to 0.32 on seeds 0 to 2; 0.222 to 0.228, 0.30 to 0.31 on 3 and 4"
)


@hookimpl
def fewstep_recipes() -> Iterable[RecipeSpec]:
    """Recipes of this plugin."""
    return (_markov(), _didi())


def _markov() -> RecipeSpec:
    return RecipeSpec(
        name="text/markov",
        summary="Draw sequences of a Markov chain in two steps, and know the student's law exactly",
        config="fewstep_text.markov.config:MarkovConfig",
        build="fewstep_text.markov.recipe:build",
        extra="text",
        paper=PAPER,
        presets={"smoke": {"teacher_updates": 600, "updates": 1200}},
        gates=(
            Gate(
                metric="forward_kl", control="teacher_fewstep", at_most=0.63, profiles=("smoke",), why=STUDY
            ),
            Gate(
                metric="reverse_kl", control="teacher_fewstep", at_most=2.65, profiles=("smoke",), why=STUDY
            ),
            Gate(
                metric="forward_kl", control="teacher_fewstep", at_most=0.45, profiles=("default",), why=STUDY
            ),
            Gate(
                metric="reverse_kl", control="teacher_fewstep", at_most=1.5, profiles=("default",), why=STUDY
            ),
            Gate(metric="pair_entropy_gap", control="teacher_greedy", at_most=0.45, why=STUDY),
        ),
    )


def _didi() -> RecipeSpec:
    return RecipeSpec(
        name="text/didi",
        summary="Write English in two steps per block, learned from the help texts of Python",
        config="fewstep_text.didi.config:DidiConfig",
        build="fewstep_text.didi.recipe:build",
        extra="text",
        paper=PAPER,
        presets={"smoke": DIDI_SMOKE},
        gates=(
            Gate(
                metric="surprise",
                control="teacher_fewstep",
                at_most=5.35,
                profiles=("smoke",),
                why=DIDI_SMOKE_SURPRISE,
            ),
            Gate(
                metric="surprise", control="teacher_fewstep", at_most=4.65, profiles=("default",), why=STUDY
            ),
            Gate(
                metric="trigram_distance",
                control="teacher_greedy",
                at_most=0.27,
                profiles=("smoke",),
                why=DIDI_SMOKE_DISTANCE,
            ),
            Gate(
                metric="trigram_distance",
                control="teacher_greedy",
                at_most=0.2,
                profiles=("default",),
                why=STUDY,
            ),
        ),
    )
