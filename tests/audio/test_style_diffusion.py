"""Style diffusion: known prosody, codes and their decoders, pairs under drawn guidance, and what may be asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.objectives.perceptual import perceived
from fewstep.protocol import Batch, Cond, Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech.espeak import Request, speak
from fewstep_audio.style_diffusion import recipe
from fewstep_audio.style_diffusion.autoencoder import Book, Perception, Sizes, StyleAutoencoder
from fewstep_audio.style_diffusion.config import StyleDiffusionConfig
from fewstep_audio.style_diffusion.corpus import Cast, leveled, measured
from fewstep_audio.style_diffusion.fit import CodeSource, Tables, TakeSource, contrast
from fewstep_audio.style_diffusion.measure import pitch_correlation, prosody_error, rate_spread, timbre
from fewstep_audio.style_diffusion.network import StyleNetwork
from fewstep_audio.style_diffusion.product import StyleOptions, trimmed
from fewstep_audio.style_diffusion.prosody import by_phone, continuous, frames_of

CONTRACT = MelContract()
TINY = {
    "speech": {
        "sentences": 3,
        "takes": 2,
        "held_out": 2,
        "draws": 3,
        "voices": ["en-us+f1", "en-us+m3"],
        "unheard": ["en-us+f4", "en-us+m4"],
    },
    "codes": {"tokens": 2, "size": 4},
    "network": {"channels": 16, "blocks": 1, "heads": 2, "acoustic": 16},
    "decoder_updates": 2,
    "decoder_batch": 4,
    "teacher_updates": 2,
    "teacher_batch": 8,
    "teacher_steps": 3,
    "pairs": 16,
    "batch": 8,
    "updates": 2,
}
PAIRS = {"kind": "ode-pairs", "steps": 3, "solver": "ddim", "guidance": 0.0, "guidance_to": 7.0}
SEEN = {"perceptual": {"prosody": 1.0, "mel": 0.5}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tiny(cache: Path, **changes: object) -> tuple[Plan, Site]:
    config = StyleDiffusionConfig.model_validate({**TINY, "objective": {**PAIRS, **SEEN}, **changes})
    site = Site(Key(config.seed), cache)
    return recipe.build(config, site), site


@pytest.fixture(scope="module")
def made(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache)
    return plan, execute(plan, site)


def drawn(made: tuple[Plan, Shelf], who: str, batch: Batch, seed: int = 3) -> dict[str, torch.Tensor]:
    plan, shelf = made
    with torch.no_grad():
        *_, last = plan.product.contenders[who].fn(shelf, batch, Step.inference(Key(seed)))
    return last.x


# What is said, and how.


def test_pitch_runs_straight_through_what_is_unvoiced_and_level_at_the_ends() -> None:
    found = continuous(torch.tensor([0.0, 100.0, 0.0, 400.0, 0.0])).exp()
    assert torch.allclose(found, torch.tensor([100.0, 100.0, 200.0, 400.0, 400.0]), rtol=1e-5)
    assert continuous(torch.zeros(4)).isnan().all()


def test_a_phone_without_frames_takes_the_frame_at_which_it_stands() -> None:
    tracks = torch.tensor([[1.0], [3.0], [5.0], [9.0]])
    assert by_phone(tracks, torch.tensor([2, 0, 1, 1, 0]))[:, 0].tolist() == [2.0, 5.0, 5.0, 9.0, 9.0]


def test_a_slow_high_voice_is_measured_as_slow_and_high() -> None:
    text = "The river runs under the old bridge."
    told = {}
    for name, request in {
        "slow and high": Request(text, "en-us+f1", 70, 20, 140),
        "fast and low": Request(text, "en-us+f1", 40, 20, 220),
    }.items():
        speech = speak([request])[0]
        wave = torch.from_numpy(speech.wave)
        frames = torch.tensor([CONTRACT.frames(len(wave)) // 4] * 4)
        told[name] = measured(leveled(wave), frames, CONTRACT)[:, 0].mean(), len(wave)
    assert told["slow and high"][0] > told["fast and low"][0] + 0.3
    assert told["slow and high"][1] > 1.2 * told["fast and low"][1]


def test_the_prosody_of_every_utterance_is_drawn_and_the_draws_are_repeated() -> None:
    cast = Cast(("a", "b", "c"), ("d", "e"), (40, 60), (0, 80), (130, 230), 10, 20, 2, 30)
    assert cast.training() == cast.training()
    rates = torch.tensor([one.rate for one in cast.training()]).float()
    assert rates.min() >= 130
    assert rates.max() <= 230
    assert abs(float(rates.mean()) - 180) < 10
    assert {one.voice for one in cast.training()} == {"a", "b", "c"}
    assert [one.voice for one in cast.testing()] == ["d"] * 30 + ["e"] * 30


def test_how_close_the_microphone_was_is_no_style() -> None:
    wave = torch.sin(torch.arange(4000) / 9)
    assert torch.allclose(leveled(0.01 * wave), leveled(wave), atol=1e-6)


def test_a_prompt_is_another_take_of_the_same_voice(cache: Path) -> None:
    voice = torch.tensor([0, 1, 0, 0, 1, 2])
    from fewstep_audio.style_diffusion.fit import _fellows

    found = _fellows(voice)
    assert torch.equal(voice[found], voice[:, None].expand_as(found))
    for row, others in enumerate(found.tolist()):
        assert (row in others) == (row == 5)


# Codes and decoders.


@pytest.fixture(scope="module")
def auto() -> StyleAutoencoder:
    torch.manual_seed(0)
    found = StyleAutoencoder(Sizes(80, 2, 4, 16, 2, 16)).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return found.requires_grad_(False)


def text(length: int, padded: int) -> Cond:
    phones = torch.zeros(1, padded, dtype=torch.int64)
    phones[0, :length] = 1 + torch.arange(length) % 30
    return Cond({"phones": phones, "stress": torch.zeros_like(phones)})


def test_padding_changes_no_code_and_no_prosody(auto: StyleAutoencoder) -> None:
    prosody = Key(1).normal(torch.zeros(1, 9, 3))
    short, wide = text(6, 6), text(6, 9)
    assert torch.allclose(auto.encoded(prosody[:, :6], short), auto.encoded(prosody, wide), atol=1e-5)
    code = Key(2).normal(torch.zeros(1, 3, 4))
    assert torch.allclose(auto.decoded(code, short)[1], auto.decoded(code, wide)[1][:, :6], atol=1e-5)
    assert not auto.decoded(code, wide)[1][:, 6:].any()


def test_every_token_of_a_code_has_unit_variance(auto: StyleAutoencoder) -> None:
    code = auto.encoded(Key(1).normal(torch.zeros(1, 6, 3)), text(6, 6))
    assert torch.allclose(code.mean(-1), torch.zeros(1, 2), atol=1e-5)
    assert torch.allclose(code.var(-1, unbiased=False), torch.ones(1, 2), atol=1e-2)


def test_durations_are_whole_frames_and_at_least_one() -> None:
    prosody = torch.zeros(1, 3, 3)
    prosody[0, :, 2] = torch.tensor([-3.0, 1.0, 2.0])
    real = torch.tensor([[True, True, False]])
    assert frames_of(prosody, real).tolist() == [[1, 2, 0]]


def test_a_book_gives_its_nearest_vector_and_the_gradient_of_the_identity() -> None:
    book = Book(8, 4)
    code = book.vectors.detach()[None, :3] + 0.01
    code.requires_grad_(True)
    snapped = book(code)
    assert torch.allclose(snapped, book.vectors[None, :3], atol=1e-6)
    snapped.sum().backward()
    assert torch.allclose(code.grad, torch.ones_like(code))


def test_voices_find_the_prompts_of_their_own_speaker() -> None:
    voices = torch.eye(4)[torch.tensor([0, 0, 1, 2])] * 2
    who = torch.tensor([0, 0, 1, 2])
    assert contrast(voices, voices, who) < contrast(voices, voices.roll(1, 0), who)


# What a frozen decoder sees.


def test_the_decoders_see_nothing_in_equal_codes_and_their_gradient_reaches_only_the_answer(
    auto: StyleAutoencoder,
) -> None:
    eyes = Perception(auto, torch.zeros(3, 4), torch.ones(3, 4))
    cond, aim = text(6, 8), Key(5).normal(torch.zeros(1, 3, 4))
    weights = {"prosody": 1.0, "mel": 0.5}
    assert float(perceived(eyes, aim, aim, cond, weights)[0]) == 0
    mine = (aim + 0.3).requires_grad_(True)
    total, told = perceived(eyes, mine, aim, cond, weights)
    total.backward()
    assert mine.grad is not None
    assert bool((mine.grad.abs().sum((0, 2)) > 0).all())  # every token, the voice too
    assert set(told) == {"seen/prosody", "seen/mel"}


def test_a_weight_for_what_the_decoders_do_not_show_is_refused(auto: StyleAutoencoder) -> None:
    eyes, x = Perception(auto, torch.zeros(3, 4), torch.ones(3, 4)), torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match="a weight is given for taste"):
        perceived(eyes, x, x, text(6, 6), {"taste": 1.0})


def test_a_student_does_what_its_teacher_does_at_any_guidance_before_it_learns() -> None:
    torch.manual_seed(0)
    teacher = StyleNetwork(3, 4, 16, 1, 2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    student = teacher.copied(lands=False)
    data = {"phones": torch.ones(2, 5, dtype=torch.int64), "text": torch.randn(2, 5, 16)}
    cond = Cond({**data, "prompt": torch.randn(2, 4), "told": torch.ones(2)})
    x, time = torch.randn(2, 3, 4), torch.zeros(2)
    told = student(x, time, cond, guidance=torch.tensor([0.0, 5.0]))
    assert torch.allclose(told, teacher(x, time, cond))
    assert student.accepts == {"guidance"}
    assert not teacher.accepts


# What is measured.


def groups(seed: int, count: int = 12) -> Batch:
    key = Key(seed)
    phones = torch.ones(2 * count, 5, dtype=torch.int64)
    prosody = key.at("prosody").normal(torch.zeros(2 * count, 5, 3)) * 0.2
    prosody[:, :, 0] += 0.3 * key.at("height").normal(torch.zeros(2 * count, 1)) + 5
    prosody[count:, :, 0] += 3  # another voice: must not count
    frames = 2 + key.at("frames").integers((2 * count, 5), 20)
    prosody[:, :, 2] = torch.log1p(frames.float())
    x = {"prosody": prosody, "frames": frames, "mel": torch.zeros(2 * count, 80, 100)}
    return Batch(phones, x, Cond({"phones": phones}), {"group": torch.arange(2 * count) // count})


def test_measures_know_the_truth_and_ignore_what_text_and_voice_explain() -> None:
    batch = groups(0)
    assert prosody_error().fn(batch.x, batch, Key(0)).value == 0
    assert pitch_correlation().fn(batch.x, batch, Key(0)).value == pytest.approx(1)
    assert rate_spread().fn(batch.x, batch, Key(0)).value == 0
    strange = groups(1).x
    assert abs(pitch_correlation().fn(strange, batch, Key(0)).value) < 0.6


def test_the_mean_over_all_noises_has_an_error_of_one_and_no_spread() -> None:
    batch = groups(0)
    from fewstep_audio.style_diffusion.measure import group_mean

    group = batch.extra["group"]
    mean = {"prosody": group_mean(batch.x["prosody"], group)[group], "frames": batch.x["frames"] * 0 + 9}
    assert prosody_error().fn(mean, batch, Key(0)).value == pytest.approx(1, abs=1e-4)
    assert rate_spread().fn(mean, batch, Key(0)).value == pytest.approx(1)
    assert abs(pitch_correlation().fn(mean, batch, Key(0)).value) < 0.2


def test_the_timbre_of_a_sound_does_not_depend_on_its_level() -> None:
    mel = Key(0).normal(torch.zeros(80, 60))
    assert torch.allclose(timbre(mel), timbre(mel + 2), atol=1e-5)


# The whole, in its smallest size.


def test_one_call_for_the_student_and_two_a_step_for_the_guided_teacher(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    rows = {row.contender: row.evaluations for row in evaluate(plan.product, shelf, Key(1)).rows}
    assert rows["student"] == rows["guidance_0"] == 1
    assert rows["teacher"] == 2 * (3 + 1)
    assert rows["teacher_1step"] == 2


def test_recorded_pairs_hold_their_scales_and_say_their_law(made: tuple[Plan, Shelf]) -> None:
    from safetensors.torch import load_file

    folder = made[1]["pairs"]
    facts = json.loads((folder / "pairs.json").read_text())
    assert facts["guidance"] == "Uniform(low=0.0, high=7.0)"
    assert len(list(folder.glob("*.safetensors"))) == 2
    ranges = [t for t in load_file(folder / "00000.safetensors").values() if t.dtype == torch.float64]
    assert any(float(t.max() - t.min()) > 1 for t in ranges)


def test_codes_are_normalized_in_every_dimension(made: tuple[Plan, Shelf], cache: Path) -> None:
    plan, _ = tiny(cache)
    stage = next(stage for stage in plan.stages if stage.name == "teacher")
    source = stage.build(made[1]).source  # type: ignore[union-attr]
    assert isinstance(source, CodeSource)
    assert torch.allclose(source.states.mean(0), torch.zeros(3, 4), atol=1e-5)


def test_crops_of_take_and_prompt_are_of_one_voice(cache: Path) -> None:
    plan, _ = tiny(cache)
    source = plan.stages[0].build({}).source  # type: ignore[union-attr]
    assert isinstance(source, TakeSource)
    batch = source.batch(0, Key(0))
    assert batch.extra["mel"].shape == batch.extra["prompt"].shape == (4, 80, 64)
    assert batch.x.shape[:2] == batch.cond.data["phones"].shape
    assert isinstance(source.tables, Tables)


def test_a_text_and_a_voice_become_a_wav_file(made: tuple[Plan, Shelf], tmp_path: Path) -> None:
    plan, _ = made
    batch = plan.product.request(StyleOptions(text="A quick fox.", voice="en-us+m3", guidance=2.0), 2, Key(2))
    x = drawn(made, "student", batch)
    files = plan.product.write(x, batch, tmp_path)
    assert [file.name for file in files] == ["00-a-quick-fox.wav", "01-a-quick-fox.wav"]
    assert soundfile.info(files[0]).frames == 256 * (int(x["frames"][0].sum()) - 1)


def recorded(path: Path, rate: int = 16000, channels: int = 2) -> Path:
    """Half a second of silence, a buzz, silence again."""
    time = np.arange(rate) / rate
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12)) * 0.1
    silent = np.zeros(rate // 2)
    wave = np.concatenate([silent, buzz, silent])
    soundfile.write(path, np.stack([wave] * channels, 1), rate)
    return path


def test_a_stereo_recording_of_another_rate_is_a_prompt(made: tuple[Plan, Shelf], tmp_path: Path) -> None:
    asked = StyleOptions(text="A fox.", reference=str(recorded(tmp_path / "me.wav")))
    batch = made[0].product.request(asked, 1, Key(2))
    assert batch.extra["prompts"][0].shape[1] == pytest.approx(22050 / 256, abs=3)  # the silence is gone
    assert torch.isfinite(drawn(made, "student", batch)["mel"]).all()


def test_silence_is_no_reference_and_is_refused_with_its_reason(
    made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    asked = StyleOptions(reference=str(tmp_path / "silent.wav"))
    with pytest.raises(FewstepError, match="silent"):
        made[0].product.request(asked, 1, Key(2))
    with pytest.raises(FewstepError, match="no such file"):
        made[0].product.request(StyleOptions(reference=str(tmp_path / "gone.wav")), 1, Key(2))


def test_an_unknown_voice_is_answered_with_the_nearest(made: tuple[Plan, Shelf]) -> None:
    with pytest.raises(FewstepError, match=r"en-us\+f7.*en-us\+f"):
        made[0].product.request(StyleOptions(voice="en-us+f7"), 1, Key(2))


def test_the_ends_of_a_recording_are_trimmed_and_its_middle_is_not() -> None:
    tone = torch.sin(torch.arange(22050) / 7)
    wave = torch.cat([torch.zeros(9000), tone, torch.zeros(5000), tone, torch.zeros(9000)])
    assert len(trimmed(wave, CONTRACT)) == pytest.approx(2 * 22050 + 5000, abs=600)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"speech": {"pitch": (60, 40)}}, "a range rises"),
        ({"speech": {"voices": ("en-us+f1", "en-us+f4")}}, "stands in voices and in unheard"),
        ({"network": {"channels": 18, "heads": 4}}, "give a divisor"),
        ({"pairs": 8, "batch": 64}, "do not fill a batch"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        StyleDiffusionConfig.model_validate(changes)


@pytest.mark.parametrize("objective", ["dmd", "consistency", "guidance", PAIRS])
def test_another_objective_of_the_core_trains_the_same_student(
    cache: Path, objective: str | dict[str, object]
) -> None:
    plan, site = tiny(cache, objective=objective)
    assert "student" in execute(plan, site)


def test_codes_may_snap_to_a_book(cache: Path) -> None:
    plan, site = tiny(cache, codes={"tokens": 2, "size": 4, "quantise": True})
    assert execute(plan, site)["autoencoder"].book is not None


def test_a_given_teacher_is_not_trained_again(cache: Path, made: tuple[Plan, Shelf], tmp_path: Path) -> None:
    file = tmp_path / "teacher.pt"
    torch.save(made[1]["teacher"].state_dict(), file)
    plan, site = tiny(cache, teacher={"kind": "checkpoint", "path": str(file)}, objective="consistency")
    shelf = execute(plan, site)
    assert torch.equal(shelf["teacher"].net.place, made[1]["teacher"].net.place)
    assert "teacher" not in [stage.name for stage in plan.stages]
