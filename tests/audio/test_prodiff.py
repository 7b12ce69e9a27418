"""The recipe through the engine in its smallest size: rounds, prosody, and what may be asked of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from pydantic import ValidationError
from torch import Tensor

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Assembly, Batch, Cond, Key, Plan, Shelf, Site, Step, parts
from fewstep.runs import evaluate
from fewstep_audio.prodiff import recipe
from fewstep_audio.prodiff.config import ProDiffConfig
from fewstep_audio.prodiff.network import ProsodyEncoder, knots
from fewstep_audio.prodiff.panels import pitch_gap
from fewstep_audio.prodiff.product import prosody_options
from fewstep_audio.prodiff.prosody import Habits, Prosody, ProsodyFit, habits, louder, measured
from fewstep_audio.sound.mel import MelContract, mel_filters
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.speech.corpus import spoken
from fewstep_audio.speech.espeak import Request

VOICES = ("en-us+m3", "en-us+f2")
TINY = {
    "speech": {"sentences": 4, "takes": 1, "held_out": 2},
    "network": {"channels": 16, "dilations": [1, 2]},
    "batch": 2,
    "crop": 16,
    "teacher_updates": 2,
    "updates": 2,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tiny(cache: Path, **changes: object) -> tuple[Plan, Site]:
    config = ProDiffConfig.model_validate({**TINY, **changes})
    site = Site(Key(config.seed), cache)
    return recipe.build(config, site), site


@pytest.fixture(scope="module")
def made(cache: Path) -> tuple[Plan, Shelf]:
    plan, site = tiny(cache)
    return plan, execute(plan, site)


def drawn(made: tuple[Plan, Shelf], who: str = "student", **asked: object) -> dict[str, Tensor]:
    plan, shelf = made
    batch = plan.product.request(plan.product.options.model_validate(asked), 1, Key(2))
    *_, last = plan.product.contenders[who].fn(shelf, batch, Step.inference(Key(3)))
    return last.x


def calls_of(plan: Plan, shelf: Shelf) -> dict[str, int]:
    """Network calls of every contender, without listening to what it says."""
    silent = replace(plan.product, metrics=())
    return {row.contender: row.evaluations for row in evaluate(silent, shelf, Key(1)).rows}


# Rounds


def test_rounds_halve_the_teachers_calls_until_two_are_left(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    assert [stage.name for stage in plan.stages] == ["teacher", "student-8", "student-4", "student"]
    assert len(shelf["student-8"].times) == 8
    calls = calls_of(plan, shelf)
    assert calls == {"teacher": 16, "student": 2, "teacher_few": 2}


def test_on_the_papers_chain_one_round_leads_from_four_calls_to_two(cache: Path) -> None:
    plan, site = tiny(
        cache,
        schedule="vpsde",
        teacher_steps=4,
        objective={"kind": "progressive", "halvings": 1},
        loss={"l1": 0.5, "l2": 0.0, "ssim": 0.5},
    )
    shelf = execute(plan, site)
    assert [stage.name for stage in plan.stages] == ["teacher", "student"]
    assert shelf["student"].times == (3.0, 1.0)
    assert shelf["student"].rule == "ddim"
    calls = calls_of(plan, shelf)
    assert calls == {"teacher": 4, "student": 2, "teacher_few": 2}


def test_a_student_keeps_its_teachers_encoder_and_learns_its_decoder(made: tuple[Plan, Shelf]) -> None:
    teacher, student = (made[1][name].net.state_dict() for name in ("teacher", "student"))
    moved = {name.partition(".")[0] for name in teacher if not torch.equal(teacher[name], student[name])}
    assert moved == {"decoder"}


@pytest.mark.parametrize("objective", ["dmd", "ode-pairs"])
def test_another_objective_of_the_core_trains_the_same_student_in_one_stage(
    cache: Path, made: tuple[Plan, Shelf], objective: str
) -> None:
    plan, _ = tiny(cache, objective=objective)
    (stage,) = plan.stages[1:]
    assembly = stage.build(made[1])
    assert isinstance(assembly, Assembly)
    assert {"teacher", "student"} <= set(assembly.roles)
    batch = assembly.source.batch(0, Key(0))
    phase = assembly.objective.phases(0)[-1]
    found = assembly.objective.loss(phase, assembly.roles, batch, Step(0, 1, Key(0)))
    assert all(bool(loss.total.isfinite()) for loss in parts(found))


def test_a_given_teacher_is_not_trained_again_but_durations_and_prosody_are(
    cache: Path, made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    file = tmp_path / "teacher.pt"
    torch.save(made[1]["teacher"].state_dict(), file)
    plan, site = tiny(cache, teacher={"kind": "checkpoint", "path": str(file)})
    shelf = execute(plan, site)
    assert torch.equal(shelf["teacher"].net.decoder.inner.weight, made[1]["teacher"].net.decoder.inner.weight)
    assert {"teacher", "student", "durations", "prosody"} <= set(shelf)


def test_a_teacher_that_hears_no_prosody_is_refused(cache: Path) -> None:
    plan, site = tiny(cache, teacher={"kind": "import", "target": "torch.nn:Identity"})
    with pytest.raises(FewstepError, match="the teacher is Identity"):
        execute(plan, site)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": 3}, r"lead from 24 calls to steps = 3, but teacher_steps = 16"),
        ({"loss": {"l2": 0}}, "all weights of the teacher's loss are 0"),
        ({"schedule": {"kind": "edm", "lowest": 30.0}}, r"schedule\.lowest must be below"),
        ({"crop": 8}, "greater than or equal to 11"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ProDiffConfig.model_validate(given)


# What may be asked


def test_text_that_was_never_heard_becomes_a_wav_file_of_the_predicted_length(
    made: tuple[Plan, Shelf], tmp_path: Path
) -> None:
    plan, shelf = made
    x = drawn(made, text="A quick brown fox.", voice=VOICES[1], pitch=2.0, energy=1.5)
    batch = plan.product.request(plan.product.options(text="A quick brown fox.", voice=VOICES[1]), 1, Key(2))
    (file,) = plan.product.write(x, batch, tmp_path)
    assert soundfile.info(file).frames == 256 * (int(shelf["durations"].frames(batch.cond)[0].sum()) - 1)


@pytest.mark.parametrize("asked", [{"voice": VOICES[1]}, {"pitch": 4}, {"energy": 2.0}])
def test_voice_pitch_and_energy_change_what_is_said(
    made: tuple[Plan, Shelf], asked: dict[str, object]
) -> None:
    assert not torch.equal(drawn(made)["mel"], drawn(made, **asked)["mel"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"voice": "en-us+m9"}, r"no voice 'en-us\+m9'"),
        ({"pitch": 13}, "less than or equal to 12"),
        ({"energy": 0}, r"greater than or equal to 0\.25"),
        ({"text": "добрый день"}, "nothing to say"),
    ],
)
def test_requests_that_cannot_be_spoken_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        prosody_options(VOICES).model_validate(given)


def test_where_voices_are_hidden_none_can_be_chosen() -> None:
    with pytest.raises(ValidationError, match="cannot be chosen"):
        prosody_options(()).model_validate({"voice": VOICES[0]})


# Prosody


def asked(length: int = 12, voices: int = 2) -> Cond:
    data = {
        "phones": torch.tensor([[3, 5, 7, 0]]),
        "stress": torch.tensor([[0, 1, 2, 0]]),
        "at": torch.arange(length)[None] * 3 // length,
        "place": torch.zeros(1, length, 2),
        "voice": torch.tensor([1]),
    }
    return Cond(data, torch.ones(1, 1, length, dtype=torch.bool))


def predictor() -> Prosody:
    return Prosody(Habits(torch.tensor([4.6, 5.2]), mean=2.0, std=1.5), voices=2, channels=8)


def test_a_semitone_and_a_factor_move_the_predicted_pitch_and_energy_and_nothing_else() -> None:
    torch.manual_seed(0)
    prosody = predictor()
    plain, moved = prosody.filled(asked()).data, prosody.filled(asked(), 3.0, 2.0).data
    assert torch.allclose(moved["pitch"] - plain["pitch"], torch.tensor(3 * math.log(2) / 12), atol=1e-5)
    assert torch.allclose(moved["energy"] - plain["energy"], torch.tensor(math.log(2.0) / 1.5), atol=1e-5)
    assert torch.equal(moved["voiced"], plain["voiced"])


def test_predicted_pitch_is_a_contour_around_the_register_of_the_voice() -> None:
    torch.manual_seed(0)
    prosody = predictor()
    cond = asked()
    low = replace(cond, data={**cond.data, "voice": torch.tensor([0])})
    torch.nn.init.zeros_(prosody.head.weight)
    torch.nn.init.zeros_(prosody.head.bias)
    assert prosody.filled(low).data["pitch"][0, 0].item() == pytest.approx(4.6)
    assert prosody.filled(cond).data["pitch"][0, 0].item() == pytest.approx(5.2)


def test_frames_without_pitch_and_padding_do_not_count_in_the_fit() -> None:
    torch.manual_seed(0)
    cond = asked()
    truth = {
        "pitch": torch.full((1, 12), 5.0),
        "voiced": (torch.arange(12) < 6).float()[None],
        "energy": torch.zeros(1, 12),
        "register": torch.tensor([5.2]),
    }
    mask = (torch.arange(12) < 9)[None, None]
    prosody, fit = predictor(), ProsodyFit()

    def logs(pitch: Tensor, energy: Tensor) -> dict[str, float]:
        data = {**cond.data, **truth, "pitch": pitch, "energy": energy}
        batch = Batch(like=torch.zeros(1), cond=Cond(data, mask))
        found = fit.loss(fit.phases(0)[0], {"prosody": prosody}, batch, Step(0, 1, Key(0)))
        return {name: float(value) for name, value in found.logs.items()}

    wild = torch.where(torch.arange(12) < 6, truth["pitch"], 99.0)
    loud = torch.where(torch.arange(12) < 9, truth["energy"], 99.0)
    assert logs(wild, loud) == logs(truth["pitch"], truth["energy"])


def test_pitch_between_two_knots_is_a_mixture_of_both_and_nothing_lies_outside() -> None:
    weights = knots(torch.tensor([0.0, 0.25, 1.0, 7.0]), 0.0, 1.0, 3)
    assert weights.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [0, 0, 1]]


def test_what_lies_behind_a_sentence_does_not_reach_into_it() -> None:
    torch.manual_seed(0)
    encoder, prosody, short = ProsodyEncoder(8, 2), predictor(), asked(12)
    data = {name: torch.nn.functional.pad(short.data[name], (0, 5)) for name in ("at",)}
    data["place"] = torch.nn.functional.pad(short.data["place"], (0, 0, 0, 5), value=3.0)
    long = Cond({**short.data, **data}, torch.nn.functional.pad(short.mask, (0, 5)))
    assert torch.allclose(prosody(long)[0][:, :12], prosody(short)[0], atol=1e-6)
    a, b = prosody.filled(short), prosody.filled(long)
    assert torch.allclose(encoder(b, torch.float32)[:, :, :12], encoder(a, torch.float32), atol=1e-6)


def test_the_measured_register_follows_the_base_pitch_and_is_kept_by_content(tmp_path: Path) -> None:
    requests = [Request("We measure the rain.", VOICES[0], pitch) for pitch in (30, 70)]
    said = spoken(requests, MelContract(), tmp_path)
    low, high = measured(said, MelContract(), tmp_path)
    assert high.register - low.register > 3 * math.log(2) / 12
    assert low.pitch.shape == low.voiced.shape == low.energy.shape == said[0].mel.shape[1:]
    usual = habits(said, [low, high], VOICES)
    assert usual.registers.tolist() == pytest.approx([(low.register + high.register) / 2] * 2)
    files = set(tmp_path.iterdir())
    assert measured(said, MelContract(), tmp_path)[0].register == low.register
    assert set(tmp_path.iterdir()) == files


def test_louder_speech_is_told_to_be_louder_and_is(tmp_path: Path) -> None:
    contract = MelContract()
    said = spoken([Request("We measure the rain.", VOICES[0])] * 3, contract, tmp_path)
    heard = measured(said, contract, tmp_path)
    moved, prosody = louder(said, heard, 6.0, contract)
    gains = [float((b.energy - a.energy).median()) for a, b in zip(heard, prosody, strict=True)]
    assert all(abs(gain) <= 6 * math.log(10) / 20 for gain in gains)
    assert len(set(gains)) == 3
    for before, after, gain in zip(said, moved, gains, strict=True):
        heard_well = before.mel > contract.silence + 2
        assert torch.allclose((after.mel - before.mel)[heard_well], torch.tensor(gain), atol=1e-3)


def test_the_ripple_of_a_pitch_is_where_its_harmonics_are() -> None:
    hertz = 320.0
    data = {"pitch": torch.full((1, 2), math.log(hertz)), "voiced": torch.tensor([[1.0, 0.0]])}
    voiced, silent = ProsodyEncoder(8, 0).ripple(Cond(data), torch.float32)[0].unbind(1)
    centers = torch.linspace(0, MelContract().rate / 2, 513)[mel_filters(MelContract()).argmax(1)]
    loudest = [float(centers[i]) for i in range(1, 24) if voiced[i] > max(voiced[i - 1], voiced[i + 1])]
    assert loudest == pytest.approx([hertz, 2 * hertz], abs=25)
    assert not silent.any()


def test_the_pitch_gap_hears_a_semitone(tmp_path: Path) -> None:
    contract = MelContract()
    said = spoken([Request("We measure the rain.", VOICES[1], 50, 0)], contract, tmp_path)
    heard = measured(said, contract, tmp_path)
    mels = torch.stack([one.mel for one in said])
    mask = torch.ones(1, 1, mels.shape[-1], dtype=torch.bool)
    x = {"mel": mels, "frames": mask.flatten(1).sum(1)}

    def gap(semitones: float) -> float:
        data = {
            "pitch": torch.stack([one.pitch for one in heard]) + semitones * math.log(2) / 12,
            "voiced": torch.stack([one.voiced for one in heard]),
        }
        return pitch_gap(GriffinLim()).fn(x, Batch(like=mels, cond=Cond(data, mask)), Key(0)).value

    assert gap(0.0) < 30
    assert gap(2.0) == pytest.approx(200, abs=30)


# Without fewstep


def test_the_graphs_that_leave_say_what_the_student_says(made: tuple[Plan, Shelf]) -> None:
    plan, shelf = made
    assert plan.product.portable is not None
    for graph in plan.product.portable(shelf, Key(1)).graphs:
        for given, wanted in graph.examples:
            with torch.no_grad():
                assert torch.allclose(graph.module(*given), wanted[0], atol=1e-4)
