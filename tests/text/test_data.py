"""Real text and its windows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_text import data
from fewstep_text.tokenizer import ALPHABET, characters


def windows(length: int = 12, size: int = 4) -> data.Windows:
    return data.Windows(torch.arange(500) % 29, length, size)


def test_the_help_topics_of_python_are_english_of_three_hundred_thousand_characters() -> None:
    text = data.clean(data.read("python-topics"))
    assert len(text) > 300_000
    assert set(text) <= set(ALPHABET)
    assert text.count(" the ") > 3_000


def test_clean_text_has_no_space_before_punctuation_and_no_double_space() -> None:
    assert data.clean("A  b\n[1] , c ... D!") == "a b, c. d"


def test_the_parts_of_a_corpus_are_disjoint_and_keep_their_shares() -> None:
    text = "".join(f"{i:06d}" for i in range(20_000))
    training, judging, prompting = data.split(text, block=600)
    pieces = [part[i : i + 600] for part in (training, judging, prompting) for i in range(0, len(part), 600)]
    assert len(pieces) == len(set(pieces)) == 200
    assert [len(part) // 600 for part in (training, judging, prompting)] == [120, 60, 20]


def test_a_text_too_short_to_be_judged_is_refused() -> None:
    with pytest.raises(FewstepError, match="only 100 usable characters"):
        data.split("a" * 100)


def test_a_batch_depends_on_its_number_and_key_alone() -> None:
    source = windows()
    assert torch.equal(source.batch(3, Key(0)).x, source.batch(3, Key(0)).x)
    assert not torch.equal(source.batch(3, Key(0)).x, source.batch(4, Key(0)).x)


def test_two_ranks_together_read_what_one_process_reads() -> None:
    whole = windows(size=4).batch(7, Key(1)).x
    halves = [windows(size=4).batch(7, Key(1, shard=(rank, 2))).x for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)


def test_a_corpus_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(FewstepError, match="less than one window"):
        data.Windows(torch.zeros(5, dtype=torch.int64), 5, 2)


def test_a_continuation_hides_its_block_and_nothing_else() -> None:
    batch = data.Continuations(windows(), block=5, hidden_token=29).batch(0, Key(0))
    prefix = batch.extra["prefix"]
    assert torch.equal(prefix[:, :7], batch.x[:, :7])
    assert bool((prefix[:, 7:] == 29).all())
    assert torch.equal(batch.mask, prefix == 29)


def test_some_batches_teach_how_a_text_begins() -> None:
    source = data.Continuations(windows(), block=5, hidden_token=29, openings=0.5)
    lengths = [source.batch(i, Key(0)).x.shape[1] for i in range(64)]
    assert set(lengths) == {5, 12}
    assert 16 < lengths.count(5) < 48


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    with pytest.raises(FewstepError, match="cannot be shared by 3 processes"):
        windows(size=4).batch(0, Key(0, shard=(0, 3)))


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("My text.", encoding="utf-8")
    assert data.read("file", str(tmp_path / "mine.txt")) == "My text."


@pytest.mark.parametrize(("path", "message"), [(None, "needs data.path"), ("nowhere.txt", "cannot read")])
def test_a_missing_file_is_told(path: str | None, message: str) -> None:
    with pytest.raises(FewstepError, match=message):
        data.read("file", path)


def test_an_absent_bible_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FewstepError, match="apt install bible-kjv"):
        data.read("bible")


def test_the_bible_is_read_where_it_is_installed() -> None:
    if shutil.which("bible") is None:
        pytest.skip("Debian's bible-kjv is not installed")
    assert data.clean(data.read("bible")).startswith("in the beginning god created")


def test_a_stream_decodes_to_the_text() -> None:
    tokenizer = characters()
    assert tokenizer.decode(data.stream("a b.", tokenizer).tolist()) == "a b."
