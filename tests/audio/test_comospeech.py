"""The recipe through the engine in its smallest size, what it costs, and what may be asked of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from pydantic import ValidationError

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep_audio.comospeech import recipe
from fewstep_audio.comospeech.config import CoMoSpeechConfig
from fewstep_audio.speech.product import SpeechOptions

TINY = {
    "speech": {"sentences": 4, "takes": 1, "held_out": 2},
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
    config = CoMoSpeechConfig.model_validate({**TINY, **changes})
    site = Site(Key(config.seed), cache)
    return recipe.build(config, site), site


@pytest.fixture(scope="module")
def made(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache)
    return plan, execute(plan, site)


def test_a_student_calls_its_network_once_and_the_teacher_twice_a_step(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    rows = evaluate(plan.product, shelf, Key(1)).rows
    assert {row.contender: row.evaluations for row in rows} == {
        "teacher": 7,
        "student": 1,
        "student_2step": 2,
        "student_4step": 4,
        "teacher_1step": 1,
    }


def test_a_student_keeps_its_teachers_encoder_and_learns_its_decoder(made: tuple[Plan, Shelf]) -> None:
    _, shelf = made
    teacher, student = shelf["teacher"].net.state_dict(), shelf["student"].net.state_dict()
    moved = {name.partition(".")[0] for name in teacher if not torch.equal(teacher[name], student[name])}
    assert moved == {"decoder"}


def test_text_that_was_never_heard_becomes_a_wav_file_of_the_predicted_length(
    made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    plan, shelf = made
    batch = plan.product.request(SpeechOptions(text="A quick brown fox."), 2, Key(2))
    sampler = plan.product.contenders["student"]
    *_, last = sampler.fn(shelf, batch, Step.inference(Key(3)))
    files = plan.product.write(last.x, batch, tmp_path)
    frames = int(shelf["durations"].frames(batch.cond)[0].sum())
    assert [file.name for file in files] == ["00-a-quick-brown-fox.wav", "01-a-quick-brown-fox.wav"]
    assert soundfile.info(files[0]).frames == 256 * (frames - 1)


def test_another_key_is_another_voice_and_the_same_key_the_same_samples(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    batch = plan.product.request(SpeechOptions(), 1, Key(2))
    first, again, other = (
        list(plan.product.contenders["student"].fn(shelf, batch, Step.inference(Key(seed))))[-1].x["mel"]
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_any_number_of_steps_may_be_asked_of_student_and_teacher(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    batch = plan.product.request(SpeechOptions(), 1, Key(2))
    for name in ("student", "teacher"):
        again = plan.product.contenders[name].with_steps
        assert again is not None
        assert len(list(again(4).fn(shelf, batch, Step.inference(Key(3))))) == 5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"text": ""}, "nothing to say"),
        ({"text": "добрый день"}, "nothing to say"),
        ({"text": "good день"}, "unknown characters 'д'"),
        ({"text": "no " * 200}, "at most 300"),
        ({"pace": 0}, "greater than or equal to 0.5"),
    ],
)
def test_requests_that_cannot_be_spoken_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SpeechOptions.model_validate(given)


def test_a_voice_of_a_run_that_hides_them_is_refused_with_the_reason(made: tuple[Plan, Shelf]) -> None:
    with pytest.raises(ValidationError, match=r"speech\.speakers=hidden.*every --seed speaks in another"):
        made[0].product.options(voice="en-us+f2")


@pytest.fixture(scope="module")
def told(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache, speech={**TINY["speech"], "speakers": "told"})
    return plan, execute(plan, site)


def test_a_voice_that_was_told_is_chosen_by_its_name(told: tuple[Plan, Shelf]) -> None:
    plan, shelf = told
    sound = {}
    for voice in (None, "en-us+m3", "en-us+f2"):
        options = plan.product.options(**({} if voice is None else {"voice": voice}))
        batch = plan.product.request(options, 1, Key(2))
        sound[voice] = list(plan.product.contenders["student"].fn(shelf, batch, Step.inference(Key(3))))[
            -1
        ].x["mel"]
    assert torch.equal(sound[None], sound["en-us+m3"])  # the first speaks unless another is asked for
    assert sound["en-us+f2"].shape != sound[None].shape or not torch.allclose(sound["en-us+f2"], sound[None])


def test_an_unknown_voice_is_told_the_known_ones(told: tuple[Plan, Shelf]) -> None:
    with pytest.raises(
        ValidationError, match=r"this run knows en-us\+m3, en-us\+f2, but no voice 'en-us\+f3'"
    ):
        told[0].product.options(voice="en-us+f3")


def test_held_out_sentences_are_spoken_by_those_who_speak_them(told: tuple[Plan, Shelf]) -> None:
    batch = told[0].product.evaluation(2, Key(0))
    assert batch.cond.data["voice"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "speech",
    [{"voices": ("en-us",), "pitches": (50,)}, {"speakers": "told", "pitches": (50,)}],
    ids=["one voice", "told voices"],
)
def test_speech_that_hides_nothing_is_refused(speech: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="nothing is hidden from the networks"):
        CoMoSpeechConfig.model_validate({"speech": speech})


@pytest.mark.parametrize("objective", ["consistency", "dmd"])
def test_noise_around_the_encoders_expectation_is_the_same_for_teacher_and_student(
    cache: Path, objective: str
) -> None:
    plan, site = tiny(cache, noise={"prior": "mu"}, objective=objective)
    shelf = execute(plan, site)
    teacher, student = shelf["teacher"], shelf["student"]
    batch = plan.product.evaluation(2, Key(0))
    made, own = (model.process.noise(batch, Key(1)) for model in (teacher, student))
    assert torch.equal(made, own)
    plain = Key(1).normal(batch.like) * batch.mask
    torch.testing.assert_close(made - plain, teacher.net.mu(batch.cond, torch.float32).detach())
    assert not torch.equal(made, plain)


@pytest.mark.parametrize("objective", ["tdm", "scott"])
def test_objectives_that_draw_a_part_of_the_noise_are_refused_around_mu_before_anything_is_trained(
    objective: str,
) -> None:
    with pytest.raises(ValidationError, match=rf"objective={objective} draws parts of the noise anew"):
        CoMoSpeechConfig.model_validate({"noise": {"prior": "mu"}, "objective": objective})


def test_a_floor_of_noise_above_its_ceiling_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"noise\.lowest must be below"):
        CoMoSpeechConfig.model_validate({"noise": {"lowest": 30.0}})


@pytest.mark.parametrize("objective", ["dmd", "sid", "denoising"])
def test_another_objective_of_the_core_trains_the_same_student(cache: Path, objective: str) -> None:
    plan, site = tiny(cache, objective=objective)
    assert "student" in execute(plan, site)


def test_a_given_teacher_is_not_trained_again_but_durations_are(
    cache: Path, made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    file = tmp_path / "teacher.pt"
    torch.save(made[1]["teacher"].state_dict(), file)
    plan, site = tiny(cache, teacher={"kind": "checkpoint", "path": str(file)})
    shelf = execute(plan, site)
    assert torch.equal(shelf["teacher"].net.decoder.inner.weight, made[1]["teacher"].net.decoder.inner.weight)
    assert set(shelf) == {"teacher", "student", "durations"}


def test_a_teacher_that_does_not_speak_is_refused(cache: Path) -> None:
    plan, site = tiny(cache, teacher={"kind": "import", "target": "torch.nn:Identity"})
    with pytest.raises(FewstepError, match="the teacher is Identity"):
        execute(plan, site)
