"""The recipe that sings, through the engine in its smallest size, and what may be asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep.runs.handle import conditions
from fewstep_audio.comosvc import recipe
from fewstep_audio.comosvc.config import CoMoSVCConfig
from fewstep_audio.singing.options import SingingOptions

pytest.importorskip("pyworld", reason="singing needs pyworld: pip install fewstep[singing]")

TINY = {
    "songs": {"sentences": 4, "takes": 1, "held_out": 2},
    "network": {"channels": 16, "dilations": (1, 2)},
    "batch": 2,
    "crop": 16,
    "teacher_updates": 2,
    "teacher_steps": 3,
    "updates": 2,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tiny(cache: Path, **changes: object) -> tuple[Plan, Site]:
    config = CoMoSVCConfig.model_validate({**TINY, **changes})
    site = Site(Key(config.seed), cache)
    return recipe.build(config, site), site


@pytest.fixture(scope="module")
def made(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache)
    return plan, execute(plan, site)


def asked(plan: Plan, **options: object) -> SingingOptions:
    return conditions(plan.product.options, options)


def test_a_student_calls_its_network_once_and_its_song_is_shown_beside_the_truth(
    made: tuple[Plan, Shelf],
) -> None:
    plan, shelf = made
    unheard = replace(plan.product, metrics=plan.product.metrics[:3])
    found = evaluate(unheard, shelf, Key(1))
    assert {row.contender: row.evaluations for row in found.rows} == {
        "teacher": 7,
        "student": 1,
        "student_2step": 2,
        "teacher_1step": 1,
        "wrong_notes": 1,
    }
    page = plan.product.panels[0].render({"student": found.drawn["student"]})
    assert page.count("<audio") == 4, "two songs, sung by the student and the truth"
    assert page.count("<img") == 8, "a roll and a spectrogram of each"
    assert "sung by WORLD, resynthesized" in page


def test_notes_on_the_command_line_decide_how_long_a_song_is(
    made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    plan, shelf = made
    options = asked(plan, text="the river runs", notes="C4:1 D4:1 E4:2 C4:2", tempo="120")
    batch = plan.product.request(options, 2, Key(2))
    *_, last = plan.product.contenders["student"].fn(shelf, batch, Step.inference(Key(3)))
    files = plan.product.write(last.x, batch, tmp_path)
    assert [file.name for file in files] == ["00-the-river-runs.wav", "01-the-river-runs.wav"]
    lead, tail = 0.25, 0.15
    assert abs(soundfile.info(files[0]).duration - (lead + 3.0 + tail)) < 0.03


def test_words_without_notes_get_a_tune_of_their_own_for_every_sample(made: tuple[Plan, Shelf]) -> None:
    plan, _ = made
    options = asked(plan, text="seven sheep crossed the road")
    first, again, other = (
        plan.product.request(options, 2, Key(seed)).cond.data["note"] for seed in (2, 2, 3)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert first.shape != other.shape or not torch.equal(first, other)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"text": "the river runs", "notes": "C4 H4 C7"},
            ["'H4' is no note", "trained range G3 to D5: C7", "4 syllables for 3 notes", "ðə ɹɪ vɚ ɹʌnz"],
        ),
        (
            {"score": "nowhere.xml", "notes": "C4", "voice": "x"},
            ["not both", "is not there", "hides its voices|hidden"],
        ),
        ({"text": "", "notes": "C4"}, ["nothing to say"]),
        ({"tempo": "5"}, ["greater than or equal to 20"]),
        ({"text": "la", "notes": "C4:40"}, ["C4 lasts 24 s"]),
    ],
)
def test_all_that_is_wrong_with_a_wish_is_told_at_once(
    made: tuple[Plan, Shelf], given: dict[str, object], told: list[str]
) -> None:
    with pytest.raises(FewstepError) as caught:
        asked(made[0], **given)
    for part in told:
        assert any(one in str(caught.value) for one in part.split("|")), part


def test_a_singer_that_networks_were_told_can_be_chosen(cache: Path) -> None:
    plan, site = tiny(cache, songs={**TINY["songs"], "speakers": "told"})
    shelf = execute(plan, site)
    options = asked(plan, voice="en-us+f2")
    batch = plan.product.request(options, 1, Key(2))
    assert batch.cond.data["voice"].tolist() == [1]
    *_, last = plan.product.contenders["student"].fn(shelf, batch, Step.inference(Key(3)))
    assert bool(last.x["mel"].isfinite().all())
    with pytest.raises(FewstepError, match="no voice 'en-us\\+f3'; did you mean"):
        asked(plan, voice="en-us+f3")


def test_a_run_may_also_listen_for_more_and_bring_a_vocoder(cache: Path) -> None:
    plan, _ = tiny(cache, listen="cepstrum")
    assert plan.product.metrics[-1].name == "mcd_mel"
    assert len(plan.product.panels) == 2, "the truth's own number is in the report"
    with pytest.raises(FewstepError, match=r"config\.json cannot be read"):
        tiny(cache, vocoder={"kind": "hifigan", "path": str(cache / "nowhere")})


@pytest.mark.parametrize("objective", ["dmd", "denoising"])
def test_another_objective_of_the_core_trains_the_same_student(cache: Path, objective: str) -> None:
    plan, site = tiny(cache, objective=objective)
    assert "student" in execute(plan, site)


def test_a_teacher_that_does_not_sing_is_refused(cache: Path) -> None:
    plan, site = tiny(cache, teacher={"kind": "import", "target": "torch.nn:Identity"})
    with pytest.raises(FewstepError, match="the teacher is Identity"):
        execute(plan, site)
