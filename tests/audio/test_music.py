"""From scores to sound and back: notes, players, folders of files, and a listener who did not see the notes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_audio.metrics.notes import FRAME_RATE, best_threshold, frame_f1, heard, melody_hits, shuffled
from fewstep_audio.music import corpus, render, scores
from fewstep_audio.music.corpus import MUSIC, MusicSettings, MusicSource, load_corpus, performed
from fewstep_audio.music.notes import Tune, intervals, melody, pitch_class, roll, tune
from fewstep_audio.music.render import chosen, play, velocities
from fewstep_audio.music.scores import collected, read_folder, read_score, spoken_notes

pretty_midi = pytest.importorskip("pretty_midi", reason='scores need pip install "fewstep[music]"')
music21 = pytest.importorskip("music21", reason='scores need pip install "fewstep[music]"')

CHORD = tune("chord", [(0, 1, 60, 1), (0.5, 1.5, 72, 0), (0, 2, 48, 2)])
FEW = MusicSettings(tunes=2, held_out=1, seconds=3.0, programs=(4,))
PLAYERS = ("fluidsynth", "tinysoundfont")


def there(player: str) -> bool:
    try:
        return chosen(player) == player  # type: ignore[arg-type]
    except FewstepError:
        return False


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_roll_holds_the_keys_that_sound_at_each_frame() -> None:
    grid = roll(CHORD, 20, rate=10)
    assert grid.shape == (88, 20)
    assert grid[60 - 21].tolist() == [True] * 10 + [False] * 10
    assert grid[72 - 21].nonzero()[0].tolist() == list(range(5, 15))
    assert grid.sum() == 10 + 10 + 20


def test_the_melody_is_the_highest_key_and_rests_where_nothing_sounds() -> None:
    line = melody(roll(CHORD, 22, rate=10))
    assert line.tolist() == [60 - 21] * 5 + [72 - 21] * 10 + [48 - 21] * 5 + [-1] * 2
    assert pitch_class(line).tolist() == [0] * 20 + [-1] * 2


def test_a_cut_begins_at_zero_and_shortens_what_reaches_across_it() -> None:
    piece = CHORD.cut(0.75, 0.5)
    assert piece.notes[:, :2].tolist() == [[0.0, 0.25], [0.0, 0.5], [0.0, 0.5]]
    assert piece.seconds == 0.5


def test_transposition_keeps_the_intervals() -> None:
    line = tune("line", [(0, 1, 60, 0), (1, 2, 64, 0), (2, 3, 62, 0), (0, 3, 48, 1)])
    assert intervals(line) == intervals(line.transposed(5)) == (4, -2)
    assert line.transposed(5).notes[:, 2].tolist() == (line.notes[:, 2] + 5).tolist()


def test_chorales_have_four_parts_that_begin_and_no_melody_twice() -> None:
    found = collected("bach", 3, quarter=0.5)
    assert [one.name for one in found] == sorted(one.name for one in found)
    assert all(set(one.notes[:, 3]) == {0, 1, 2, 3} for one in found)
    assert len({intervals(one) for one in found}) == 3
    starts = found[0].notes[:, 0] / 0.5
    assert np.allclose(starts * 8, np.round(starts * 8)), "offsets are whole parts of a quarter"


def test_more_scores_than_there_are_is_told() -> None:
    with pytest.raises(FewstepError, match="'nobody'"):
        collected("nobody", 1, 0.5)


@pytest.mark.parametrize("player", PLAYERS)
def test_the_same_notes_give_the_same_samples_and_sound_at_their_pitch(player: str) -> None:
    if not there(player):
        pytest.skip(f"{player} is not installed: this machine cannot play with it")
    note = tune("a", [(0.1, 0.9, 69, 0)])
    first, again = (play(note, np.array([100]), 73, 1.0, 22050, player) for _ in range(2))  # type: ignore[arg-type]
    assert first.shape == (22050,)
    assert np.array_equal(first, again)
    assert np.abs(first[:1500]).max() < 0.01 < np.abs(first).max() < 1
    peak = np.abs(np.fft.rfft(first * np.hanning(22050))).argmax()
    assert abs(peak - 440) < 5 or abs(peak - 880) < 10


@pytest.mark.skipif(not all(map(there, PLAYERS)), reason="needs fluidsynth and tinysoundfont")
def test_both_players_make_nearly_the_same_sound_of_a_note() -> None:
    from fewstep_audio.sound.mel import log_mel

    note = tune("c", [(0.1, 0.9, 60, 0)])
    mels = [log_mel(torch.from_numpy(play(note, np.array([90]), 4, 1.0, 22050, p)), MUSIC) for p in PLAYERS]  # type: ignore[arg-type]
    loud = mels[0] > -5
    assert float((mels[0] - mels[1]).abs()[loud].mean()) < 1.0


def test_no_player_and_no_soundfont_are_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(render, "FONTS", ())
    with pytest.raises(FewstepError, match="tinysoundfont"):
        chosen()
    with pytest.raises(FewstepError, match=r"fewstep\[music\]"):
        render.soundfont()


def test_dynamics_pass_through_their_levels() -> None:
    line = tune("line", [(0, 1, 60, 0), (1.5, 2, 60, 0), (3, 4, 60, 0)])
    assert velocities(line, [40, 100], every=3.0).tolist() == [40, 70, 100]


def write_midi(file: Path, pitches: list[int]) -> None:
    song = pretty_midi.PrettyMIDI(resolution=960)
    voice = pretty_midi.Instrument(0)
    voice.notes = [pretty_midi.Note(90, pitch, i * 0.5, i * 0.5 + 0.5) for i, pitch in enumerate(pitches)]
    song.instruments.append(voice)
    song.write(str(file))


def test_midi_and_musicxml_of_one_melody_read_alike(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", [60, 62, 64])
    stream = music21.stream.Score(
        [music21.stream.Part([music21.note.Note(p, quarterLength=1) for p in (60, 62, 64)])]
    )
    stream.write("musicxml", tmp_path / "a.musicxml")
    midi, xml = read_score(tmp_path / "a.mid"), read_score(tmp_path / "a.musicxml", quarter=0.5)
    np.testing.assert_allclose(midi.notes, xml.notes, atol=2e-3)
    np.testing.assert_allclose(midi.notes, spoken_notes("C4:0.5 D4:.5 E4:0.5").notes, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("H4:1 C4:1 X", "H4:1 X"),
        ("C4:0 D4:-1", "C4:0 D4:-1"),
        ("C99:1", "C99:1"),
        ("C4:x", "C4:x"),
    ],
)
def test_words_that_are_no_notes_are_all_named(text: str, told: str) -> None:
    with pytest.raises(FewstepError, match=told):
        spoken_notes(text)


def test_written_notes_know_sharps_flats_and_rests() -> None:
    found = spoken_notes("F#4:0.5 r:1 Bb3:2")
    assert found.notes.tolist() == [[0, 0.5, 66, 0], [1.5, 3.5, 58, 0]]


def test_a_folder_names_all_bad_files_or_goes_on_without_them(tmp_path: Path) -> None:
    write_midi(tmp_path / "good.mid", [60, 64])
    write_midi(tmp_path / "silent.mid", [])
    (tmp_path / "broken.mid").write_bytes(b"no midi")
    (tmp_path / "broken.xml").write_text("<score")
    (tmp_path / "notes.txt").write_text("not looked at")
    with pytest.raises(FewstepError, match="3 of 4 scores") as refused:
        read_folder(tmp_path, 0.5, skip_bad=False)
    assert all(name in str(refused.value) for name in ("silent.mid", "broken.mid", "broken.xml"))
    assert [one.name for one in read_folder(tmp_path, 0.5, skip_bad=True)] == ["good"]


def test_an_empty_or_missing_folder_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FewstepError, match="0 of 0"):
        read_folder(tmp_path, 0.5, skip_bad=True)
    with pytest.raises(FewstepError, match="no folder"):
        read_folder(tmp_path / "gone", 0.5, skip_bad=True)
    with pytest.raises(FewstepError, match="is not there"):
        read_score(tmp_path / "gone.mid")
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(FewstepError, match="not a score"):
        read_score(tmp_path / "a.wav")


def test_a_corpus_is_played_once_and_its_takes_differ(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_corpus(FEW, cache)
    monkeypatch.setattr(corpus, "play", lambda *_: pytest.fail("played again"))
    again = load_corpus(FEW, cache)
    assert len(first.training) == 2
    assert len(first.testing) == 1
    assert all(torch.equal(a.mel, b.mel) for a, b in zip(first.training, again.training, strict=True))
    assert first.training[0].mel.shape == (192, 130)
    keys = [one.tune.notes[0, 2] for one in first.training]
    assert len(set(keys)) == 2 or first.training[0].tune.name != first.training[1].tune.name


def test_a_users_folder_takes_the_place_of_the_collection(tmp_path: Path, cache: Path) -> None:
    for number in range(3):
        write_midi(tmp_path / f"{number}.mid", [60 + number, 64, 67, 72])
    settings = MusicSettings(folder=str(tmp_path), tunes=5, held_out=1, programs=(4,), seconds=2.0)
    found = load_corpus(settings, cache)
    assert [one.tune.name for one in (*found.training, *found.testing)] == ["0", "1", "2"]
    with pytest.raises(FewstepError, match="3 scores"):
        load_corpus(MusicSettings(folder=str(tmp_path), held_out=3), cache)


def test_transposed_takes_sound_transposed(cache: Path) -> None:
    note = tune("a", [(0, 1, 69, 0)])
    settings = MusicSettings(programs=(73,), transpositions=(0, 12), seconds=1.0)
    low, high = (performed(note, take, settings) for take in (0, 1))
    assert (low.tune.notes[0, 2], high.tune.notes[0, 2]) == (69, 81)
    assert low.mel.exp().mean(1).argmax() < high.mel.exp().mean(1).argmax()


def test_crops_are_a_pure_function_of_the_counter_and_lie_inside_one_piece(cache: Path) -> None:
    found = load_corpus(FEW, cache)
    source = MusicSource(found.training, found.scale, 64, 100)
    batch = source.batch(3, Key(0))
    assert torch.equal(batch.x, source.batch(3, Key(0)).x)
    pieces = [found.scale.normalized(one.mel) for one in found.training]
    inside = [
        any(bool((piece.unfold(1, 100, 1) == row[:, None]).all((0, 2)).any()) for piece in pieces)
        for row in batch.x
    ]
    assert all(inside)


def test_a_crop_longer_than_a_piece_is_refused(cache: Path) -> None:
    found = load_corpus(FEW, cache)
    with pytest.raises(FewstepError, match="131"):
        MusicSource(found.training, found.scale, 2, 131)


def test_normalized_bands_have_mean_zero_and_the_spread_of_the_process(cache: Path) -> None:
    found = load_corpus(FEW, cache)
    state = found.scale.normalized(torch.cat([one.mel for one in found.training], 1))
    assert float(state.mean(1).abs().max()) < 1e-4
    torch.testing.assert_close(state.std(1), torch.full((192,), 0.5), atol=1e-3, rtol=1e-3)


def test_a_transcriber_hears_the_notes_of_a_chorale_and_not_others(cache: Path) -> None:
    pytest.importorskip("onnxruntime", reason='a transcriber needs pip install "fewstep[listening]"')
    pytest.importorskip("basic_pitch", reason="a transcriber needs pip install --no-deps basic-pitch")
    piece: Tune = collected("bach", 2, 0.6)[1].cut(0, 8)
    sure = heard(play(piece, np.full(len(piece.notes), 90), 4, 8.0, 22050))
    truth = roll(piece, sure.shape[1], FRAME_RATE)
    threshold = best_threshold(sure, truth)
    assert frame_f1(sure > threshold, truth) > 0.8
    assert frame_f1(sure > threshold, shuffled(truth)) < 0.4
    line = pitch_class(melody(truth))
    assert melody_hits(sure > threshold, line) > 0.7
    assert melody_hits(sure > threshold, np.roll(line, len(line) // 3)) < 0.4


def test_frame_f1_counts_keys_and_frames() -> None:
    truth = np.zeros((88, 4), dtype=bool)
    truth[40, :] = True
    found = truth.copy()
    found[40, 2:], found[50, :2] = False, True
    assert frame_f1(truth, truth) == 1
    assert frame_f1(found, truth) == pytest.approx(0.5)
    assert frame_f1(~truth & False, truth) == 0


def test_a_transcriber_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from fewstep_audio.metrics import notes

    monkeypatch.setattr(notes, "find_spec", lambda name: None)
    notes._session.cache_clear()
    with pytest.raises(FewstepError, match="basic-pitch"):
        heard(np.zeros(1000, dtype=np.float32))
    notes._session.cache_clear()


def test_music21_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(FewstepError, match=r"fewstep\[music\]"):
        scores._music21()
