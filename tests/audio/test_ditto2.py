"""Controls against closed forms, words as controls, the recipe in its smallest size, and the command that uses it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep_audio.ditto2 import recipe
from fewstep_audio.ditto2.asked import gap
from fewstep_audio.ditto2.config import Ditto2Config
from fewstep_audio.ditto2.controls import (
    Adherence,
    Intensity,
    Known,
    Melody,
    PerRow,
    Structure,
    Sum,
    chroma,
    cosines,
    decibels,
    ramp,
    savitzky_golay,
    similarity,
    smoothed,
)
from fewstep_audio.ditto2.measures import distance as frechet
from fewstep_audio.ditto2.optimise import (
    Search,
    cosines_of,
    decoded,
    energy,
    optimise,
    through_student,
    through_teacher,
    turned,
    turned_back,
)
from fewstep_audio.ditto2.recipe import free_batch
from fewstep_audio.ditto2.requests import Request, mixed, understood
from fewstep_audio.music.corpus import MUSIC
from fewstep_audio.sound.mel import Scale, band_centers, log_mel

ONES = torch.ones(MUSIC.bands, 1)
PLAIN = Scale(0 * ONES, ONES)


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5) -> Tensor:
    time = torch.arange(round(seconds * MUSIC.rate)) / MUSIC.rate
    return level * torch.sin(2 * math.pi * hertz * time)


def noise(seconds: float = 1.0, level: float = 0.1) -> Tensor:
    return level * Key(0).normal(torch.zeros(round(seconds * MUSIC.rate)))


def mel(wave: Tensor) -> Tensor:
    return log_mel(wave, MUSIC)[None]


# ----------------------------------------------------------------------------------------------------------- intensity


@pytest.mark.parametrize("gain", [-20.0, -6.0, 6.0])
def test_a_sound_scaled_by_some_decibels_is_that_many_louder(gain: float) -> None:
    before, after = (decibels(mel(wave), MUSIC) for wave in (noise(), noise() * 10 ** (gain / 20)))
    torch.testing.assert_close(after - before, torch.full_like(before, gain), atol=1e-3, rtol=0)


@pytest.mark.parametrize("wave", [noise(level=0.1), tone(440), tone(2000), tone(220) + tone(660, level=0.2)])
def test_decibels_of_a_spectrogram_are_nearly_those_of_the_sound(wave: Tensor) -> None:
    truth = 20 * math.log10(float(wave.square().mean().sqrt()))
    assert float(decibels(mel(wave), MUSIC)[0, 5:-5].mean()) == pytest.approx(
        truth, abs=2.5
    )  # white noise: a quarter lies above the bands


def test_silence_is_at_the_floor_and_has_no_gradient() -> None:
    silent = mel(torch.zeros(MUSIC.rate)).requires_grad_(True)
    level = decibels(silent, MUSIC)
    assert torch.equal(level, torch.full_like(level, -60.0))
    (slope,) = torch.autograd.grad(level.sum(), [silent])
    assert not slope.any()


def test_smoothing_keeps_straight_lines_and_agrees_with_scipy() -> None:
    signal = pytest.importorskip("scipy.signal")
    line = torch.linspace(-40, -10, 100)[None]
    torch.testing.assert_close(smoothed(line, 43)[:, 30:-30], line[:, 30:-30])
    for width, order in ((43, 1), (21, 2)):
        expected = torch.from_numpy(signal.savgol_coeffs(width, order)).float()
        torch.testing.assert_close(savitzky_golay(width, order), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="odd"):
        savitzky_golay(10, 1)


def test_intensity_is_zero_for_its_own_curve_and_the_square_of_a_constant_gap() -> None:
    given = mel(noise(3.0))
    curve = smoothed(decibels(given, MUSIC), 43)[0]
    assert Intensity(curve, MUSIC)(given) == pytest.approx(0, abs=1e-6)
    off = Intensity(curve - 6, MUSIC)
    assert float(off(given)) == pytest.approx(36, rel=1e-3)
    assert off.shown(36.0) == 6


def test_a_ramp_goes_straight_through_its_points() -> None:
    frames = 130
    curve = ramp([(3.0, -10.0), (0.0, -40.0)], frames, MUSIC)
    assert curve[0] == -40
    assert float(curve[-1]) == pytest.approx(-40 + 10 * (frames - 1) * MUSIC.hop / MUSIC.rate, abs=1e-4)


# ------------------------------------------------------------------------------------------------------ melody, chroma


@pytest.mark.parametrize("pitch", range(60, 90, 3))
def test_a_pure_tone_has_its_energy_in_its_pitch_class(pitch: int) -> None:
    shares = chroma(mel(tone(440 * 2 ** ((pitch - 69) / 12))), MUSIC)[0, :, 10:-10].mean(1)
    assert int(shares.argmax()) == pitch % 12
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert float(shares.max()) > (0.65 if pitch >= 69 else 0.4)  # at middle C a band is as wide as a semitone


def test_chroma_does_not_depend_on_loudness() -> None:
    one, other = (chroma(mel(wave), MUSIC) for wave in (tone(440), 0.1 * tone(440)))
    torch.testing.assert_close(one[..., 3:-3], other[..., 3:-3], atol=1e-3, rtol=1e-3)


def test_melody_prefers_the_tone_that_was_asked_and_does_not_hear_rests() -> None:
    frames = mel(tone(440)).shape[-1]
    asked = torch.full((frames,), 9)
    a, c = (Melody(asked, MUSIC)(mel(tone(hertz))) for hertz in (440.0, 523.25))
    assert a < 0.6 < 2.5 < c
    asked[::2] = -1
    half = Melody(asked, MUSIC)(mel(tone(440)))
    assert half == pytest.approx(float(a), abs=0.1)


def test_equal_energy_everywhere_costs_the_logarithm_of_twelve() -> None:
    flat = torch.zeros(1, MUSIC.bands, 10)
    centers = band_centers(MUSIC)
    assert float(centers.diff()[:20].mean()) < 16
    loss = torch.stack([Melody(torch.full((10,), which), MUSIC)(flat)[0] for which in range(12)])
    assert float(loss.mean()) == pytest.approx(math.log(12), abs=0.1)


# ------------------------------------------------------------------------------------- inpainting, structure, the rest


def test_what_is_not_known_does_not_count() -> None:
    reference = Key(1).normal(torch.zeros(MUSIC.bands, 30))
    known = gap(30)
    assert known.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    control = Known(reference, known, 2 * ONES)
    x = reference.clone()[None]
    x[:, :, ~known] += 100
    assert float(control(x)) == 0
    assert float(control(x + 4)) == pytest.approx(4)
    assert control.shown(4.0) == 2


def test_cepstra_are_rows_of_an_orthonormal_transform_without_the_level() -> None:
    rows = cosines(192)
    torch.testing.assert_close(rows @ rows.T, torch.eye(13), atol=1e-5, rtol=0)
    assert float((rows @ torch.ones(192)).abs().max()) < 1e-4


def sections(letters: str, frames: int = 40) -> Tensor:
    """(1, M, T) whose sections are cepstra of their own."""
    return torch.cat(
        [cosines(192)[ord(letter) - ord("A"), :, None].expand(-1, frames) for letter in letters], 1
    )[None]


def test_the_similarity_of_an_aba_is_one_where_letters_agree_and_zero_elsewhere() -> None:
    found = similarity(sections("ABA"), block=8)[0]
    assert found.shape == (15, 15)
    assert found[1, 1:4].tolist() == pytest.approx([1, 1, 1])
    assert float(found[2, 7]) == pytest.approx(0, abs=1e-5)
    assert float(found[2, 12]) == pytest.approx(1, abs=1e-5)


def test_structure_is_zero_for_what_was_asked_and_not_for_another_form() -> None:
    control = Structure("ABA", PLAIN.mean, PLAIN.std)
    assert float(control(sections("ABA"))) == pytest.approx(0, abs=1e-5)
    assert float(control(sections("CBC"))) == pytest.approx(0, abs=1e-5)
    assert float(control(sections("AAB"))) > 0.1
    assert float(control(sections("AAA"))) > 0.1


def test_adherence_is_zero_on_its_target_and_one_at_a_right_angle() -> None:
    control = Adherence(lambda x: x.mean(2), torch.tensor([1.0, 0.0]))
    x = torch.tensor([[[2.0], [0.0]], [[0.0], [3.0]]])
    assert control(x).tolist() == pytest.approx([0, 1])


def test_a_sum_weighs_its_parts_and_rows_are_asked_for_their_own() -> None:
    reference, known = torch.zeros(MUSIC.bands, 4), torch.ones(4, dtype=torch.bool)
    low, high = Known(reference, known, ONES), Known(reference + 2, known, ONES)
    x = torch.zeros(2, MUSIC.bands, 4)
    assert Sum(((1.0, low), (0.5, high)))(x).tolist() == [2, 2]
    assert PerRow((low, high))(x).tolist() == [0, 4]


@pytest.mark.parametrize(
    "control",
    [
        Known(torch.zeros(MUSIC.bands, 32), gap(32), ONES),
        Intensity(torch.full((32,), -20.0), MUSIC),
        Melody(torch.arange(32) % 12, MUSIC),
        Structure("ABA", PLAIN.mean, PLAIN.std),
    ],
    ids=lambda control: control.name,
)
def test_every_control_has_a_gradient_that_leads_down(
    control: Known | Intensity | Melody | Structure,
) -> None:
    x = (Key(2).normal(torch.zeros(2, MUSIC.bands, 32)) - 3).requires_grad_(True)
    loss = control(x)
    assert loss.shape == (2,)
    (slope,) = torch.autograd.grad(loss.sum(), [x])
    ahead = control(x - 1e-3 * slope / slope.norm())
    assert bool((ahead < loss).all())


def test_the_timbre_of_a_sound_is_nearer_to_itself_than_to_another() -> None:
    pytest.importorskip("resemblyzer", reason="timbre needs pip install --no-deps resemblyzer")
    from fewstep_audio.ditto2.embeddings import timbre
    from fewstep_audio.metrics.speakers import voice

    buzz = (torch.sin(2 * math.pi * 200 * torch.arange(3 * MUSIC.rate) / MUSIC.rate) > 0).float() - 0.5
    waves = [0.3 * buzz, tone(500, 3.0, 0.2), noise(3.0, 0.05)]
    ours = torch.cat([timbre(mel(wave)) for wave in waves])
    theirs = torch.stack([voice(wave, MUSIC.rate) for wave in waves])
    assert (ours @ theirs.T).argmax(1).tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLAP model of random weights in its smallest size, saved as a user's would be."""
    transformers = pytest.importorskip("transformers", reason='CLAP needs pip install "fewstep[diffusers]"')
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    sound = {"spec_size": 256, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2]}
    config = transformers.ClapConfig(
        text_config={**small, "intermediate_size": 16, "vocab_size": 64},
        audio_config={**sound, "hidden_size": 16, "projection_dim": 8, "window_size": 8},
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    transformers.ClapModel(config).save_pretrained(folder)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "soft": 4, "loud": 5}
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_a_text_is_approached_through_a_clap_model_from_a_folder(clap_folder: str) -> None:
    from fewstep_audio.ditto2.embeddings import Clap

    job = understood(Request(text="soft", clap=clap_folder), PLAIN)
    control = job.controls[0][1]
    x = mel(noise(2.0)).requires_grad_(True)
    (slope,) = torch.autograd.grad(control(x).sum(), [x])
    assert control(x - 5 * slope / slope.norm()) < control(x)
    clap = Clap(clap_folder)
    assert not torch.allclose(clap.text("soft"), clap.text("loud"))
    assert clap(mel(noise(12.0))).shape == (1, 8)


