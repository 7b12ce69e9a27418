"""Charts stay inside their frame, name their points, and never fail on odd numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from fewstep.runs import charts


def test_even_ticks_are_round_and_inside() -> None:
    assert charts.even_ticks(0.13, 1.02) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(("low", "high"), [(1, 50), (0.0003, 0.02), (1, 1.5), (1e-6, 1e6)])
def test_logarithmic_ticks_are_inside_and_neither_few_nor_many(low: float, high: float) -> None:
    ticks = charts.log_ticks(low, high)
    assert 1 <= len(ticks) <= 7
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_points_that_are_not_finite_are_left_out() -> None:
    points = [charts.Point("good", 1, 2, 1, 3), charts.Point("bad", 1, float("nan"), 1, 3)]
    drawn = charts.scatter("t", "calls", "error", points)
    assert "good" in drawn
    assert "bad" not in drawn
    assert charts.scatter("t", "calls", "error", points[1:]) == ""


def test_one_point_alone_can_be_drawn() -> None:
    ElementTree.fromstring(charts.scatter("t", "calls", "error", [charts.Point("one", 1, 0.0, 0.0, 0.0)]))


def test_names_are_escaped_and_the_chart_says_what_it_shows() -> None:
    drawn = charts.scatter("a < b", "calls", "error", [charts.Point("<i>", 1, 2, 1, 3)])
    root = ElementTree.fromstring(drawn)
    assert root.attrib["role"] == "img"
    assert "<i>: calls 1, error 2" in root.attrib["aria-label"]


def test_labels_of_close_points_do_not_cover_each_other() -> None:
    points = [charts.Point(f"p{i}", 1, 1 + 0.001 * i, 1, 2) for i in range(3)]
    drawn = charts.scatter("t", "calls", "error", points)
    heights = [float(y) for y in re.findall(r'class="label" x="[\d.]+" y="([\d.]+)"', drawn)]
    assert min(abs(a - b) for i, a in enumerate(heights) for b in heights[:i]) >= 12


def test_curves_stay_inside_the_frame() -> None:
    drawn = charts.lines("loss", "cycles", "loss", [("student", [(1, 5.0), (50, 0.01), (100, 0.002)])])
    found = re.search(r'points="([^"]+)"', drawn)
    assert found is not None
    for pair in found.group(1).split():
        x, y = map(float, pair.split(","))
        assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM


def test_a_curve_of_one_point_is_no_curve() -> None:
    assert charts.lines("loss", "cycles", "loss", [("student", [(1, 5.0)])]) == ""
