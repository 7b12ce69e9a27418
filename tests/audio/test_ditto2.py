"""The recipe DITTO-2 in its smallest size, and the command that uses its run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from typer.testing import CliRunner

from fewstep.engine import execute
from fewstep.errors import FewstepError
from fewstep.protocol import Key, Plan, Shelf, Site, Step
from fewstep.runs import evaluate
from fewstep_audio.ditto2 import recipe
from fewstep_audio.ditto2.config import Ditto2Config
from fewstep_audio.ditto2.optimise import decoded, through_student, through_teacher
from fewstep_audio.ditto2.recipe import free_batch
from fewstep_audio.music.corpus import MUSIC

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


# ---------------------------------------------------------------------------------------------------------- the command


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