def test_a_text_without_a_model_and_a_folder_without_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="needs --clap"):
        understood(Request(text="soft"), PLAIN)
    pytest.importorskip("transformers", reason='CLAP needs pip install "fewstep[diffusers]"')
    with pytest.raises(FewstepError, match="holds no CLAP model"):
        understood(Request(text="soft", clap=str(tmp_path)), PLAIN)


def test_the_frechet_distance_of_shifted_and_widened_samples_is_known() -> None:
    x = Key(3).normal(torch.zeros(4000, 3, dtype=torch.float64))
    assert float(frechet(x, x)) == pytest.approx(0, abs=1e-9)
    assert float(frechet(x + 2, x)) == pytest.approx(12, rel=1e-6)
    assert float(frechet(3 * x, x)) == pytest.approx(
        4 * float(x.T.cov().trace()) + float((2 * x.mean(0)).square().sum())
    )


# ------------------------------------------------------------------------------------------------------------- search


def test_the_search_keeps_the_best_of_each_row_and_stops_when_nothing_improves() -> None:
    target = torch.tensor([[1.0], [-1.0]])
    found = optimise(
        lambda z: z, lambda x: (x - target).square().mean(1), torch.zeros(2, 1), Search(500, 0.1, patience=5)
    )
    assert len(found.losses) < 300
    torch.testing.assert_close(found.noise, target, atol=0.1, rtol=0)
    assert torch.equal(found.best, found.losses.amin(0))
    again = (found.noise - target).square().mean(1)
    torch.testing.assert_close(again, found.best)


