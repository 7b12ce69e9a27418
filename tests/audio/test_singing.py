"""From a score to a sung waveform: notes, syllables, beats, tunes, and a voice that WORLD puts on the notes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Key
from fewstep_audio.comosvc.network import combs
from fewstep_audio.metrics.tuning import cents, in_tune, off_score
from fewstep_audio.singing.files import read_song
from fewstep_audio.singing.layout import SongSource, framed, held_out_songs, mistuned
from fewstep_audio.singing.line import Line, on_the_beat, written
from fewstep_audio.singing.melody import compose
from fewstep_audio.singing.panel import roll_picture
from fewstep_audio.singing.score import HIGHEST, LOWEST, REST, Note, Score, faults, named, read_notes
from fewstep_audio.singing.songs import Song, SongSettings, load_songs
from fewstep_audio.singing.syllables import shown, syllables
from fewstep_audio.singing.voice import Manner, contour, manner
from fewstep_audio.sound.mel import MelContract, log_mel
from fewstep_audio.sound.pitch import pitch
from fewstep_audio.sound.vocoder import GriffinLim
from fewstep_audio.speech.phones import ALPHABET, Pronunciation, pronounce

CONTRACT = MelContract()
PLAIN = Manner(tuning=0, depth=0, rate=5, phase=0, glide=0.08, formants=1)


@pytest.fixture(scope="module")
def river() -> Pronunciation:
    return pronounce(["The river runs."])[0]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Song, ...]:
    pytest.importorskip("pyworld", reason="singing needs pyworld: pip install fewstep[singing]")
    cache = tmp_path_factory.mktemp("cache")
    return load_songs(SongSettings(sentences=2, takes=1, held_out=2), cache).testing


def score(text: str, tempo: float = 120) -> Score:
    notes, wrong = read_notes(text)
    assert not wrong
    return Score(tuple(notes), tempo)


# -------------------------------------------------------------------------------------------------------- notes


def test_notes_are_written_by_name_octave_and_beats() -> None:
    notes, wrong = read_notes("C4 F#4:.5 Bb3:2, ~a4:1.5 R:1")
    assert not wrong
    assert notes == [Note(60, 1), Note(66, 0.5), Note(58, 2), Note(69, 1.5, slur=True), Note(REST, 1)]


def test_every_unknown_note_is_named_and_the_others_are_read() -> None:
    notes, wrong = read_notes("C4 H4 D4:1 X")
    assert len(notes) == 4
    assert [line.split(" ")[0] for line in wrong] == ["'H4'", "'X'"]


def test_names_of_notes_read_back_as_themselves() -> None:
    every = range(LOWEST, HIGHEST + 1)
    assert [note.pitch for note in read_notes(" ".join(named(key) for key in every))[0]] == list(every)


def test_all_faults_of_a_score_are_told_at_once() -> None:
    told = "\n".join(faults(score("~C4 C2 D4:.01 R ~E4 C4:40")))
    for part in ("outside of the trained range G3 to D5: C2", "D4 lasts 0.005 s", "C4 lasts 20 s", "~C4 ~E4"):
        assert part in told


def test_a_melody_out_of_range_is_told_which_transposition_fits() -> None:
    told = faults(score("C3 G3 R C4"))
    assert "--transpose=12" in told[0]
    assert not faults(score("C3 G3 R C4").transposed(12))
    assert "spans 24 semitones, the range 19" in faults(score("C3 C5"))[0]


# ---------------------------------------------------------------------------------------------------- syllables


def test_a_syllable_begins_with_as_many_consonants_as_english_allows(river: Pronunciation) -> None:
    assert shown(river) == "ðə ɹɪ vɚ ɹʌnz"
    assert shown(pronounce(["extra strong"])[0]) == "ɛk stɹə stɹɔŋ"


def test_every_phone_but_pauses_belongs_to_one_syllable(river: Pronunciation) -> None:
    places = sorted(i for one in syllables(river) for i in (*one.onset, one.nucleus, *one.coda))
    assert places == [i for i, phone in enumerate(river.phones.tolist()) if ALPHABET[phone - 1] != "_"]


def test_a_line_puts_syllables_under_notes_and_repeats_a_slurred_vowel(river: Pronunciation) -> None:
    line = written(river, score("C4 D4 ~E4 R F4 G4:2"), CONTRACT)
    names = [ALPHABET[phone - 1] for phone in line.said.phones.tolist()]
    assert names == ["_", "ð", "ə", "ɹ", "ɪ", "ɪ", "_", "v", "ɚ", "ɹ", "ʌ", "n", "z", "_"]
    assert line.note.tolist() == [0, 60, 60, 62, 62, 64, 0, 65, 65, 67, 67, 67, 67, 0]
    assert line.slur.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_too_few_notes_are_refused_and_the_syllables_shown(river: Pronunciation) -> None:
    with pytest.raises(ValueError, match=r"4 syllables for 3 notes .*: ðə ɹɪ vɚ ɹʌnz"):
        written(river, score("C4 D4 E4"), CONTRACT)


# -------------------------------------------------------------------------------------------------------- beats


def starts(line: Line, frames: Tensor) -> list[int]:
    """First frame of what holds."""
    return (frames.cumsum(0) - frames)[line.holds > 0].tolist()


def test_vowels_begin_on_the_beat_and_consonants_keep_their_length(river: Pronunciation) -> None:
    line = written(river, score("C4 D4 E4 F4:2"), CONTRACT)
    natural = torch.full_like(line.note, 6)
    frames = on_the_beat(natural, line.holds, line.beat)
    beats = [0.25, 0.75, 1.25, 1.75, 2.75]
    assert starts(line, frames) == [0, *(round(beat * CONTRACT.rate / CONTRACT.hop) for beat in beats)]
    assert set(frames[line.holds == 0].tolist()) == {6}


def test_consonants_are_squeezed_where_a_note_is_too_short_for_them(river: Pronunciation) -> None:
    line = written(river, score("C4:.4 D4:.4 E4:.4 F4:2"), CONTRACT)
    frames = on_the_beat(torch.full_like(line.note, 30), line.holds, line.beat)
    assert int(frames.min()) >= 1
    assert int(frames.sum()) == int(line.beat[line.holds > 0].sum())
    assert starts(line, frames)[1:3] == [22, 39]


def test_padding_takes_no_time(river: Pronunciation) -> None:
    line = written(river, score("C4 D4 E4 F4"), CONTRACT)
    rows = [torch.full_like(line.note, 5), line.holds, line.beat]
    wider = [torch.nn.functional.pad(row, (0, 3))[None] for row in rows]
    padded = on_the_beat(*wider)
    assert padded[0, -3:].tolist() == [0, 0, 0]
    assert torch.equal(padded[0, :-3], on_the_beat(*rows))


# -------------------------------------------------------------------------------------------------------- tunes


def test_a_tune_is_a_function_of_its_key_within_the_range_with_a_note_for_each_syllable() -> None:
    for seed in range(50):
        tune = compose(7, Key(seed))
        assert tune == compose(7, Key(seed))
        assert tune.attacks == 7
        assert not faults(tune)
    assert len({compose(7, Key(seed)) for seed in range(50)}) == 50


# -------------------------------------------------------------------------------------------------------- pitch


def test_a_plain_singer_is_on_every_note_and_glides_between_them(river: Pronunciation) -> None:
    line = written(river, score("C4 E4 G4 C5:2"), CONTRACT)
    frames = on_the_beat(torch.full_like(line.note, 6), line.holds, line.beat).numpy()
    track = 69 + 12 * np.log2(contour(line, frames, PLAIN, CONTRACT) / 440)
    ends = 2 * frames.cumsum()
    for place in np.flatnonzero(line.holds.numpy() * line.note.numpy()):
        middle = int(ends[place] - frames[place])
        assert abs(track[middle] - int(line.note[place])) < 1e-9
    assert np.abs(np.diff(track)).max() < 1.2, "no jump of the pitch within 6 ms"


def test_manners_differ_from_key_to_key_and_stay_human() -> None:
    manners = [manner(Key(seed)) for seed in range(40)]
    assert len(set(manners)) == 40
    assert max(one.depth for one in manners) <= 60
    assert max(abs(one.tuning) for one in manners) <= 12


# -------------------------------------------------------------------------------------------------------- songs


def test_a_song_has_as_many_frames_as_its_line_and_neither_clips_nor_whispers(
    songs: tuple[Song, ...],
) -> None:
    for song in songs:
        assert song.mel.shape == (80, int(song.frames.sum()))
        assert float((log_mel(song.sound, CONTRACT) - song.mel).abs().mean()) < 0.01
        assert float(song.sound.abs().max()) < 0.96
        assert 0.06 < float(song.sound.square().mean().sqrt()) < 0.09


def test_songs_are_sung_the_same_twice(songs: tuple[Song, ...], tmp_path: Path) -> None:
    again = load_songs(SongSettings(sentences=2, takes=1, held_out=2), tmp_path).testing
    assert all(torch.equal(one.wave, other.wave) for one, other in zip(songs, again, strict=True))


def test_the_waveform_is_on_the_notes_of_its_score(songs: tuple[Song, ...]) -> None:
    for song in songs:
        note, vowel = (
            torch.repeat_interleave(row, song.frames)
            for row in (song.line.note, song.line.holds * song.line.note)
        )
        found = pitch(song.sound, CONTRACT, 150, 700).double()
        off = (1200 * torch.log2(found / 440) - 100 * (note - 69))[(vowel > 0) & (found > 0)].abs()
        assert float(off.median()) < 25
        assert float((off < 50).double().mean()) > 0.8


def test_rests_are_quiet(songs: tuple[Song, ...]) -> None:
    lead = songs[0].sound[: 256 * (int(songs[0].frames[0]) - 6)]
    assert 1e-4 < float(lead.std()) < 6e-4


# ------------------------------------------------------------------------------------------- batches and metrics


def batch_of(songs: tuple[Song, ...]) -> Batch:
    from fewstep_audio.singing.songs import Songs

    return held_out_songs(songs, Songs(songs, songs).scale)


def test_crops_bring_the_notes_of_their_phones(songs: tuple[Song, ...]) -> None:
    from fewstep_audio.singing.songs import Songs

    source = SongSource(songs, Songs(songs, songs).scale, 4, 32)
    batch = source.batch(0, Key(0))
    assert framed(batch.cond, "note").shape == (4, 32)
    assert torch.equal(source.batch(0, Key(0)).x, batch.x)


def test_the_truth_is_in_tune_and_a_tritone_off_is_not(songs: tuple[Song, ...]) -> None:
    batch, sings = batch_of(songs), GriffinLim()
    wrong = Batch(batch.like, batch.x, mistuned(batch.cond), batch.extra)
    assert in_tune(sings).fn(batch.x, batch, Key(0)).value > 0.8
    assert cents(sings).fn(batch.x, batch, Key(0)).value < 30
    assert in_tune(sings).fn(batch.x, wrong, Key(0)).value < 0.05
    assert cents(sings).fn(batch.x, wrong, Key(0)).value > 400


def test_noise_is_out_of_tune(songs: tuple[Song, ...]) -> None:
    mel = -4 + Key(0).normal(torch.zeros(80, 200))
    off = off_score(mel, torch.full((200,), 60), torch.ones(200, dtype=torch.bool), GriffinLim())
    assert float((off.abs() < 50).double().mean()) < 0.1


def test_mistuned_notes_stay_in_the_trained_range(songs: tuple[Song, ...]) -> None:
    batch = batch_of(songs)
    note, other = batch.cond.data["note"], mistuned(batch.cond).data["note"]
    assert torch.equal((note - other).abs(), 6 * (note > 0))
    assert int(other.max()) <= HIGHEST


def test_a_comb_peaks_where_its_note_sounds() -> None:
    table = combs(CONTRACT)
    time = torch.arange(8192) / CONTRACT.rate
    for key in (57, 64, 71):
        tone = torch.sin(2 * torch.pi * 440 * 2 ** ((key - 69) / 12) * time)
        peak = int(log_mel(tone, CONTRACT)[:, 10].argmax())
        assert int(table[key, peak - 4 : peak + 5].argmax()) in (3, 4, 5)
    assert torch.equal(table[REST], torch.zeros(80))


def test_the_roll_shows_a_note_as_a_bar_and_the_pitch_as_a_line() -> None:
    note = torch.tensor([0, 60, 60, 0])
    silent = roll_picture(note, torch.full((4,), torch.inf))
    assert silent != roll_picture(note, torch.tensor([torch.inf, 60.0, 60.0, torch.inf]))
    assert silent.startswith(b"\x89PNG")


# -------------------------------------------------------------------------------------------------- users' scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    music21 = pytest.importorskip("music21", reason="scores need music21: pip install fewstep[music]")
    made = tmp_path_factory.mktemp("scores")
    part = music21.stream.Part()
    part.append(music21.tempo.MetronomeMark(number=120))
    part.append(music21.note.Rest(quarterLength=1))
    told = (("C4", "the", "single"), ("D4", "riv", "begin"), ("E4", "er", "end"), ("F4", "runs", "single"))
    for name, text, place in told:
        note = music21.note.Note(name, quarterLength=1)
        note.lyrics.append(music21.note.Lyric(text=text, syllabic=place))
        part.append(note)
    part.append(music21.note.Note("G4", quarterLength=2))
    whole = music21.stream.Score([part])
    whole.write("musicxml", made / "river.musicxml")
    whole.write("midi", made / "river.mid")
    for note in part.notes:
        note.lyrics = []
    music21.stream.Score([part]).write("musicxml", made / "wordless.musicxml")
    return made


def test_a_musicxml_file_brings_words_notes_and_tempo(folder: Path) -> None:
    words, score = read_song(folder / "river.musicxml")
    assert words == "the river runs"
    assert score.tempo == 120
    assert score.notes == (
        *(Note(key, 1.0) for key in (60, 62, 64, 65)),
        Note(67, 2.0, slur=True),
    ), "the note without words goes on with the syllable; the rest before the first note is cut"


def test_a_midi_file_brings_the_same_notes(folder: Path) -> None:
    assert read_song(folder / "river.mid")[1] == read_song(folder / "river.musicxml")[1]


def test_a_score_without_words_needs_them_from_elsewhere(folder: Path) -> None:
    with pytest.raises(FewstepError, match="has no words"):
        read_song(folder / "wordless.musicxml")
    assert read_song(folder / "wordless.musicxml", follows_text=True)[1].attacks == 5


def test_what_is_no_score_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("music21", reason="scores need music21: pip install fewstep[music]")
    (tmp_path / "a.xml").write_text("hello")
    (tmp_path / "a.txt").write_text("hello")
    for name, told in (("a.xml", "cannot be read"), ("a.txt", "is no score"), ("b.mid", "is not there")):
        with pytest.raises(FewstepError, match=told):
            read_song(tmp_path / name)
