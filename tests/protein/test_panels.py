"""Panels: inside one page, labeled, and robust to broken samples."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import torch

from fewstep.protocol import Drawn, Key
from fewstep_protein.panels import molecules as panels
from fewstep_protein.structures import geometry, segments, sources


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawn]:
    batch = sources.Windows(segments.split(held_out=True), 8, 16, 24).batch(0, Key(0))
    broken = batch.x.clone()
    broken[0] = float("nan")
    return {"student": Drawn(batch.x, batch, 4, 0.1), "teacher": Drawn(broken, batch, 50, 1.0)}


class Elements(HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_there_is_a_viewer_per_contender_and_one_of_real_chains(drawn: dict[str, Drawn]) -> None:
    hosts = [a for _, a in Elements(panels.molecules(drawn)).found if "data-chains" in a]
    assert [a["data-label"] for a in hosts] == ["student", "teacher", "real chains"]
    shown = json.loads(str(hosts[0]["data-chains"]))
    assert len(shown) == panels.SHOWN
    assert len(shown[0][0]) == 3


def test_chains_that_are_not_finite_are_left_out(drawn: dict[str, Drawn]) -> None:
    hosts = [a for _, a in Elements(panels.molecules(drawn)).found if "data-chains" in a]
    assert len(json.loads(str(hosts[1]["data-chains"]))) == panels.SHOWN - 1


def test_a_contender_without_any_finite_chain_gets_a_sentence() -> None:
    assert "No chain" in panels.viewer([torch.full((8, 3), float("nan"))], "student")


@pytest.mark.parametrize("name", ["molecules", "shapes", "size_table"])
def test_no_panel_asks_for_anything_outside_the_page(name: str, drawn: dict[str, Drawn]) -> None:
    page = getattr(panels, name)(drawn)
    assert not re.search(r"https?:|//[a-z]|@import|\bfetch\(|XMLHttpRequest", page)
    assert not [a for _, a in Elements(page).found if "src" in a or "href" in a]


def test_every_plot_says_in_words_what_it_shows(drawn: dict[str, Drawn]) -> None:
    plots = [a for tag, a in Elements(panels.shapes(drawn)).found if tag == "svg"]
    assert len(plots) == 2
    assert all(a["role"] == "img" and "residue quadruples" in str(a["aria-label"]) for a in plots)


def test_labels_are_escaped() -> None:
    assert "<b>" not in panels.viewer([torch.zeros(8, 3)], '"><b>')


def test_the_viewer_script_is_small_and_answers_to_keys_fingers_and_mouse() -> None:
    script = (files("fewstep_protein") / "panels" / "viewer.js").read_text()
    assert len(script.encode()) <= 10_000
    assert all(
        word in script for word in ("ArrowLeft", "pointerdown", "pointermove", "aria-label", "tabIndex")
    )


def test_a_chain_is_turned_broad_side_on_without_being_mirrored() -> None:
    chain = segments.structures()[0].coordinates[:40]
    turned = panels.broad_side(chain)
    torch.testing.assert_close(geometry.dihedrals(turned), geometry.dihedrals(chain), atol=1e-3, rtol=0)
    width, height, depth = turned.std(0).tolist()
    assert width >= height >= depth
