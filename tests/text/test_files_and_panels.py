"""What is left for people: files and the report's panel."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import torch

from fewstep.protocol import Batch, Drawn, State
from fewstep_text.files import write_texts
from fewstep_text.panels import revealed_at, timeline_panel
from fewstep_text.tokenizer import characters

TOKENIZER = characters("ab<")
TEXTS = torch.tensor([[0, 1, 2], [1, 1, 0]])


def drawn() -> Drawn:
    half = torch.tensor([[0, 3, 2], [1, 3, 3]])
    start = torch.full_like(TEXTS, 3)
    path = tuple(State(x, torch.ones(2)) for x in (start, half, TEXTS))
    return Drawn(TEXTS, Batch(like=TEXTS, x=TEXTS), 2, 0.1, path)


def test_texts_become_lines_and_records(tmp_path: Path) -> None:
    prefix = torch.tensor([[0, 3, 3], [3, 3, 3]])
    plain, records = write_texts(
        TEXTS, Batch(like=TEXTS, extra={"prefix": prefix}), tmp_path, tokenizer=TOKENIZER
    )
    assert plain.read_text(encoding="utf-8") == "ab<\nbba\n"
    lines = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"text": "ab<", "tokens": [0, 1, 2], "prefix": "a"}
    assert lines[1]["prefix"] == ""


def test_each_token_knows_the_step_that_revealed_it() -> None:
    item = drawn()
    steps = revealed_at([state.x for state in item.path[:-1]], item.x, 3)
    assert steps.tolist() == [[1, 2, 1], [1, 2, 2]]


def test_a_given_token_was_revealed_by_no_step() -> None:
    assert revealed_at([torch.tensor([[0, 3]])], torch.tensor([[0, 1]]), 3).tolist() == [[0, 1]]


def test_the_panel_says_when_each_token_appeared() -> None:
    html = timeline_panel(TOKENIZER).render({"student": drawn()})
    assert 'title="step 1 of 2"' in html
    assert 'title="step 2 of 2"' in html
    assert "2 network calls for 2 texts" in html


def test_the_panel_escapes_what_it_shows_and_closes_what_it_opens() -> None:
    html = timeline_panel(TOKENIZER).render({"student": drawn()})
    depth: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            depth.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert depth.pop() == tag

    Balance().feed(html)
    assert not depth
    assert "&lt;" in html
