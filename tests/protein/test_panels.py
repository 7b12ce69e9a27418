"""Panels: inside one page, labeled, and robust to broken samples."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from fewstep.protocol import Drawn, Key, Sampler
from fewstep.samplers import student_sampler
from fewstep_protein.metrics.backbones import backbone_metrics
from fewstep_protein.panels import asides, backbones, maps, molecules, plots, sizes, traces
from fewstep_protein.structures import geometry, segments, sources

NODE = shutil.which("node")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawn]:
    batch = sources.Windows(segments.split(held_out=True), 8, 16, 24).batch(0, Key(0))
    broken = batch.x.clone()
    broken[0] = float("nan")
    curve = {name: Drawn(batch.x, batch, n, 0.1) for n, name in ((1, "student_1"), (8, "student_8"))}
    cold = {"student_rho0.6": Drawn(0.9 * batch.x, batch, 4, 0.1)}
    return {
        "student": Drawn(batch.x, batch, 4, 0.1),
        "teacher": Drawn(broken, batch, 50, 1.0),
        **curve,
        **cold,
    }


@pytest.fixture(scope="module")
def pages(drawn: dict[str, Drawn]) -> dict[str, str]:
    return {panel.title: panel.render(drawn) for panel in backbones.backbone_panels(backbone_metrics())}


class Elements(HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hosts(page: str) -> list[dict[str, str | None]]:
    return [a for _, a in Elements(page).found if "data-chains" in a]


def test_there_is_a_viewer_per_contender_and_one_of_real_chains(pages: Mapping[str, str]) -> None:
    found = hosts(pages["Molecules"])
    assert [a["data-label"] for a in found] == ["student", "teacher", "real chains"]
    shown, kinds = json.loads(str(found[0]["data-chains"])), json.loads(str(found[0]["data-structures"]))
    assert len(shown) == molecules.SHOWN
    assert len(shown[0][0]) == 3
    assert [len(chain) for chain in shown] == [len(letters) for letters in kinds]
    assert set("".join(kinds)) <= set("HEC")


def test_chains_that_are_not_finite_are_left_out(pages: Mapping[str, str]) -> None:
    assert len(json.loads(str(hosts(pages["Molecules"])[1]["data-chains"]))) == molecules.SHOWN - 1


def test_a_contender_without_any_finite_chain_gets_a_sentence() -> None:
    assert "No chain" in molecules.viewer([torch.full((8, 3), float("nan"))], "student")


def test_no_panel_asks_for_anything_outside_the_page(pages: Mapping[str, str]) -> None:
    for page in pages.values():
        assert not re.search(r"https?:|[\"'(]//[a-z]|@import|\bfetch\(|XMLHttpRequest", page)
        sources = [a.get("src") or a.get("href") or "" for _, a in Elements(page).found]
        assert all(not s or s.startswith("data:") for s in sources)


def test_every_picture_says_in_words_what_it_shows(pages: Mapping[str, str]) -> None:
    for page in pages.values():
        assert all(a.get("aria-label") for tag, a in Elements(page).found if tag == "svg")
        assert all(a.get("alt") for tag, a in Elements(page).found if tag == "img")
    assert "helix" in pages["Secondary structure"]
    assert "real chains below" in pages["Contacts"]


def test_panels_render_where_there_is_no_truth(drawn: dict[str, Drawn]) -> None:
    batch = sources.blank(torch.tensor([12, 9]))
    x = sources.pad([segments.structures()[0].coordinates[:n] for n in (12, 9)], 12).x
    alone = {"student": Drawn(x, batch, 4, 0.1)}
    for panel in backbones.backbone_panels():
        assert "student" in panel.render(alone)


def test_a_curve_has_a_point_for_each_number_of_calls_that_was_drawn(
    drawn: dict[str, Drawn], pages: Mapping[str, str]
) -> None:
    assert asides.by_calls(drawn) == {"student": [(1, "student_1"), (4, "student"), (8, "student_8")]}
    page = pages["Quality against network calls"]
    labels = [str(a["aria-label"]) for tag, a in Elements(page).found if tag == "svg"]
    assert len(labels) == 7
    assert all(re.search(r"student: \S+ at 1, \S+ at 4, \S+ at 8", label) for label in labels)


def test_the_contender_itself_stands_at_noise_scale_one(drawn: dict[str, Drawn]) -> None:
    assert asides.by_scale(drawn) == {"student": [(0.6, "student_rho0.6"), (1.0, "student")]}


def test_a_report_without_asides_says_so(drawn: dict[str, Drawn]) -> None:
    few = {"student": drawn["student"]}
    page = backbones.backbone_panels(backbone_metrics())[-1].render(few)
    assert "Nothing was drawn" in page


def test_asides_leave_out_what_a_contender_draws_anyway() -> None:
    found = asides.asides(student_sampler(), student_sampler("teacher"), own=4, teacher_own=16, scales=(0.6,))
    assert list(found) == ["student_1", "student_8", "student_16", "teacher_8", "student_rho0.6"]
    assert all(isinstance(sampler, Sampler) for sampler in found.values())


def test_asides_are_drawn_by_no_other_panel(pages: Mapping[str, str]) -> None:
    for title in ("Molecules", "Secondary structure", "Angles and dihedrals", "Contacts", "Sizes"):
        assert "student_8" not in pages[title]


def test_a_contact_map_holds_the_share_of_chains_that_touch() -> None:
    far = torch.arange(6)[:, None] * torch.tensor([[1.0, 0.0, 0.0]])
    near = far.clone()
    near[5] = near[0] + 0.3
    found = maps.contact_map([far, near], cells=6)
    assert float(found[0, 5]) == float(found[5, 0]) == 0.5
    assert float(found.nan_to_num().sum()) == 1.0
    assert bool(found[0, 2].isnan())


def test_the_law_of_compact_chains_is_drawn_through_its_own_numbers(drawn: dict[str, Drawn]) -> None:
    page = sizes.sizes(drawn)
    (line, *_) = re.findall(r'<polyline class="curve c2" points="([^"]+)"', page)
    first, last = (tuple(map(float, p.split(","))) for p in (line.split()[0], line.split()[-1]))
    assert last[0] > first[0]
    assert last[1] < first[1]  # higher on the picture: larger


def test_values_that_are_not_numbers_are_left_out_of_a_curve() -> None:
    points = [plots.At(1, 0.5, 0.4, 0.6), plots.At(2, float("nan"), float("nan"), float("nan"))]
    assert plots.curves("x", "calls", "x", {"student": points}).count("<circle") == 1
    assert plots.curves("x", "calls", "x", {"student": points[1:]}) == ""


def test_labels_are_escaped() -> None:
    assert "<b>" not in molecules.viewer([torch.zeros(8, 3)], '"><b>')


def test_the_viewer_script_is_small_and_answers_to_keys_fingers_and_mouse() -> None:
    script = molecules.script()
    assert len(script.encode()) <= 10_000
    assert all(
        word in script for word in ("ArrowLeft", "pointerdown", "pointermove", "aria-label", "tabIndex")
    )


@pytest.mark.skipif(not NODE, reason="needs node to read the script")
def test_the_scripts_are_javascript(tmp_path: Path) -> None:
    for place in ("panels/viewer.js", "designs/table.js"):
        path = tmp_path / "x.js"
        path.write_text((files("fewstep_protein") / place).read_text())
        assert subprocess.run([str(NODE), "--check", str(path)], capture_output=True).returncode == 0


def test_a_chain_is_turned_broad_side_on_without_being_mirrored() -> None:
    chain = segments.structures()[0].coordinates[:40]
    turned = traces.broad_side(chain)
    torch.testing.assert_close(geometry.dihedrals(turned), geometry.dihedrals(chain), atol=1e-3, rtol=0)
    width, height, depth = turned.std(0).tolist()
    assert width >= height >= depth


def test_equally_long_chains_are_laid_over_the_first_without_being_mirrored() -> None:
    chain = segments.structures()[0].coordinates[:30]
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
    turn = turn * torch.linalg.det(turn)
    first, second = molecules.laid_over([chain, chain @ turn + 1])
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
    _, mirrored = molecules.laid_over([chain, chain * torch.tensor([1.0, 1.0, -1.0])])
    assert float((mirrored - first).norm(dim=-1).mean()) > 0.1


def test_a_thumbnail_keeps_inside_its_frame_and_colors_helices() -> None:
    chain = segments.structures()[0].coordinates[:30]
    picture = traces.thumbnail(traces.flat_trace(chain), "C" * 10 + "H" * 20, "x")
    points = [
        tuple(map(float, p.split(",")))
        for line in re.findall(r'points="([^"]+)"', picture)
        for p in line.split()
    ]
    assert all(0 <= x <= traces.WIDE and 0 <= y <= traces.HIGH for x, y in points)
    assert 'class="H"' in picture
    assert 'class="C"' in picture