def test_the_search_stops_when_it_is_good_enough() -> None:
    found = optimise(
        lambda z: z, lambda x: x.square().mean(1), torch.ones(1, 4), Search(100, 0.05, enough=0.5)
    )
    assert 0.4 < float(found.best) <= 0.5
    assert len(found.losses) < 16


def test_noise_as_waves_is_noise_and_comes_back() -> None:
    z = Key(0).normal(torch.zeros(2, 5, 7))
    waves = cosines_of(z)
    there = turned(z, waves)
    torch.testing.assert_close(turned_back(there, waves), z)
    torch.testing.assert_close(there.norm(), z.norm())
    torch.testing.assert_close(there[:, 0, 0], z.sum((1, 2)) / math.sqrt(35))


def test_one_step_of_the_search_moves_the_mean_by_its_rate_not_by_that_of_all_coordinates() -> None:
    size = 64 * 64
    z = torch.zeros(1, 64, 64)
    found = optimise(lambda z: z, lambda x: 100 - x.sum((1, 2)), z, Search(1, lr=0.05))
    assert float(found.noise.sum()) / math.sqrt(size) == pytest.approx(0.05, rel=1e-3)


def test_noise_lies_on_its_shell() -> None:
    assert energy(Key(0).normal(torch.zeros(3, 192, 64))).tolist() == pytest.approx([1, 1, 1], abs=0.05)


