"""Long texts: where they are cut, what a stream is, and that it starts before it is done."""

from __future__ import annotations

import io
import itertools
import struct
import time
from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as some

from fewstep.errors import FewstepError
from fewstep.runs import Run
from fewstep.runs.streams import save
from fewstep_audio.speech.phones import LONGEST_TEXT, check_text
from fewstep_audio.speech.streaming import ENDLESS, close_wav, endless, faded, pcm, sentences, wav_head


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two!  Three?\nFour", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones at 3.5 p.m. sharp.", ["Dr. Smith met Mrs. Jones at 3.5 p.m. sharp."]),
        ("J. S. Bach wrote it. He did.", ["J. S. Bach wrote it.", "He did."]),
        ('He said "Go." "Why?" she asked.', ['He said "Go."', '"Why?" she asked.']),
        ("It is so... And so on. 12 came.", ["It is so...", "And so on.", "12 came."]),
        ("... !", []),
    ],
)
def test_a_text_is_cut_where_sentences_end(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_a_long_sentence_is_cut_at_its_clauses_and_a_long_clause_between_words() -> None:
    text = "a short clause, " + "and then a second one; " + "word " * 20
    parts = sentences(text, longest=40)
    assert parts[0] == "a short clause, and then a second one;"
    assert max(map(len, parts)) <= 40


@given(some.text(alphabet="ab. ,;!?'3A", max_size=300))
def test_no_word_is_lost_and_none_is_added(text: str) -> None:
    letters = "".join(c for c in text if c.isalnum())
    parts = sentences(text, longest=30)
    assert "".join(c for part in parts for c in part if c.isalnum()) == letters
    assert all(len(part) <= 30 for part in parts)


def test_a_stream_allows_what_one_sample_does_not(speaking: Run) -> None:
    long = "Say this. " * LONGEST_TEXT
    options = endless(speaking.product.options)
    assert len(options(text=long).text) > LONGEST_TEXT
    assert options(text="Hi.", pace=2).pace == 2
    with pytest.raises(ValueError, match="or stream it"):
        speaking.product.options(text=long)
    with pytest.raises(FewstepError, match="unknown characters 'ß'"):
        speaking.stream(text="Grüße. " * 100)


def test_pieces_are_one_wav_file_that_says_the_sentences_in_order(speaking: Run, tmp_path: Path) -> None:
    assert speaking.product.stream is not None
    told: list[str] = []
    file = tmp_path / "long.wav"
    text = "The first sentence. The second one."
    done = save(speaking.product.stream, speaking.stream(text=text), file, told.append)
    assert done.pieces == 2
    assert [line.partition("“")[2] for line in told] == ["The first sentence.”", "The second one.”"]
    wave, rate = soundfile.read(file)
    again = b"".join(piece.content for piece in speaking.stream(text=text))
    assert rate == 22050
    assert len(wave) == (len(again) - 44) // 2
    assert float(abs(wave).max()) > 0
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_seed_streams_the_same_sound(speaking: Run) -> None:
    first, again, other = (
        b"".join(piece.content for piece in speaking.stream(text="One. Two.", seed=seed))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_first_sound_does_not_wait_for_the_rest(speaking: Run) -> None:
    pieces = speaking.stream(text="This is a sentence. " * 2000)
    begun = time.perf_counter()
    heard = list(itertools.islice(pieces, 2))
    assert time.perf_counter() - begun < 10  # all of it takes minutes
    assert heard[0].content[:4] == b"RIFF"
    assert heard[1].content[:4] != b"RIFF"


def test_a_stream_that_breaks_leaves_no_file(speaking: Run, tmp_path: Path) -> None:
    assert speaking.product.stream is not None

    def broken():
        yield next(speaking.stream(text="One."))
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        save(speaking.product.stream, broken(), tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


def test_a_player_understands_a_wav_without_length(tmp_path: Path) -> None:
    wave = torch.sin(torch.arange(2205) / 10)
    content = wav_head(22050, ENDLESS) + pcm(wave)
    file = tmp_path / "a.wav"
    file.write_bytes(content)
    close_wav(file)
    heard, rate = soundfile.read(io.BytesIO(file.read_bytes()), dtype="int16")
    assert (rate, len(heard)) == (22050, 2205)
    assert heard.tobytes() == content[44:]
    assert struct.unpack("<I", file.read_bytes()[4:8])[0] == len(content) - 8


def test_pieces_begin_and_end_in_silence() -> None:
    wave = faded(torch.ones(1000))
    assert wave[0] == wave[-1] == 0
    assert torch.equal(wave[64:-64], torch.ones(872))
    assert faded(torch.ones(3)).isfinite().all()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Dr. Smith's $5.50 — naïve café!", "Dr. Smith's 5 dollars 50 - naive cafe!"),
        ("It cost £1, or €1,200.00…", "It cost 1 pound, or 1,200 euros..."),
        ("Salt & pepper: $3.05, 5% or 5 % off", "Salt and pepper: 3 dollars 5, 5 percent or 5 percent off"),
    ],
)
def test_money_accents_and_signs_of_prose_are_read_in_words(written: str, said: str) -> None:
    assert check_text(written) == said
