"""The laws that core relies on, held against the video plugin: one test per law."""

from __future__ import annotations

from collections.abc import Callable

import pytest

PLUGIN = "video"
pytestmark = pytest.mark.slow  # carries the smoke profile through, one update per stage


def test_conformance(conformance: Callable[[], None]) -> None:
    conformance()