# ------------------------------------------------------------------------------------------------------------- recipe

TINY = {
    "music": {"tunes": 2, "held_out": 1, "seconds": 3.5, "programs": (4,)},
    "network": {"channels": 16, "dilations": (1, 2)},
    "batch": 2,
    "crop": 16,
    "shown": 32,
    "samples": 3,
    "teacher_updates": 2,
    "teacher_steps": 3,
    "updates": 2,
    "search": {"iterations": 3},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("music21", reason='the recipe needs pip install "fewstep[music]"')
    return tmp_path_factory.mktemp("cache")


def tiny(cache: Path, **changes: object) -> tuple[Plan, Site]:
    config = Ditto2Config.model_validate({**TINY, **changes})
    site = Site(Key(config.seed), cache)
    return recipe.build(config, site), site


@pytest.fixture(scope="module")
def made(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache)
    return plan, execute(plan, site)


def test_calls_are_those_of_search_and_decoder(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    rows = evaluate(plan.product, shelf, Key(1)).rows
    search = 3 + 1
    assert {row.contender: row.evaluations for row in rows} == {
        "teacher": 7,
        "student": 1,
        "student_4step": 4,
        "teacher_1step": 1,
        "controlled": search + 1,
        "controlled_teacher": search + 7,
        "controlled_renoised": search + 4,
        "controlled_teacher_1step": search + 7,
    }


def test_a_student_decodes_the_same_noise_to_the_same_sample_in_any_length(
    made: tuple[Plan, Shelf],
) -> None:
    student = made[1]["student"]
    for frames in (16, 64):
        batch = free_batch(1, frames)
        z = Key(4).normal(torch.zeros(1, MUSIC.bands, frames))
        one, four = (decoded(student, batch, z, steps) for steps in (1, 4))
        assert one.shape == four.shape == z.shape
        assert torch.equal(four, decoded(student, batch, z, 4))


def test_one_step_of_the_decoder_is_what_was_optimised(made: tuple[Plan, Shelf]) -> None:
    student, batch = made[1]["student"], free_batch(2, 16)
    z = Key(4).normal(torch.zeros(2, MUSIC.bands, 16))
    assert torch.equal(decoded(student, batch, z, 1), through_student(student, batch)(z))


def test_a_decoder_that_draws_fresh_noise_is_refused(
    made: tuple[Plan, Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = made[1]["student"]
    monkeypatch.setattr(student, "rule", "renoise")
    with pytest.raises(ValueError, match="fresh noise"):
        decoded(student, free_batch(1, 16), torch.zeros(1, MUSIC.bands, 16), 4)


def test_one_call_of_the_teacher_is_its_clean_estimate_and_checkpoints_change_nothing(
    made: tuple[Plan, Shelf],
) -> None:
    teacher, batch = made[1]["teacher"], free_batch(1, 16)
    z = Key(5).normal(torch.zeros(1, MUSIC.bands, 16))
    highest = torch.tensor([teacher.process.t_max], dtype=torch.float64)
    once = teacher((highest * z).float(), highest).x0
    torch.testing.assert_close(through_teacher(teacher, batch, 1)(z), once)
    leaf = z.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(through_teacher(teacher, batch, 3)(leaf).square().sum(), [leaf])
    times = teacher.process.grid(3)[:-1]
    plain = z.clone().requires_grad_(True)
    x = teacher.process.corrupt(None, plain, times[:1])
    for now, then in itertools.pairwise(times):
        x = teacher.process.jump(x, teacher(x, now[None]), now[None], then[None])
    (expected,) = torch.autograd.grad(teacher(x, times[-1:]).x0.square().sum(), [plain])
    torch.testing.assert_close(slope, expected)


def test_music_of_any_length_becomes_wav_files(made: tuple[Plan, Shelf], tmp_path: Path) -> None:
    plan, shelf = made
    batch = plan.product.request(plan.product.options(seconds=1.0), 2, Key(2))
    *_, last = plan.product.contenders["student"].fn(shelf, batch, Step.inference(Key(3)))
    files = plan.product.write(last.x, batch, tmp_path)
    assert [soundfile.info(file).frames for file in files] == [512 * (22050 // 512)] * 2


def test_controlled_music_without_a_control_is_refused_with_the_command_that_takes_one(
    made: tuple[Plan, Shelf],
) -> None:
    plan, shelf = made
    batch = plan.product.request(plan.product.options(seconds=1.0), 1, Key(2))
    with pytest.raises(FewstepError, match="fewstep audio ditto"):
        list(plan.product.contenders["controlled"].fn(shelf, batch, Step.inference(Key(3))))


@pytest.mark.parametrize(("objective", "rule"), [("ctm", "flow"), ("dmd", "ddim")])
def test_another_objective_of_the_core_trains_a_student_that_decodes_steadily(
    cache: Path, objective: str, rule: str
) -> None:
    plan, site = tiny(cache, objective=objective)
    student = execute(plan, site)["student"]
    assert student.rule == rule
    batch, z = free_batch(1, 16), Key(4).normal(torch.zeros(1, MUSIC.bands, 16))
    assert torch.equal(decoded(student, batch, z, 4), decoded(student, batch, z, 4))


def test_a_given_teacher_is_not_trained_again(cache: Path, made: tuple[Plan, Shelf], tmp_path: Path) -> None:
    file = tmp_path / "teacher.pt"
    torch.save(made[1]["teacher"].state_dict(), file)
    plan, site = tiny(cache, teacher={"kind": "checkpoint", "path": str(file)})
    shelf = execute(plan, site)
    assert set(shelf) == {"teacher", "student"}
    assert torch.equal(shelf["teacher"].net.mean, made[1]["teacher"].net.mean)


def test_a_teacher_that_makes_no_music_is_refused(cache: Path) -> None:
    plan, site = tiny(cache, teacher={"kind": "import", "target": "torch.nn:Identity"})
    with pytest.raises(FewstepError, match="the teacher is Identity"):
        execute(plan, site)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"music": {"programs": (200,)}}, "0 to 127"),
        ({"crop": 4000}, "shorter than music.seconds"),
        ({"noise": {"lowest": 300.0}}, r"noise\.lowest must be below"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Ditto2Config.model_validate(given)


# ------------------------------------------------------------------------------------------------ words of the command


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("song") / "song.wav"
    wave = torch.cat([tone(hertz, 1.0, 0.2) for hertz in (262, 330, 392, 523)])
    soundfile.write(file, wave.numpy(), MUSIC.rate)
    return str(file)


def test_inpainting_keeps_the_song_outside_of_the_span(song: str) -> None:
    job = understood(Request(inpaint=(song, "1.0-2.0")), PLAIN)
    ((weight, control),) = job.controls
    assert weight == 1
    assert isinstance(control, Known)
    free = (~control.known).nonzero()
    assert int(free.min()) * 512 / 22050 == pytest.approx(1.0, abs=0.1)
    assert int(free.max()) * 512 / 22050 == pytest.approx(2.0, abs=0.1)
    before, rate = soundfile.read(song, dtype="float32")
    after = job.finish(torch.zeros(512 * (job.frames - 1)))
    assert torch.equal(after[: rate - 2000], torch.from_numpy(before)[: rate - 2000])
    assert float(after[rate : 2 * rate].abs().max()) == 0
    assert torch.equal(after[2 * rate + 2000 :], torch.from_numpy(before)[2 * rate + 2000 :])


def test_outpainting_agrees_with_the_songs_end_and_adds_what_was_asked(song: str) -> None:
    job = understood(Request(outpaint=(song, "1.5")), PLAIN)
    whole = log_mel(torch.from_numpy(soundfile.read(song, dtype="float32")[0]), MUSIC)
    control = job.controls[0][1]
    assert control.name == "outpaint"
    kept = round(2.0 * 22050 / 512)
    last = 4 * 22050 // 512
    assert torch.equal(control.reference[:, :kept], whole[:, last - kept : last])
    added = len(job.finish(torch.zeros(512 * (job.frames - 1)))) / 22050 - 4.0
    assert added == pytest.approx(1.5, abs=0.05)


def test_a_loop_leads_from_the_end_to_the_beginning(song: str) -> None:
    job = understood(Request(loop=song, seconds=2.0), PLAIN)
    control = job.controls[0][1]
    assert bool(control.known[0])
    assert bool(control.known[-1])
    assert not bool(control.known[job.frames // 2])
    length = len(job.finish(torch.zeros(512 * (job.frames - 1)))) / 22050
    assert length == pytest.approx(6.0, abs=0.05)


def test_a_mixture_changes_only_between_its_ends() -> None:
    out = mixed(torch.ones(22050), torch.zeros(22050), 8000, 12000)
    assert float(out[8000:12000].max()) == 0
    assert float(out[:7000].min()) == float(out[13000:].min()) == 1


def test_words_become_controls_with_weights_and_a_length(song: str) -> None:
    request = Request(intensity="0:-30 3:-10", melody="C4:1 E4:2", structure="ABA", weights="melody=0.5")
    job = understood(request, PLAIN)
    assert [(weight, control.name) for weight, control in job.controls] == [
        (1, "intensity"),
        (0.5, "melody"),
        (1, "structure"),
    ]
    assert job.frames == MUSIC.frames(3 * 22050)
    classes = job.controls[1][1].classes
    assert classes[:43].tolist() == [0] * 43
    assert classes[50:120].tolist() == [4] * 70


def test_an_embedding_of_anyones_own_can_be_named(
    song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_embeddings.py").write_text("def level(mel):\n    return mel.mean(2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    control = understood(Request(like=song, embed="my_embeddings:level"), PLAIN).controls[0][1]
    assert control.name == "adherence"
    heard = log_mel(torch.from_numpy(soundfile.read(song, dtype="float32")[0]), MUSIC)[None]
    assert float(control(heard)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(FewstepError, match="cannot be imported"):
        understood(Request(like=song, embed="my_embeddings:gone"), PLAIN)


def test_all_that_is_wrong_is_told_at_once(song: str) -> None:
    wrong = Request(
        inpaint=(song, "3.0-9.0"),
        loop=song,
        intensity="0:5",
        melody="H4:1",
        structure="aba",
        like="gone.wav",
        weights="volume=1",
    )
    with pytest.raises(FewstepError) as refused:
        understood(wrong, PLAIN)
    told = str(refused.value)
    for part in ("--intensity: 0:5", "H4:1", "'aba'", "gone.wav", "'volume'", "--inpaint and --loop"):
        assert part in told, part
    with pytest.raises(FewstepError, match=r"lasts 4\.00 s"):
        understood(Request(inpaint=(song, "3.0-9.0")), PLAIN)
    with pytest.raises(FewstepError, match="nothing is asked"):
        understood(Request(), PLAIN)
    with pytest.raises(FewstepError, match="no span of seconds"):
        understood(Request(inpaint=(song, "later")), PLAIN)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run in its smallest size."""
    from fewstep.runs import run

    return run("audio/ditto2", out=tmp_path_factory.mktemp("runs"), quiet=True, **TINY).folder


def ditto(*words: object) -> Any:
    from fewstep.cli import application

    return CliRunner().invoke(application(), ["audio", "ditto", *map(str, words)])


def test_the_command_writes_music_a_report_and_what_it_cost(
    song: str, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "new.wav"
    asked = ["--inpaint", song, "1.0-2.0", "--intensity", "0:-30 4:-10", "--iterations", 3, "--out", out]
    answer = ditto(finished, "--json", *asked)
    assert answer.exit_code == 0, answer.output
    facts = json.loads(answer.output)
    assert facts["calls"] == {"optimising": 4, "decoding": 1}
    assert set(facts["controls"]) == {"inpaint", "intensity"}
    assert facts["surrogate"][1] < facts["surrogate"][0]
    assert soundfile.info(out).frames == 4 * MUSIC.rate
    assert out.with_suffix(".html").read_text().count("<audio") == 2


def test_the_same_seed_gives_the_same_file_and_another_gives_another(tmp_path: Path, finished: Path) -> None:
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        answer = ditto(finished, "--melody", "C4:1", "--iterations", 2, "--seed", seed, "--out", file)
        assert answer.exit_code == 0, answer.output
        assert "step 2/2" in answer.output
        assert "network calls" in answer.output
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


def test_the_gradient_may_go_through_the_teacher_instead_and_the_teacher_may_decode(
    tmp_path: Path, finished: Path
) -> None:
    through = [
        "--through",
        "teacher",
        "--decoder",
        "teacher",
        "--teacher-calls",
        3,
        "--iterations",
        2,
        "--json",
    ]
    answer = ditto(finished, "--structure", "ABA", "--seconds", 1, *through, "--out", tmp_path / "a.wav")
    assert answer.exit_code == 0, answer.output
    again = 2 * 2  # on the way back, of two steps of the search
    assert json.loads(answer.output)["calls"] == {"optimising": 3 * 3 + again, "decoding": 3}


def test_options_that_make_no_sense_are_told_together(finished: Path) -> None:
    answer = ditto(finished, "--melody", "H4:1", "--through", "wall", "--decoder", "ear", "--out", "a.mp3")
    assert isinstance(answer.exception, FewstepError)
    assert all(part in str(answer.exception) for part in ("--melody", "--through", "--decoder", "--out"))
